"""Enlarging by doublings with detail in between: where it is painted, and that no tile of it shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backend.enhance.progressive import Box, progressive, with_detail
from backend.enhance.upscale import upscale
from tests.backend.enhance_samples import painted, small_network


def test_detail_comes_between_two_doublings(tmp_path: Path) -> None:
    net, seen = small_network(tmp_path, scale=2), []

    def detail(tile: np.ndarray, box: Box) -> np.ndarray:
        seen.append((tile.shape, box))
        return 1.0 - tile

    picture, told = painted(60, 70), []
    found = progressive(picture, 4, net, detail, side=64, overlap=16, progress=lambda *one: told.append(one))
    between = 255 - upscale(picture, 2, net)
    assert np.abs(found.astype(int) - upscale(between, 2, net)).max() <= 2
    assert {(box.height, box.width) for _, box in seen} == {(120, 140)}
    assert all(shape == (box.bottom - box.top, box.right - box.left, 3) for shape, box in seen)
    assert told[-1][0] == told[-1][1] and [one[0] for one in told] == sorted(one[0] for one in told)


@pytest.mark.parametrize(
    ("factor", "size"), [(1.5, (46, 62)), (2.9, (90, 119)), (3.0, (93, 123)), (4.7, (146, 193)), (8.0, (248, 328))]
)
def test_every_factor_has_its_size_and_its_detail(tmp_path: Path, factor: float, size: tuple[int, int]) -> None:
    calls: list[Box] = []

    def detail(tile: np.ndarray, box: Box) -> np.ndarray:
        calls.append(box)
        return tile

    found = progressive(painted(31, 41), factor, small_network(tmp_path, scale=2), detail, side=512)
    assert found.shape[:2] == size
    assert len(calls) == (2 if factor == 8.0 else 1)


def test_no_border_of_a_tile_shows_where_tiles_differ() -> None:
    """Each tile comes out a little brighter or darker than the next, as painted ones do."""
    flat, count = np.full((200, 200, 3), 0.5, np.float32), iter(range(100))
    found = with_detail(flat, lambda tile, box: tile + 0.05 * (next(count) % 2), side=80, overlap=32)
    assert np.ptp(found) > 0.04
    assert max(np.abs(np.diff(found, axis=0)).max(), np.abs(np.diff(found, axis=1)).max()) < 0.012


def test_transparency_and_number_format_pass_by() -> None:
    picture = np.dstack([painted(50, 60), np.arange(3000, dtype=np.uint8).reshape(50, 60)])
    found = with_detail(picture, lambda tile, box: np.zeros_like(tile), side=32, overlap=8)
    assert found.dtype == np.uint8 and (found[..., 3] == picture[..., 3]).all() and (found[..., :3] == 0).all()
    assert with_detail(picture[..., 0], lambda tile, box: tile, side=32, overlap=8).shape == (50, 60)


def test_a_tileable_texture_sees_round_its_borders() -> None:
    boxes: list[Box] = []
    picture = painted(48, 48)

    def detail(tile: np.ndarray, box: Box) -> np.ndarray:
        boxes.append(box)
        rows, columns = range(box.top, box.bottom), range(box.left, box.right)
        there = picture.take(rows, 0, mode="wrap").take(columns, 1, mode="wrap")
        assert np.abs(tile * 255 - there).max() < 0.01
        return tile

    assert (with_detail(picture, detail, tileable=True, side=32, overlap=16) == picture).all()
    assert min(box.top for box in boxes) < 0 and max(box.right for box in boxes) > 48
