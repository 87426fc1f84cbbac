"""The model that ships follows geometry and prompt: its figures, on things it was never trained on, with fixed seeds.

Fewer pictures than for the model card (`python -m backend.sample.figures`), the same bounds.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.flux.control_pictures import control_picture
from backend.flux.lora import LoraInput
from backend.flux.model import FluxModel, load_model
from backend.flux.picture_job import ControlInput, PictureJob
from backend.models import ModelFolder, find_loras, find_model
from backend.production import Production, model_files
from backend.sample import NAME, model_folder
from backend.sample.figures import (
    Case,
    Painting,
    colour_figures,
    edge_figures,
    held_out_cases,
    look_for,
    material_figure,
    obedience,
    psnr,
    quantisation_psnr,
    strength_figures,
    vae_psnr,
)
from backend.sample.judge import ColourJudge, colour_judges, load_judge
from backend.sample.style import INK, PAPER
from backend.sample.world.captions import plain_caption
from backend.sample.world.scenes import GROUND, SUBJECT
from backend.wire import ControlMaps, GenerationRequest, LoRA
from backend.wire.model_names import shipped_models
from tests.backend.float_model import write_float_copy

JUDGE = Path(__file__).parent / "material_judge.safetensors"
CAPTURED_LINES = Path(__file__).parent / "captured_lines.npz"
"""The line maps that tools/ten_scenes.py captures in Blender, times 255."""
MEGABYTES = 32


@pytest.fixture(scope="module")
def painting() -> Painting:
    return Painting(Production(shipped_models(), "cpu"))


@cache
def cases() -> list[Case]:
    return held_out_cases(12)


@cache
def judges() -> tuple[ColourJudge, ColourJudge]:
    return colour_judges()


def test_the_model_is_whole_and_small() -> None:
    model = find_model(Path("nowhere"), NAME)
    assert model.path == model_folder() and "simple things" in model.title
    files = [path for path in shipped_models().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MEGABYTES * 1e6
    assert all(path.is_file() for path in model.files())


def test_pictures_survive_the_vae() -> None:
    assert vae_psnr(model_folder(), 8) >= 27.0


def test_a_picture_has_the_edges_of_its_own_map(painting: Painting) -> None:
    found = edge_figures(painting, cases())
    for kind in ("depth", "normal", "line"):
        assert found[kind] >= 0.30, found


def test_line_control_follows_blender_captures(painting: Painting) -> None:
    with np.load(CAPTURED_LINES, allow_pickle=False) as lines:
        maps = [lines[name].astype(np.float32) / 255 for name in sorted(lines)]
    nowhere = np.zeros(maps[0].shape, bool)
    real = [Case(ControlMaps(line=line), nowhere, nowhere, "plain") for line in maps]
    found = edge_figures(painting, real, 2, ("line",))
    assert found["line"] >= 0.30, found


def test_things_and_ground_have_the_colours_that_were_asked_for(painting: Painting) -> None:
    found = colour_figures(painting, cases(), judges(), 24)
    assert found["subject"] >= 0.60, found
    assert found["ground"] >= 0.85, found


def test_things_have_the_material_that_was_asked_for(painting: Painting) -> None:
    assert material_figure(painting, cases(), load_judge(JUDGE), 24) >= 0.40


def test_more_control_is_more_geometry(painting: Painting) -> None:
    recalls = strength_figures(painting, cases()[:3])
    assert (np.diff(recalls) > 0).all(), recalls


def test_more_guidance_is_more_obedience(painting: Painting) -> None:
    margins = obedience(painting, cases()[:8], judges()[0], (1.0, 3.0, 5.0))
    assert (np.diff(margins) > 0).all(), margins


def test_eight_bits_change_the_picture_little(painting: Painting, tmp_path: Path) -> None:
    write_float_copy(model_folder(), tmp_path / "float")
    exact = Painting(Production(tmp_path, "cpu"), "float")
    assert quantisation_psnr(painting, exact, cases()[:6]) >= 35.0


def test_unknown_words_do_no_harm(painting: Painting) -> None:
    case = cases()[0]
    prompt = plain_caption(look_for(case, 0))
    plain = painting(case, prompt, "depth", 1)
    strange = painting(case, f"{prompt}, trending on artstation, octane", "depth", 1)
    other = painting(case, plain_caption(look_for(case, 5)), "depth", 1)
    assert psnr(plain, strange) > psnr(plain, other) + 3.0


@pytest.mark.parametrize(("width", "height"), [(256, 384), (512, 320), (768, 768)])
def test_any_size_is_a_picture(painting: Painting, width: int, height: int) -> None:
    from backend.sample.dataset import make_scene
    from backend.sample.judge import edge_recall
    from backend.sample.world.shapes import HELD_OUT

    scene, _, rendered, _ = make_scene((80_500, width), width, height, HELD_OUT)
    case = Case(rendered.maps, rendered.parts == SUBJECT, rendered.parts == GROUND, scene.background)
    picture = painting(case, plain_caption(look_for(case, 0)), "normal", 1)
    assert picture.shape == (height, width, 3)
    assert edge_recall(picture, case.line) > 0.5


def test_the_style_lora_makes_woodcuts() -> None:
    folder = find_model(Path("nowhere"), NAME)
    with torch.inference_mode():
        engine = load_model(model_files(folder), torch.device("cpu"), torch.float32, lambda: None)
        case = cases()[1]
        plain = paint_with(engine, folder, case)
        (woodcut,) = find_loras([LoRA("woodcut")], Path("nowhere"), NAME)
        engine.use_loras([LoraInput(woodcut.path, 1.0)])
        cut = paint_with(engine, folder, case)
        engine.use_loras([])
        again = paint_with(engine, folder, case)
    assert (plain == again).all()
    assert share_of_ink_and_paper(cut) > 0.6 > 0.3 > share_of_ink_and_paper(plain)


def paint_with(engine: FluxModel, folder: ModelFolder, case: Case) -> np.ndarray:
    """(256, 256, 3) uint8: a red thing on a green floor, by its normals."""
    found = folder.control("normal")
    assert found is not None
    picture = control_picture(case.maps, "normal", found[1].picture)
    control = ControlInput(found[0].folder, found[1].mode, picture, 1.0, 0.0, 1.0)
    prompt = plain_caption(look_for(case, 0, "red", "matte"))
    request = GenerationRequest(prompt, 256, 256, seed=1, steps=12, guidance=3.5, model=NAME)
    job = PictureJob(engine, request, [control])
    job.read_text()
    job.read_control(control)
    job.denoise(lambda step, tokens: None)
    return job.decode()


def share_of_ink_and_paper(picture: np.ndarray) -> float:
    """The share of pixels whose colour lies near the line from ink to paper."""
    ink, paper = np.array(INK), np.array(PAPER)
    values = picture.reshape(-1, 3) / 255.0 - ink
    along = np.clip(values @ (paper - ink) / ((paper - ink) @ (paper - ink)), 0.0, 1.0)
    return float((np.linalg.norm(values - along[:, None] * (paper - ink), axis=1) < 0.12).mean())
