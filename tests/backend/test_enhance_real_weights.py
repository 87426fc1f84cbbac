"""Real-ESRGAN's real weights through our path, on renders of ten Blender scenes (`tools/ten_scene_renders.py`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import piq
import pytest
import torch
from PIL import Image

from backend.enhance.networks import Network, load_network
from backend.enhance.tiles import plan_axis
from backend.enhance.upscale import OVERLAP, OVERLAPS, upscale
from tests.enhance_weights import FILES, ncnn_network, write_network

RENDERS = Path(__file__).parent / "ten_scene_renders"
COMPACT, PHOTO, ANIME = "realesr-animevideov3", "RealESRGAN_x4plus", "RealESRGAN_x4plus_anime_6B"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def network(folder: Path) -> Callable[[str], Network]:
    """A network by its authors' name, read once."""
    there: dict[str, Network] = {}

    def get(name: str) -> Network:
        if name not in there:
            there[name] = load_network(write_network(name, folder))
        return there[name]

    return get


def renders() -> dict[str, np.ndarray]:
    """name -> (192, 192, 3) uint8"""
    found = {path.stem: np.asarray(Image.open(path).convert("RGB")) for path in sorted(RENDERS.glob("*.webp"))}
    assert len(found) == 10
    return found


def as_picture(image: np.ndarray) -> torch.Tensor:
    """(h, w, 3) uint8 -> (1, 3, h, w) float32, 0..1"""
    return torch.from_numpy(image.astype(np.float32) / 255.0).permute(2, 0, 1)[None]


def psnr(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(piq.psnr(as_picture(found), as_picture(wanted)))


def perceived(found: np.ndarray, wanted: np.ndarray) -> tuple[float, float, float]:
    """What people see of a likeness, more being better. LPIPS itself needs weights that no package carries.

    HaarPSI (Reisenhofer et al. 2018), gradient magnitude similarity's deviation (Xue et al. 2014), FSIM (Zhang et al.
    2011).
    """
    both = as_picture(found), as_picture(wanted)
    return float(piq.haarpsi(*both)), -float(piq.gmsd(*both)), float(piq.fsim(*both))


@pytest.mark.parametrize("name", FILES)
def test_the_weights_make_the_network_they_are_named_for(network: Callable[[str], Network], name: str) -> None:
    """Beside the program that they were packed for, run by its own engine on the same picture."""
    net = network(name)
    assert (net.scale, net.purpose, net.channels) == (4, "upscale", 3)
    picture = renders()["suzanne"][64:112, 64:120]
    with torch.inference_mode():
        ours = net(as_picture(picture))[0].numpy()
    assert np.abs(ours - ncnn_network(name)(as_picture(picture)[0].numpy())).max() < 1e-3


def gains(net: Network, fidelity: float = 1.0) -> dict[str, tuple[float, list[float]]]:
    """Of each scene, made small by 4 and large again: dB gained over bicubic, and likeness as perceived."""
    found = {}
    for name, render in renders().items():
        small = Image.fromarray(render).resize((48, 48), Image.Resampling.BOX)
        bicubic = np.asarray(small.resize((192, 192), Image.Resampling.BICUBIC))
        ours = upscale(np.asarray(small), 4, net, fidelity=fidelity)
        seen = [one - other for one, other in zip(perceived(ours, render), perceived(bicubic, render), strict=True)]
        found[name] = psnr(ours, render) - psnr(bicubic, render), seen
    return found


def test_it_gains_over_bicubic_on_every_scene_in_every_measure(network: Callable[[str], Network]) -> None:
    found = gains(network(COMPACT))
    assert all(decibels > 0.1 and min(seen) > 0.0 for decibels, seen in found.values()), found
    assert np.mean([decibels for decibels, _ in found.values()]) > 1.0, found


def test_what_the_network_alone_makes_is_further_from_the_render(network: Callable[[str], Network]) -> None:
    """Without keeping to the picture: colours drift, and it loses to bicubic."""
    assert all(decibels < 0.0 for decibels, _ in gains(network(COMPACT), fidelity=0.0).values())


def test_the_network_for_photographs_looks_better_on_every_scene(network: Callable[[str], Network]) -> None:
    """It paints what may be there, which the mean square error does not thank it for: near bicubic's, not above it."""
    found = gains(network(PHOTO))
    assert all(min(seen) > 0.0 for _, seen in found.values()), found
    assert np.mean([decibels for decibels, _ in found.values()]) > -0.5, found


def untiled(net: Network, picture: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return net(torch.from_numpy(picture).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()


def step_at_borders(change: np.ndarray, tile: int, overlap: int, length: int) -> float:
    """How much more what tiling changed jumps where tiles meet than elsewhere (mean of absolute differences)."""
    jumps = np.abs(np.diff(change, axis=1)).mean((0, 2))
    seams = [one.out_stop - one.tail // 2 - 1 for one in plan_axis(length, length * 4, tile, overlap)[:-1]]
    return float(jumps[seams].max() - np.delete(jumps, seams).mean())


def strip(length: int) -> np.ndarray:
    """(32, length, 3) float32, 0..1, of several renders"""
    rows = np.concatenate([render[80:112] for render in renders().values()], 1)
    return rows[:, :length].astype(np.float32) / 255.0


@pytest.mark.parametrize("tile", [96, 104, 112, 120, 128])
def test_tiled_is_as_untiled_and_shows_no_border(network: Callable[[str], Network], tile: int) -> None:
    net, picture = network(COMPACT), renders()["cup"][48:144].astype(np.float32) / 255.0
    change = upscale(picture, 4, net, fidelity=0.0, tile=tile) - untiled(net, picture)
    assert np.abs(change).max() < 1e-3
    assert step_at_borders(change, tile, OVERLAPS[net.architecture], 192) < 1e-4


@pytest.mark.parametrize(("name", "tile"), [(ANIME, 288), (ANIME, 312), (PHOTO, 288), (PHOTO, 304), (PHOTO, 320)])
def test_large_networks_too(network: Callable[[str], Network], name: str, tile: int) -> None:
    """Two tiles with no more of an overlap than is planned."""
    net, length = network(name), 2 * tile - OVERLAP
    picture = strip(length)
    change = upscale(picture, 4, net, fidelity=0.0, tile=tile) - untiled(net, picture)
    assert np.abs(change).max() < 1e-3
    assert step_at_borders(change, tile, OVERLAP, length) < 1e-4


def test_without_overlap_a_border_would_show(network: Callable[[str], Network]) -> None:
    net, picture = network(COMPACT), renders()["cup"][48:144].astype(np.float32) / 255.0
    change = upscale(picture, 4, net, fidelity=0.0, tile=96, overlap=0) - untiled(net, picture)
    assert np.abs(change).max() > 1e-2
    assert step_at_borders(change, 96, 0, 192) > 1e-3


def test_kept_to_the_picture_it_shows_no_border_either(network: Callable[[str], Network]) -> None:
    net, picture = network(COMPACT), renders()["cup"][48:144].astype(np.float32) / 255.0
    change = upscale(picture, 4, net, tile=96) - upscale(picture, 4, net, tile=192)
    assert np.abs(change).max() < 1e-3
