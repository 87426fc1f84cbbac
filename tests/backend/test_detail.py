"""Detail that the model paints into enlarged pictures: where the geometry is, without seams, and no more than asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backend.__main__ import main
from backend.enhance.progressive import Box
from backend.flux.latents import noise_at
from backend.flux.picture_job import PictureJob
from backend.outputs import read_request
from backend.planning import Work, detail_side
from backend.production import Production
from backend.production.window import Window
from backend.sample import NAME
from backend.sample.figures import held_out_cases, look_for
from backend.sample.judge import edge_recall
from backend.sample.world.captions import plain_caption
from backend.wire import Control, ControlMaps, Enhancement, FailureKind, GenerationRequest, Progress
from tests.backend.enhance_samples import painted, write_compact
from tests.backend.samples import failed, made, make_maps, pixels, run

REQUEST = GenerationRequest("a red ball", width=128, height=96, steps=4, model="random-weights")
DETAIL = replace(REQUEST, enhancement=Enhancement(2.0, detail=0.5))
ENHANCE = replace(DETAIL, width=70, height=50, task="enhance", model="random-weights")


@pytest.fixture(scope="module")
def folder(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with a network that repeats pixels, so that what is not repeated was painted."""
    own = tmp_path_factory.mktemp("detail") / "models"
    own.mkdir()
    (own / "random-weights").symlink_to(models_folder / "random-weights", target_is_directory=True)
    write_compact(own / "upscalers" / "repeats-x2.safetensors", is_plain=True, scale=2)
    return own


@pytest.fixture(scope="module")
def engine(folder: Path) -> Production:
    return Production(folder, "cpu")


def plain(request: GenerationRequest) -> GenerationRequest:
    """The same without detail."""
    assert request.enhancement is not None
    return replace(request, enhancement=replace(request.enhancement, detail=0.0))


def test_no_detail_is_the_request_that_it_was_before_there_was_any() -> None:
    request = plain(DETAIL)
    assert "detail" not in request.to_json()["enhancement"] and request.digest() != DETAIL.digest()
    for one in (request, DETAIL):
        assert GenerationRequest.from_json(one.to_json()) == one


def test_detail_is_painted_into_the_larger_picture_and_says_so(engine: Production, tmp_path: Path) -> None:
    told: list[Progress] = []
    result = made(run(engine, DETAIL, on_progress=told.append))
    found, before = pixels(result.png).astype(int), pixels(made(run(engine, plain(DETAIL))).png).astype(int)
    assert found.shape == before.shape == (192, 256, 3)
    assert np.abs(found - before).mean() > 1.0
    steps = [(one.step, one.steps) for one in told if one.stage == "enhancing"]
    assert steps[-1] == (100, 100) and steps == sorted(steps)
    fractions = [one.fraction for one in told]
    assert fractions == sorted(fractions) and fractions[-1] < 1.0
    path = result.save(tmp_path / "fine.png")
    assert read_request(path).request.enhancement == DETAIL.enhancement


def test_the_same_picture_gives_the_same_bytes(folder: Path, engine: Production) -> None:
    assert made(run(Production(folder, "cpu"), DETAIL)).png == made(run(engine, DETAIL)).png


def test_sixteen_bits_stay_sixteen(engine: Production) -> None:
    from backend.outputs.png import decode_png

    deep = decode_png(made(run(engine, replace(DETAIL, bit_depth=16))).png)
    assert deep.dtype == np.uint16 and len(np.unique(deep & 0xFF)) > 100


