"""Upscaling: every number format and factor, tiled as if it were not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from backend.enhance.networks import Network
from backend.enhance.upscale import upscale
from backend.wire import FailureError, FailureKind
from tests.backend.enhance_samples import painted, small_network


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return small_network(tmp_path_factory.mktemp("net"))


def bare(net: Network, picture: np.ndarray) -> np.ndarray:
    """What the network alone makes of the whole picture: (h, w, 3) float32, 0..1."""
    image = torch.from_numpy(picture.astype(np.float32) / 255.0).permute(2, 0, 1)[None]
    return net(image)[0].permute(1, 2, 0).numpy()


def made_small(picture: np.ndarray, factor: int) -> np.ndarray:
    """(h, w, c) -> the means over factor x factor pixels."""
    height, width, channels = picture.shape
    return picture.reshape(height // factor, factor, width // factor, factor, channels).mean((1, 3))


@pytest.mark.parametrize("tile", [64, 70, 96, 128, 400])
def test_tiled_is_as_untiled(net: Network, tile: int) -> None:
    picture = painted(150, 201)
    found = upscale(picture.astype(np.float32) / 255.0, 4, net, fidelity=0.0, tile=tile)
    assert found.shape == (600, 804, 3)
    assert np.abs(found - bare(net, picture)).max() < 1e-5


def test_made_small_again_it_is_the_picture_as_far_as_fidelity_says(net: Network) -> None:
    """The network's weights are random, so that what it makes has other colours."""
    picture = painted(60, 80).astype(np.float32) / 255.0 * 0.5 + 0.25
    off = [
        float(np.abs(made_small(upscale(picture, 4, net, fidelity=fidelity, tile=64), 4) - picture).mean())
        for fidelity in (0.0, 0.5, 1.0)
    ]
    assert off[0] > 0.01 and off[1] < 0.6 * off[0] and off[2] < 0.05 * off[0], off


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_number_format_and_channels_are_kept(net: Network, dtype: Any, channels: int | None) -> None:
    most = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    shape = (30, 41) if channels is None else (30, 41, channels)
    picture = (np.random.default_rng(0).uniform(0.0, 1.0, shape) * most).astype(dtype)
    found = upscale(picture, 4, net, tile=64)
    assert found.dtype == dtype and found.shape == (120, 164, *shape[2:])


@pytest.mark.parametrize("factor", [1.5, 2.0, 2.7, 4.0, 5.0, 6.3, 8.0])
@pytest.mark.parametrize("scale", [2, 4])
def test_every_factor_leaves_things_where_they_were(tmp_path: Path, factor: float, scale: int) -> None:
    """Two slopes, by a network that adds nothing: no part of a pixel's shift, in any number of runs and tiles."""
    y, x = np.mgrid[0:83, 0:90].astype(np.float32) + 0.5
    picture = np.stack([x / 90, y / 83, np.full_like(x, 0.5)], axis=2)
    found = upscale(picture, factor, small_network(tmp_path, scale=scale, is_plain=True), tile=64)
    height, width = round(83 * factor), round(90 * factor)
    assert found.shape == (height, width, 3)
    wanted_x, wanted_y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    inner = slice(int(4 * factor), int(-4 * factor))
    off_x = (found[inner, inner, 0] - wanted_x[None, inner]) * 90
    off_y = (found[inner, inner, 1] - wanted_y[inner, None]) * 83
    assert abs(off_x.mean()) < 0.02 and abs(off_y.mean()) < 0.02
    assert max(np.abs(off_x).max(), np.abs(off_y).max()) < 0.6
    assert np.abs(found[..., 2] - 0.5).max() < 1e-5


