"""A picture that is made larger on its way out of the engine, and pictures that are there."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from backend.__main__ import main
from backend.outputs import read_request
from backend.outputs.png import bits_of, decode_png, encode_png
from backend.production import Production
from backend.production.picture_files import read_picture
from backend.wire import ControlMaps, Enhancement, FailureKind, GenerationRequest, Progress
from tests.backend.enhance_samples import write_compact
from tests.backend.samples import failed, made, pixels, run

REQUEST = GenerationRequest("a red ball", width=64, height=96, steps=1, model="random-weights")
TWICE = replace(REQUEST, enhancement=Enhancement(2.0))
ROOT = Path(__file__).resolve().parent.parent.parent
ENHANCE = GenerationRequest("", width=40, height=30, task="enhance", enhancement=Enhancement(2.0))


@pytest.fixture(scope="module")
def folder(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with a network called tiny-x2."""
    own = Path(shutil.copytree(models_folder, tmp_path_factory.mktemp("enhance") / "models"))
    write_compact(own / "upscalers" / "tiny-x2.pth", scale=2)
    return own


@pytest.fixture(scope="module")
def enhancing(folder: Path) -> Production:
    return Production(folder, "cpu")


def picture(channels: int = 3, dtype: str = "uint8", size: tuple[int, int] = (40, 30)) -> np.ndarray:
    """A ramp with an edge; the last of two or four channels is an alpha of 0 on the left and 1 on the right."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    values = np.stack([x / size[0], y / size[1], (x > y), np.ones_like(x)], 2)[..., : channels if channels > 2 else 1]
    if channels in (2, 4):
        values = np.concatenate([values[..., : channels - 1], (x >= size[0] / 2)[..., None]], 2)
    if dtype == "float32":
        return values.astype(np.float32)
    return (values * np.iinfo(dtype).max).astype(dtype)


def test_a_request_without_enhancement_has_the_digest_that_it_had_before_there_was_any() -> None:
    request = GenerationRequest("a cat", seed=7)
    before = {name: value for name, value in asdict(request).items() if name != "enhancement"}
    text = json.dumps(before, sort_keys=True, separators=(",", ":"))
    assert request.digest() == hashlib.sha256(text.encode()).hexdigest()
    assert replace(request, enhancement=Enhancement(2.0)).digest() != request.digest()


def test_a_painted_picture_comes_out_larger_and_says_so(enhancing: Production, tmp_path: Path) -> None:
    told: list[Progress] = []
    result = made(run(enhancing, TWICE, on_progress=told.append))
    assert pixels(result.png).shape == (192, 128, 3)
    assert result.plan["networks"] == {"upscaler": "tiny-x2"} and result.timings["enhancing"] > 0.0
    stages = [one.stage for one in told]
    assert stages.index("decoding") < stages.index("enhancing") < stages.index("saving")
    assert (told[-2].step, told[-2].steps) == (1, 1) and told[-2].stage == "enhancing"
    fractions = [one.fraction for one in told]
    assert fractions == sorted(fractions) and fractions[-1] < 1.0
    path = result.save(tmp_path / "large.png")
    remembered = read_request(path)
    assert remembered.request == result.request and remembered.request.enhancement == Enhancement(2.0)
    assert set(remembered.digests["networks"]) == {"tiny-x2.pth"}


def test_what_is_painted_is_the_same_with_and_without(enhancing: Production) -> None:
    plain, twice = made(run(enhancing, REQUEST)), made(run(enhancing, TWICE))
    same = ControlMaps(picture=pixels(plain.png))
    again = made(run(enhancing, replace(ENHANCE, width=64, height=96), same))
    assert np.array_equal(pixels(again.png), pixels(twice.png))


def test_sixteen_bits_come_out_of_a_painted_picture(enhancing: Production) -> None:
    result = made(run(enhancing, replace(TWICE, bit_depth=16)))
    deep = decode_png(result.png)
    assert deep.dtype == np.uint16 and deep.shape == (192, 128, 3) and len(np.unique(deep & 0xFF)) > 100


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_channels_and_depth_of_a_picture_stay(enhancing: Production, channels: int, dtype: str) -> None:
    bits = 8 if dtype == "uint8" else 16
    result = made(run(enhancing, replace(ENHANCE, bit_depth=bits), ControlMaps(picture=picture(channels, dtype))))
    larger = decode_png(result.png)
    assert larger.shape == (60, 80, channels) and bits_of(result.png) == bits
    if channels in (2, 4):
        alpha = larger[..., -1]
        assert alpha[:, :36].max() == 0 and alpha[:, 44:].min() == np.iinfo(alpha.dtype).max


def test_nothing_is_made_twice_and_another_network_makes_another(folder: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(folder, tmp_path / "models"))
    production = Production(own, "cpu", cache_folder=tmp_path / "cache")
    for request, maps in ((TWICE, None), (ENHANCE, ControlMaps(picture=picture()))):
        first, second = made(run(production, request, maps)), made(run(production, request, maps))
        assert second.plan.get("from_cache") and second.png == first.png and "from_cache" not in first.plan
        write_compact(own / "upscalers" / "tiny-x2.pth", scale=2, seed=len(request.prompt) + 1)
        third = made(run(production, request, maps))
        assert "from_cache" not in third.plan and third.png != first.png


def test_a_missing_network_is_said_before_anything_is_loaded(models_folder: Path, folder: Path) -> None:
    told: list[Progress] = []
    failure = failed(run(Production(models_folder, "cpu"), TWICE, on_progress=told.append))
    assert failure.kind == FailureKind.MODEL_MISSING and "upscalers" in failure.hint and not told
    named = replace(TWICE, enhancement=Enhancement(2.0, "RealESRGAN_x4plus"))
    failure = failed(run(Production(folder, "cpu"), named))
    assert "RealESRGAN_x4plus" in failure.message and "tiny-x2" in failure.hint


def test_cancelling_stops_between_two_tiles(enhancing: Production) -> None:
    told: list[Progress] = []
    request = replace(ENHANCE, width=600, height=600)
    maps = ControlMaps(picture=picture(size=(600, 600)))
    made(run(enhancing, request, maps, on_progress=told.append))
    tiles = told[-2].steps
    assert tiles >= 4
    told.clear()
    failure = failed(run(enhancing, request, maps, told.append, is_cancelled=lambda: bool(told and told[-1].step == 2)))
    assert failure.kind == FailureKind.CANCELLED and told[-1].step == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"enhancement": None}, "Nothing is to be done"),
        ({"enhancement": Enhancement(1.2)}, "scale"),
        ({"width": 20_000, "height": 20_001}, "too large"),
        ({"width": 16_000, "height": 16_000}, "too large"),
        ({"enhancement": Enhancement(2.0, finish="gloss")}, "finish"),
        ({"enhancement": Enhancement(2.0, data="normal", faces=True)}, "maps"),
        ({"enhancement": Enhancement(2.0, network="../x")}, "name"),
        ({"width": 41}, "expected"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(enhancing: Production, change: dict, words: str) -> None:
    failure = failed(run(enhancing, replace(ENHANCE, **change), ControlMaps(picture=picture())))
    assert failure.kind == FailureKind.BAD_REQUEST and words in failure.message and failure.hint.endswith(".")


@pytest.mark.parametrize("ending", [".png", ".webp", ".jpg", ".exr"])
def test_the_command_enhances_a_file(folder: Path, tmp_path: Path, ending: str) -> None:
    source, out = tmp_path / "a.png", tmp_path / f"b{ending}"
    source.write_bytes(encode_png(picture(4), {}))
    with pytest.raises(SystemExit) as stop:
        main(["enhance", str(source), "--by", "2", "--models", str(folder), "--device", "cpu", "--out", str(out)])
    assert stop.value.code == 0
    found = read_picture(out)
    assert found.shape == (60, 80, 3 if ending == ".jpg" else 4)
    request = read_request(out).request
    assert request.enhancement == Enhancement(2.0) and request.bit_depth == (16 if ending == ".exr" else 8)
    if ending != ".jpg":
        # Where it is transparent an EXR holds no colour.
        png = read_picture(_as_png(source, folder, tmp_path)).astype(np.float32)[:, 44:] / 255.0
        same = found[:, 44:] / (1.0 if ending == ".exr" else 255.0)
        assert np.abs(same - png).max() < 0.003


def test_enhancing_a_picture_loads_nothing_of_the_model(folder: Path, tmp_path: Path) -> None:
    """diffusers and transformers take seconds to import."""
    (tmp_path / "a.png").write_bytes(encode_png(picture(3), {}))
    words = ["enhance", str(tmp_path / "a.png"), "--by", "2", "--models", str(folder), "--device"]
    code = f"""