def test_what_the_mask_keeps_no_detail_touches(engine: Production) -> None:
    height, width = REQUEST.height, REQUEST.width
    mask = np.zeros((height, width), np.float32)
    mask[:, width // 2 :] = 1.0
    maps = replace(make_maps(width, height), image=painted(height, width), mask=mask)
    request = replace(DETAIL, task="inpaint", strength=0.6)
    found, before = (pixels(made(run(engine, one, maps)).png) for one in (request, plain(request)))
    assert np.array_equal(found[:, : width - 4], before[:, : width - 4])
    assert np.abs(found[:, width + 4 :].astype(int) - before[:, width + 4 :]).mean() > 1.0


def test_a_picture_that_is_there_gets_detail_with_its_alpha_left(engine: Production) -> None:
    alpha = np.linspace(0, 255, 50 * 70).astype(np.uint8).reshape(50, 70, 1)
    picture = np.concatenate([painted(50, 70), alpha], axis=2)
    result = made(run(engine, ENHANCE, ControlMaps(picture=picture)))
    before = pixels(made(run(engine, plain(ENHANCE), ControlMaps(picture=picture))).png).astype(int)
    found = pixels(result.png).astype(int)
    assert np.array_equal(found[..., 3], before[..., 3]) and np.abs(found - before)[..., :3].mean() > 1.0
    assert result.plan["model"] == "random-weights" and result.plan["prompt"]


def test_the_time_that_detail_takes_is_learned(folder: Path, tmp_path: Path) -> None:
    told: list[list[Progress]] = []
    for seed in range(2):
        told.append([])
        made(run(Production(folder, "cpu", cache_folder=tmp_path), replace(DETAIL, seed=seed), None, told[-1].append))
        fractions = [one.fraction for one in told[-1]]
        assert fractions == sorted(fractions) and fractions[-1] < 1.0
    assert told[0][0].seconds_left is None and all(one.seconds_left is not None for one in told[1])
    took = [made(run(Production(folder, "cpu", cache_folder=tmp_path), one)) for one in (plain(DETAIL), plain(DETAIL))]
    assert took[1].plan["from_cache"], "what was learned of one is not taken for the other"


def test_at_its_own_size_only_detail_is_painted(engine: Production) -> None:
    request = replace(ENHANCE, enhancement=Enhancement(1.0, detail=0.3))
    result = made(run(engine, request, ControlMaps(picture=painted(50, 70))))
    assert pixels(result.png).shape == (50, 70, 3) and "networks" not in result.plan


def test_a_texture_that_tiles_goes_on_tiling(engine: Production) -> None:
    """The step over the border is like steps elsewhere; painted as a picture with borders it is not."""

    def over_border(is_tileable: bool) -> float:
        y, x = np.mgrid[0:96, 0:96] / 96.0 * 2.0 * np.pi
        waves = np.stack([np.sin(x), np.cos(y + 1.0), np.sin(x + y)], axis=2)
        request = replace(ENHANCE, width=96, height=96, enhancement=Enhancement(2.0, detail=0.5, tileable=is_tileable))
        maps = ControlMaps(picture=np.rint(127.5 + 90.0 * waves).astype(np.uint8))
        found = pixels(made(run(engine, request, maps)).png).astype(float)
        inside = np.abs(np.diff(found, axis=1)).mean((0, 2))
        return np.abs(found[:, 0] - found[:, -1]).mean() / inside[1::2].mean()

    # In a picture of twos (pixels are repeated) every second step is one between pixels.
    assert over_border(True) < 1.6
    assert over_border(False) > over_border(True)


def test_cancelling_stops_within_a_tile(engine: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = PictureJob.denoise

    def denoise(self: PictureJob, on_step: Callable[[int, torch.Tensor], None]) -> None:
        def step(index: int, tokens: torch.Tensor) -> None:
            if self.request.task == "image_to_image":
                asked.append(index)
            on_step(index, tokens)

        real(self, step)

    monkeypatch.setattr(PictureJob, "denoise", denoise)
    request = replace(DETAIL, steps=10)
    made(run(engine, request))
    assert asked == [0, 1, 2, 3, 4]
    asked.clear()
    failure = failed(run(engine, request, is_cancelled=lambda: len(asked) == 2))
    assert failure.kind == FailureKind.CANCELLED and asked == [0, 1]
    made(run(engine, request))


def test_memory_that_runs_out_in_a_tile_takes_the_plan_down_a_rung(
    engine: Production, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = PictureJob.decode, []

    def decode(self: PictureJob) -> np.ndarray:
        if self.origin is not None:
            calls.append(self.model.places.placement)
            if len(calls) == 1:
                raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(self)

    monkeypatch.setattr(PictureJob, "decode", decode)
    request = replace(DETAIL, width=320, height=320, seed=5)
    result = made(run(engine, request))
    assert len(calls) == 5 and calls[1:] == [calls[1]] * 4 and calls[0] != calls[1]
    assert "Memory ran out while the picture was decoded" in result.plan["note"]
    assert result.plan["placement"]["vae_tile"] == calls[1].vae_tile > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"enhancement": Enhancement(2.0, detail=0.7)}, "detail is 0.7"),
        ({"enhancement": Enhancement(2.0, detail=-0.1)}, "detail is -0.1"),
        ({"enhancement": Enhancement(2.0, detail=0.3, data="normal")}, "not for maps"),
        ({"prompt": " "}, "Detail is painted from words"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(engine: Production, change: dict, words: str) -> None:
    failure = failed(run(engine, replace(ENHANCE, **change), ControlMaps(picture=painted(50, 70))))
    assert failure.kind == FailureKind.BAD_REQUEST and words in failure.message and failure.hint.endswith(".")


def test_a_model_that_starts_from_no_picture_paints_no_detail(families_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "kontext-dev").symlink_to(families_folder / "random-kontext-dev", target_is_directory=True)
    write_compact(tmp_path / "upscalers" / "tiny-x2.safetensors", scale=2)
    request = replace(DETAIL, model="kontext-dev")
    failure = failed(run(Production(tmp_path, "cpu"), request))
    assert failure.kind == FailureKind.MODEL_UNSUPPORTED and "cannot paint detail" in failure.message


def test_a_window_shows_the_place_of_its_tile() -> None:
    whole = painted(96, 128)
    assert np.array_equal(Window(Box(16, 32, 80, 96, 96, 128), 64, 64).cut(whole), whole[16:80, 32:96])
    over = Window(Box(-16, 100, 48, 164, 96, 128), 64, 64, is_ring=True).cut(whole)
    rows, columns = np.arange(-16, 48) % 96, np.arange(100, 164) % 128
    assert np.array_equal(over, whole[np.ix_(rows, columns)])
    beyond = Window(Box(64, 96, 96, 128, 96, 128), 48, 64).cut(whole)
    assert np.array_equal(beyond[:32, :32], whole[64:, 96:]) and (beyond[34:, 34:] == whole[-1, -1]).all()
    # From a picture of half the size, it is what the whole made larger shows there.
    half = np.asarray(Image.fromarray(whole).resize((64, 48), Image.Resampling.BOX))
    large = np.asarray(Image.fromarray(half).resize((128, 96), Image.Resampling.BICUBIC)).astype(int)
    part = Window(Box(16, 32, 80, 96, 96, 128), 64, 64).cut(half)
    assert np.abs(part - large[16:80, 32:96]).max() <= 1
    mask = np.zeros((48, 64), np.float32)
    mask[:, 40:] = 1.0
    free = Window(Box(16, 32, 80, 96, 96, 128), 64, 64).cut_mask(mask)
    assert (free[:, :46] == 0.0).all() and (free[:, 50:] == 1.0).all()


def test_neighbours_have_the_same_noise_where_they_overlap() -> None:
    whole = noise_at(7, 16, 90, 80, (-8, 24))
    part = noise_at(7, 16, 40, 30, (10, 50))
    assert torch.equal(whole[:, :, 18:58, 26:56], part)
    assert not torch.equal(noise_at(7, 16, 40, 30, (10, 50), 1), part)
    assert abs(float(whole.mean())) < 0.02 and abs(float(whole.std()) - 1.0) < 0.02


def test_a_tile_is_no_larger_than_memory_was_planned_for(folder: Path) -> None:
    from backend.enhance.progressive import OVERLAP, ring_axis, tile_side
    from backend.models import find_model

    model = find_model(folder, "random-weights")
    for width, height in ((1024, 1024), (512, 1280), (2048, 2048), (256, 256)):
        request = replace(DETAIL, width=width, height=height)
        work = Work.of(request, model, [])
        assert work.reads_picture
        for length in (600, 1024, 2048, 2050, 7000):
            ring = ring_axis(length, detail_side(request), OVERLAP)
            sides = [tile_side(length, detail_side(request), OVERLAP), *(one.stop - one.start for one in ring)]
            assert max(sides) ** 2 <= work.pixels


def test_the_command_paints_detail_into_a_file(folder: Path, tmp_path: Path) -> None:
    source, out, lines = tmp_path / "a.png", tmp_path / "b.png", tmp_path / "lines.png"
    Image.fromarray(painted(50, 70)).save(source)
    Image.fromarray(painted(50, 70)[..., 0]).save(lines)
    command = ["enhance", str(source), "--by", "2", "--detail", "0.4", "--models", str(folder), "--device", "cpu"]
    with pytest.raises(SystemExit) as stop:
        main([*command, "--out", str(out)])
    assert stop.value.code == 2, "there is no prompt"
    with pytest.raises(SystemExit) as stop:
        main([*command, "--out", str(out), "--prompt", "a wall", "--model", "random-weights", "--line", str(lines)])
    assert stop.value.code == 0
    request = read_request(out).request
    assert request.enhancement == Enhancement(2.0, detail=0.4) and request.controls == (Control("line"),)
    assert pixels(out.read_bytes()).shape == (100, 140, 3)


@pytest.fixture(scope="module")
def sample(folder: Path) -> Production:
    return Production(folder, "cpu")


def sample_request(index: int, size: int = 256) -> tuple[GenerationRequest, ControlMaps]:
    """A picture that the sample model paints under depth and lines, of a thing that it was never trained on."""
    case = held_out_cases(index + 1, size)[index]
    controls = (Control("depth", 1.0), Control("line", 1.0))
    request = GenerationRequest(
        plain_caption(look_for(case, index)), size, size, seed=3, steps=12, model=NAME, controls=controls
    )
    return request, case.maps


def test_detail_follows_the_geometry(sample: Production) -> None:
    """More of the map's lines have an edge near them, as near as in the small picture: two pixels of the large one."""
    recalls: dict[str, list[float]] = {"none": [], "controlled": [], "free": []}
    for index in range(3):
        request, maps = sample_request(index)
        assert maps.line is not None
        line = np.asarray(Image.fromarray(maps.line).resize((512, 512), Image.Resampling.BICUBIC)) > 0.5
        picture = pixels(made(run(sample, request, maps)).png)
        detail = Enhancement(2.0, detail=0.3)
        there = replace(request, task="enhance", enhancement=detail)
        for name, one in (("none", plain(there)), ("controlled", there), ("free", replace(there, controls=()))):
            large = pixels(made(run(sample, one, replace(maps, picture=picture))).png)
            recalls[name].append(edge_recall(large, line))
    means = {name: float(np.mean(values)) for name, values in recalls.items()}
    assert means["controlled"] > means["none"] + 0.02, means
    assert means["controlled"] > means["free"] + 0.02, means


def test_no_border_of_a_tile_shows_in_a_picture(sample: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the same picture in one tile, steps where four tiles are blended are as large as elsewhere."""
    request, maps = sample_request(1)
    picture = pixels(made(run(sample, request, maps)).png)
    there = replace(request, task="enhance", enhancement=Enhancement(2.0, detail=0.4))
    found = {}
    for side in (288, 512):
        monkeypatch.setattr("backend.production.enhancing.detail_side", lambda request, side=side: side)
        found[side] = pixels(made(run(sample, there, replace(maps, picture=picture))).png).astype(float)
    assert not np.array_equal(*found.values())
    for axis in (0, 1):
        tiled, whole = (np.abs(np.diff(found[side], axis=axis)).mean((1 - axis, 2)) for side in found)
        more = tiled / whole
        blended, elsewhere = more[256 - 33 : 256 + 33], np.concatenate([more[16 : 256 - 64], more[256 + 64 : -16]])
        assert 0.75 < blended.mean() / elsewhere.mean() < 1.05, (axis, blended.mean(), elsewhere.mean())
        # Cut hard, without blending, it is 1.5 to 2.4.
        assert blended.max() < 1.35, (axis, blended.max())