def test_cancelling_and_progress(net: Network) -> None:
    told: list[tuple[int, int]] = []
    upscale(painted(100, 100), 8, net, tile=64, progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == list(range(1, told[-1][1] + 1)) and len(told) > 10

    def stop() -> None:
        if len(told) > 2:
            raise FailureError.of(FailureKind.CANCELLED, "The picture was cancelled.", "Start it again.")

    told.clear()
    with pytest.raises(FailureError):
        upscale(painted(100, 100), 8, net, tile=64, progress=lambda *one: told.append(one), check=stop)
    assert len(told) == 3


def test_same_picture_in_same_bytes_out(net: Network) -> None:
    picture = painted(90, 100)
    first, second = (upscale(picture, 3, net, tile=64).tobytes() for _ in range(2))
    assert first == second


def test_no_border_shows_at_any_tile_size_where_it_would_without_overlap(net: Network) -> None:
    """The step across where tiles meet, against the steps beside it, in what tiling alone changed."""
    picture = np.clip(painted(192, 192).astype(np.float32) / 255.0, 0.0, 1.0)
    whole = upscale(picture, 4, net, tile=192)
    for tile in (64, 72, 80, 96, 128):
        assert np.abs(upscale(picture, 4, net, tile=tile) - whole).max() < 1e-5
    assert np.abs(upscale(picture, 4, net, tile=64, overlap=0) - whole).max() > 1e-3


def test_a_texture_that_tiles_still_does(net: Network) -> None:
    """Rolled by whole pixels it is the same texture, and so is what comes of it."""
    texture = painted(48, 56).astype(np.float32) / 255.0
    found = upscale(texture, 4, net, tile=64, tileable=True)
    rolled = upscale(np.roll(texture, (17, 20), (0, 1)), 4, net, tile=64, tileable=True)
    assert np.abs(np.roll(found, (68, 80), (0, 1)) - rolled).max() < 1e-5
    plain = upscale(np.roll(texture, (17, 20), (0, 1)), 4, net, tile=64)
    assert np.abs(np.roll(found, (68, 80), (0, 1)) - plain).max() > 1e-3


@pytest.mark.parametrize("factor", [1.5, 3.0, 8.0])
def test_a_tileable_texture_by_every_way_of_resampling(net: Network, factor: float) -> None:
    texture = painted(48, 64).astype(np.float32) / 255.0
    found = upscale(texture, factor, net, tile=64, tileable=True)
    rolled = upscale(np.roll(texture, (16, 32), (0, 1)), factor, net, tile=64, tileable=True)
    assert np.abs(np.roll(found, (int(16 * factor), int(32 * factor)), (0, 1)) - rolled).max() < 1e-5


def disc(side: int, radius: float) -> np.ndarray:
    """(side, side) float32, 1 within the circle, its edge a pixel wide."""
    y, x = np.mgrid[0:side, 0:side] + 0.5 - side / 2
    return np.clip(radius - np.hypot(x, y) + 0.5, 0.0, 1.0).astype(np.float32)


@pytest.mark.parametrize("is_plain", [True, False])
@pytest.mark.parametrize("hidden", [(0, 255, 0), (0, 0, 0)])
def test_nothing_bleeds_out_of_what_is_transparent(tmp_path: Path, hidden: tuple[int, ...], is_plain: bool) -> None:
    """A red disc on something that cannot be seen: whatever that is, the picture is the same where it can be seen."""
    net = small_network(tmp_path, is_plain=is_plain)
    alpha = disc(64, 20.0)
    picture = np.empty((64, 64, 4), np.uint8)
    picture[..., :3] = np.where(alpha[..., None] > 0, (200, 20, 30), hidden)
    picture[..., 3] = np.rint(alpha * 255)
    found = upscale(picture, 4, net, tile=64)
    everywhere_red = picture.copy()
    everywhere_red[..., :3] = (200, 20, 30)
    wanted = upscale(everywhere_red, 4, net, tile=64)
    seen = found[..., 3] > 0
    assert (found[..., 3] == wanted[..., 3]).all()
    assert np.abs(found[seen].astype(int) - wanted[seen]).max() <= 1
    # What was fully there or not at all, with all around it, stays so exactly.
    inside, outside = disc(256, 70.0) == 1.0, disc(256, 90.0) == 0.0
    assert (found[inside, 3] == 255).all() and (found[outside, 3] == 0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("factor", [2.0, 4.0, 6.0])
def test_normals_stay_unit_long(net: Network, dtype: Any, factor: float) -> None:
    y, x = (np.mgrid[0:70, 0:80] / 40.0 - 1.0).astype(np.float32)
    bumps = np.stack([0.6 * np.sin(3 * x), 0.6 * np.cos(4 * y), np.ones_like(x)], axis=2)
    bumps /= np.linalg.norm(bumps, axis=2, keepdims=True)
    bumps[:20, :20] = 0.0
    most = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    picture = (bumps * 0.5 + 0.5) * most
    picture = picture.astype(dtype) if dtype == np.float32 else np.rint(picture).astype(dtype)
    found = upscale(picture, factor, net, kind="normal", tile=64).astype(np.float64) / most * 2.0 - 1.0
    length = np.linalg.norm(found, axis=2)
    step = 2.0 if dtype == np.uint8 else 0.01
    is_unit, is_none = np.abs(length - 1.0) < step / 127.0, length < step / 100.0
    assert (is_unit | is_none).all() and is_none.any()
    colour = upscale(picture, factor, net, tile=64).astype(np.float64) / most * 2.0 - 1.0
    assert np.abs(np.linalg.norm(colour, axis=2)[100:, 100:] - 1.0).max() > 3.0 / 127.0


def test_channels_of_data_do_not_mix(net: Network) -> None:
    picture = painted(40, 40)
    changed = picture.copy()
    changed[..., 0] = 7
    first, second = (upscale(one, 4, net, kind="data") for one in (picture, changed))
    assert (first[..., 1:] == second[..., 1:]).all()
    assert (upscale(picture, 4, net)[..., 1:] != upscale(changed, 4, net)[..., 1:]).any()


def test_light_beyond_white_is_kept(net: Network) -> None:
    picture = painted(40, 40).astype(np.float32) / 255.0
    bright = picture.copy()
    bright[10:30, 10:30] = 8.0
    found = upscale(bright, 4, net)
    assert np.abs(found[64:96, 64:96] - 8.0).max() < 0.2
    assert np.abs(found[:20] - upscale(np.minimum(bright, 1.0), 4, net)[:20]).max() < 1e-6


def test_without_a_network_it_is_pillows_lanczos() -> None:
    plane = painted(60, 50)[..., 0].astype(np.float32) / 255.0
    for factor in (1.5, 2.5, 4.0):
        size = round(50 * factor), round(60 * factor)
        wanted = np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.LANCZOS))
        found = upscale(plane, factor, None, tile=64)
        assert np.abs(found - np.clip(wanted, 0.0, 1.0)).max() < 1e-4