import sys
from backend.__main__ import main
try:
    main({words!r} + [sys.argv[1]])
except SystemExit as stop:
    assert stop.code == 0, stop.code
loaded = [name for name in ("diffusers", "transformers", "backend.flux.model") if name in sys.modules]
assert not loaded, loaded
"""
    for device in ("cpu", "auto"):
        subprocess.run([sys.executable, "-c", code, device], cwd=ROOT, check=True)


def test_enhancing_learns_how_long_it_takes(folder: Path, tmp_path: Path) -> None:
    told: list[list[Progress]] = []
    for seed in range(2):
        production = Production(folder, "cpu", cache_folder=tmp_path)
        told.append([])
        maps = ControlMaps(picture=picture(size=(40 + seed, 30)))
        made(run(production, replace(ENHANCE, width=40 + seed, seed=seed), maps, on_progress=told[-1].append))
    first, second = told
    assert first[0].seconds_left is None
    assert all(one.seconds_left is not None for one in second), "also in a process that has enhanced none"
    other = replace(ENHANCE, enhancement=Enhancement(1.0, finish="film"))
    told.append([])
    production = Production(folder, "cpu", cache_folder=tmp_path)
    made(run(production, other, ControlMaps(picture=picture()), on_progress=told[-1].append))
    assert told[-1][0].seconds_left is None, "other work, of which nothing is known"


def _as_png(source: Path, folder: Path, tmp_path: Path) -> Path:
    out = tmp_path / "same.png"
    with pytest.raises(SystemExit):
        main(["enhance", str(source), "--by", "2", "--models", str(folder), "--device", "cpu", "--out", str(out)])
    return out
