"""Upscaling: every number format and factor, tiled as if it were not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

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


@pytest.mark.parametrize("tile", [64, 70, 96, 128, 400])
def test_tiled_is_as_untiled(net: Network, tile: int) -> None:
    picture = painted(150, 201)
    found = upscale(picture.astype(np.float32) / 255.0, 4, net, tile=tile)
    assert found.shape == (600, 804, 3)
    assert np.abs(found - bare(net, picture)).max() < 1e-5


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
