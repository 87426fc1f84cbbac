"""Pictures as files: what each format holds, and that it makes the same picture again."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from backend import Control, FailureError, GenerationRequest, create_production_pipeline, read_maps, read_request
from backend.models import ModelFolder
from backend.outputs import PaintedResult, save_picture
from backend.outputs.colour import display_of, linear_of, to_8_bits, to_float
from backend.outputs.exr import encode_exr, read_exr
from backend.outputs.metadata import texts_of_png
from backend.outputs.parameters import parameters_text
from backend.outputs.png import bits_of, decode_png, encode_png
from backend.pipeline import ProductionPipeline
from backend.wire import ControlMaps, GenerationResult, Stage
from tests.backend.samples import make_maps

REQUEST = GenerationRequest(
    "a red cube: été, 猫",
    96,
    64,
    seed=5,
    steps=2,
    model="random-weights",
    controls=(Control("depth"), Control("line", 0.5, 0.0, 0.5)),
    negative_prompt="fog, rain",
    true_cfg=2.0,
)
ENDINGS = (".png", ".webp", ".jpg", ".jpeg", ".exr")


@pytest.fixture(scope="module")
def pipeline(models_folder: Path) -> ProductionPipeline:
    return create_production_pipeline("random-weights", models_folder, "cpu")


@pytest.fixture(scope="module")
def painted(pipeline: ProductionPipeline) -> PaintedResult:
    return pipeline.generate(replace(REQUEST, bit_depth=16), make_maps(96, 64))


def values(path: Path) -> np.ndarray:
    """(height, width, 3) display values, 0..1."""
    if path.suffix == ".exr":
        channels = read_exr(path)[0]
        return display_of(np.stack([channels[name] for name in "RGB"], axis=2))
    return to_float(np.array(Image.open(path).convert("RGB")))


@pytest.mark.parametrize(
    ("ending", "furthest", "on_average"),
    [(".png", 0.004, 0.002), (".webp", 0.002, 0.002), (".jpg", 0.2, 0.02), (".JPEG", 0.2, 0.02), (".exr", 1e-6, 1e-6)],
)
def test_every_format_holds_the_picture_and_its_request(
    painted: PaintedResult, tmp_path: Path, ending: str, furthest: float, on_average: float
) -> None:
    path = painted.save(tmp_path / f"picture{ending}")
    off = np.abs(values(path) - to_float(decode_png(painted.png)))
    assert off.max() <= furthest and off.mean() <= on_average
    request, digests, plan = read_request(path)
    assert request == painted.request and digests["request"] == request.digest()
    assert set(digests["maps"]) == {"depth", "line"} and plan == painted.plan
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(("grisaille-maps", path.name))


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_read_back_makes_the_same_pixels(
    painted: PaintedResult, models_folder: Path, tmp_path: Path, ending: str
) -> None:
    path = painted.save(tmp_path / f"picture{ending}")
    again = create_production_pipeline("", models_folder, "cpu")
    result = again.generate(read_request(path).request, read_maps(path))
    assert result.png == painted.png


def test_what_other_programs_read_of_a_picture(painted: PaintedResult, tmp_path: Path) -> None:
    with Image.open(painted.save(tmp_path / "a.png")) as image:
        text = image.info["parameters"]
    lines = text.splitlines()
    assert lines[:2] == [REQUEST.prompt, f"Negative prompt: {REQUEST.negative_prompt}"] and len(lines) == 3
    pairs = dict(re.findall(r'(\w[\w ]*): ("(?:\\.|[^"\\])*"|[^,]*)(?:, |$)', lines[2]))
    assert {name: pairs[name] for name in ("Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size")} == {
        "Steps": "2", "Sampler": "Euler", "Schedule type": "Simple", "CFG scale": "2", "Seed": "5", "Size": "96x64",
    }  # fmt: skip
    assert (pairs["Model"], pairs["Distilled CFG Scale"]) == ("random-weights", "3.5")
    assert pairs["ControlNet 1"] == '"Module: line, Weight: 0.5, Guidance Start: 0, Guidance End: 0.5"'
    digest = read_request(tmp_path / "a.png").digests["weights"]["transformer.gguf"]
    assert digest.startswith(pairs["Model hash"]) and len(pairs["Model hash"]) == 10
    for ending in (".jpg", ".webp"):
        with Image.open(painted.save(tmp_path / f"a{ending}")) as image:
            comment = image.getexif().get_ifd(0x8769)[0x9286]
        assert comment.startswith(b"UNICODE\0") and comment[8:].decode("utf-16-be") == text
    assert read_exr(painted.save(tmp_path / "a.exr"))[1]["parameters"] == text


def test_a_picture_from_another_says_how_far_it_went() -> None:
    request = replace(REQUEST, task="image_to_image", strength=0.6, negative_prompt="", true_cfg=1.0)
    text = parameters_text(request, {}, "", "Grisaille 1")
    assert "Denoising strength: 0.6" in text and "Negative" not in text and "Model hash" not in text


def test_sixteen_bits_are_real_and_eight_are_what_they_were(
    pipeline: ProductionPipeline, painted: PaintedResult
) -> None:
    deep = decode_png(painted.png)
    assert bits_of(painted.png) == 16 and deep.dtype == np.uint16 and deep.shape == (64, 96, 3)
    assert len(np.unique(deep % 257)) > 100, "more than 8 bits scaled up"
    eight = pipeline.generate(REQUEST, make_maps(96, 64)).png
    assert bits_of(eight) == 8
    assert np.abs(decode_png(eight) / 255.0 - deep / 65535.0).max() < 0.501 / 255.0 + 1e-5


def test_sixteen_bits_are_real_where_the_model_computes_in_fewer(folder: ModelFolder) -> None:
    from backend.flux.device import choose_device, without_gradients
    from backend.flux.model import load_model
    from backend.flux.picture_job import PictureJob
    from backend.production import model_files

    request = replace(REQUEST, controls=(), negative_prompt="", true_cfg=1.0, bit_depth=16)
    with without_gradients():
        model = load_model(model_files(folder), choose_device("cpu")[0], torch.bfloat16, lambda: None)
        job = PictureJob(model, request, [])
        job.read_text()
        job.denoise(lambda step, tokens: None)
        deep = job.decode()
        job.request = replace(request, bit_depth=8)
        shallow = job.decode()
    assert len(np.unique(deep)) > 2000, "bfloat16 has 256 values from a half to one"
    assert np.abs(deep / 65535.0 - shallow / 255.0).max() < 0.05
    assert {parameter.dtype for parameter in model.vae.parameters()} == {torch.bfloat16}


def test_sixteen_bits_of_stages_and_of_what_a_mask_keeps(pipeline: ProductionPipeline) -> None:
    maps = make_maps(96, 64)
    mask = np.zeros((64, 96), np.float32)
    mask[:, 48:] = 1.0
    request = replace(REQUEST, task="inpaint", bit_depth=16, controls=(), stages=(Stage(0.5, steps=2), Stage(steps=2)))
    result = pipeline.generate(request, ControlMaps(image=maps.colour, mask=mask))
    deep = decode_png(result.png)
    assert maps.colour is not None and np.array_equal(deep[:, :48], maps.colour[:, :48].astype(np.uint16) * 257)
    assert len(np.unique(deep[:, 48:] % 257)) > 100


def test_an_independent_reader_agrees_about_sixteen_bits(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (33, 21, 3), np.uint16)
    png = encode_png(pixels, {"parameters": "é"})
    # Pillow keeps the upper half of each number; Blender reads the whole of it, in tests/end_to_end.
    assert np.array_equal(np.array(Image.open(io.BytesIO(png))), pixels >> 8)
    assert np.array_equal(decode_png(png), pixels) and texts_of_png(png) == {"parameters": "é"}
    with pytest.raises(ValueError, match="damaged"):
        decode_png(png[:-40])


def test_between_light_and_display() -> None:
    display = np.linspace(0.0, 1.0, 65536, dtype=np.float32)
    linear = linear_of(display)
    assert (np.diff(linear) > 0).all() and np.abs(display_of(linear) - display).max() < 1e-6
    assert abs(linear_of(np.array([0.5], np.float32))[0] - 0.21404) < 1e-5, "as IEC 61966-2-1 has it"
    assert to_8_bits(np.array([0, 128, 129, 65535], np.uint16)).tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("shape", [(1, 1), (16, 7), (33, 20)])
@pytest.mark.parametrize("kind", ["noise", "flat"])
def test_exr_holds_exactly_what_was_written(tmp_path: Path, shape: tuple[int, int], kind: str) -> None:
    noise = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    channels = {"Z": noise if kind == "noise" else np.full(shape, np.float32(np.inf)), "A": noise * 0}
    (tmp_path / "a.exr").write_bytes(encode_exr(channels, {"note": "é"}))
    read, texts = read_exr(tmp_path / "a.exr")
    assert texts == {"note": "é"} and sorted(read) == ["A", "Z"]
    assert all(np.array_equal(read[name], channels[name]) for name in channels)


def refused(path: Path) -> str:
    with pytest.raises(FailureError) as caught:
        read_request(path)
    assert caught.value.failure.kind == "bad_request" and caught.value.failure.hint.endswith(".")
    return caught.value.failure.message


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_truncated_picture_gets_a_sentence(painted: PaintedResult, tmp_path: Path, ending: str) -> None:
    path = painted.save(tmp_path / f"picture{ending}")
    whole = path.read_bytes()
    for share in (0.02, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert refused(path) == f"The picture {path.name} cannot be read to its end."
    path.write_bytes(b"")
    assert "cannot be read" in refused(path)
    path.unlink()
    assert refused(path) == f"There is no picture {path.name}."


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
def test_a_picture_of_another_program_gets_a_sentence(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"photo{ending}"
    Image.new("RGB", (8, 8)).save(path)
    assert refused(path) == f"{path.name} does not say how it was made."


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"grisaille:request": "{"}, "is damaged"),
        ({"grisaille:request": "[]"}, "is damaged"),
        ({"grisaille:request": '{"prompt": "x"}', "grisaille:digests": '{"maps": {"depth": 3}}'}, "is damaged"),
        ({"grisaille:request": '{"prompt": "x"}', "grisaille:digests": '{"maps": []}'}, "is damaged"),
        ({"grisaille:request": '{"prompt": "x", "aura": 1}'}, "another version of Grisaille: unknown field"),
        ({"grisaille:request": '{"prompt": "x", "sampler": "later"}'}, "no sampler called 'later'"),
    ],
)
def test_what_cannot_be_read_back_is_said(tmp_path: Path, texts: dict[str, str], said: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8), texts))
    assert said in refused(path)


def test_other_endings_and_prompts_too_long_for_a_jpeg_are_refused(tmp_path: Path) -> None:
    def png(request: GenerationRequest) -> bytes:
        from backend.production.provenance import provenance

        return encode_png(np.zeros((8, 8, 3), np.uint8), provenance(request, {}, {}))

    with pytest.raises(FailureError, match=r"saved as 'a.bmp'.*\.png"):
        save_picture(png(REQUEST), tmp_path / "a.bmp")
    with pytest.raises(FailureError, match=r"saved as 'a.jpg' here"):
        GenerationResult(REQUEST, png(REQUEST)).save(tmp_path / "a.jpg")
    characters = np.random.default_rng(0).integers(0x10000, 0x1FFFF, 10_000)
    long = replace(REQUEST, prompt="".join(map(chr, characters)))
    with pytest.raises(FailureError, match="too long for what a JPEG can remember"):
        save_picture(png(long), tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())
    for ending in (".webp", ".png", ".exr"):
        assert read_request(save_picture(png(long), tmp_path / f"a{ending}")).request == long


def test_a_failed_save_leaves_what_was_there(painted: PaintedResult, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.mkdir()
    with pytest.raises(OSError, match=r"a\.png"):
        painted.save(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_shown_picture_is_a_whole_png(painted: PaintedResult, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    path = painted.show()
    assert opened == [path.as_uri()] and path.read_bytes() == painted.png
    assert Image.open(io.BytesIO(painted.png)).size == (96, 64)
    path.unlink()