def test_a_tile_that_does_not_fit_is_halved(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[int] = []

    def crowded(self: Network, image: torch.Tensor) -> torch.Tensor:
        sides.append(max(image.shape[2:]))
        if sides[-1] > 100:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, image)

    original = Network.__call__
    monkeypatch.setattr(Network, "__call__", crowded)
    assert upscale(painted(200, 200), 4, net, tile=256).shape == (800, 800, 3)
    assert sides[:2] == [200, 128] and max(sides[2:]) == 64
    monkeypatch.setattr(Network, "__call__", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("out of memory")))
    with pytest.raises(FailureError) as caught:
        upscale(painted(20, 20), 4, net)
    assert caught.value.failure.kind == FailureKind.OUT_OF_MEMORY


def test_a_network_for_faces_or_for_no_size_is_refused(tmp_path: Path, net: Network) -> None:
    restorer = small_network(tmp_path, scale=1)
    assert restorer.purpose == "restore"
    assert upscale(painted(40, 40), 1.0, restorer).shape == (40, 40, 3)
    with pytest.raises(FailureError) as caught:
        upscale(painted(40, 40), 2.0, restorer)
    assert caught.value.failure.kind == FailureKind.BAD_REQUEST
    with pytest.raises(FailureError, match="makes pictures larger"):
        upscale(painted(40, 40), 1.0, net)
    face = copy.copy(net)
    face.purpose = "face"
    with pytest.raises(FailureError) as caught:
        upscale(painted(40, 40), 2.0, face)
    assert caught.value.failure.kind == FailureKind.MODEL_UNSUPPORTED
