"""Finishing: nothing that is not asked for, and what is asked for without seams, halos or tints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backend.enhance import finishing
from backend.enhance.finishing import finish
from backend.prompts.styles import WORDS
from backend.wire.finishes import BY_STYLE, FINISHES, OF_STYLES, Finish, finish_of
from tests.backend.enhance_samples import painted

OFF = Finish("", "")
PICTURE = painted(700, 300)


def luma(picture: np.ndarray) -> np.ndarray:
    return picture[..., :3].astype(np.float64) @ finishing.LUMA / np.iinfo(picture.dtype).max


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_what_a_finish_does_not_ask_for_is_not_done(dtype: type, channels: int) -> None:
    picture = np.repeat(PICTURE[..., :1], channels, 2).astype(dtype)
    assert finish(picture, OFF, reference=PICTURE) is picture
    assert np.array_equal(finish(picture, replace(OFF, balance=1.0)), picture), "no reference, no balance"
    done = finish(picture, FINISHES["film"])
    assert done.dtype == dtype and done.shape == picture.shape and not np.array_equal(done, picture)
    if channels in (2, 4):
        assert np.array_equal(done[..., -1], picture[..., -1]), "alpha stays"


@pytest.mark.parametrize("name", FINISHES)
def test_the_same_picture_and_seed_give_the_same_bytes(name: str) -> None:
    reference = painted(60, 80, seed=5)[..., ::-1].copy()
    first, again = (finish(PICTURE, FINISHES[name], reference=reference, seed=3) for _ in range(2))
    assert np.array_equal(first, again)
    other = finish(PICTURE, FINISHES[name], reference=reference, seed=4)
    assert np.array_equal(first, other) == (FINISHES[name].grain == 0.0), "only grain depends on the seed"


@pytest.mark.parametrize("part", ["sharpen", "local_contrast", "balance"])
def test_strips_leave_no_trace(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = replace(OFF, **{part: 0.8}, sharpen_radius=8.0)
    reference = painted(60, 80, seed=5)[..., ::-1].copy()
    whole = finish(PICTURE, asked, reference=reference)
    monkeypatch.setattr(finishing, "STRIP", 64)
    assert np.abs(finish(PICTURE, asked, reference=reference).astype(int) - whole).max() <= 1


def test_sharpening_steepens_an_edge_and_gives_it_no_halo() -> None:
    edge = np.zeros((64, 1000, 3), np.uint8)
    edge[...] = np.interp(np.arange(1000), [497, 503], [60, 190]).round()[None, :, None]
    done = finish(edge, replace(OFF, sharpen=2.0, sharpen_radius=40.0))
    before, after = (np.abs(np.diff(luma(one)[32])).max() for one in (edge, done))
    assert after > 1.15 * before
    assert np.abs(luma(done) - luma(edge)).max() <= finishing.OVERSHOOT + 0.01
    assert np.array_equal(done[:, :400], edge[:, :400])


def test_local_contrast_leaves_black_and_white_alone() -> None:
    ramp = np.linspace(0, 255, 400).round().astype(np.uint8)
    picture = np.repeat(np.tile(ramp, (200, 1))[..., None], 3, 2)
    picture[80:120] = 255 - picture[80:120]
    done = finish(picture, replace(OFF, local_contrast=1.0))
    assert (done[picture == 0] == 0).all() and (done[picture == 255] == 255).all()
    assert np.std(luma(done)[60:140, 120:160]) > 1.1 * np.std(luma(picture)[60:140, 120:160])


def test_balance_goes_towards_the_reference_and_keeps_brightness() -> None:
    rng = np.random.default_rng(0)
    picture = (rng.normal([120, 120, 120], 12, (80, 90, 3))).clip(0, 255).astype(np.uint8)
    warm = (rng.normal([190, 120, 60], 12, (50, 40, 3))).clip(0, 255).astype(np.uint8)
    distances = []
    for share in (0.0, 0.5, 1.0):
        done = finish(picture, replace(OFF, balance=share), reference=warm)
        assert abs(luma(done).mean() - luma(picture).mean()) < 0.01
        colour, wanted = (one.reshape(-1, 3).mean(0) - luma(one).mean() * 255 for one in (done, warm))
        distances.append(np.abs(colour - wanted).max())
    assert distances[0] > 60 and distances[1] == pytest.approx(distances[0] / 2, rel=0.1) and distances[2] < 3
    black_and_white = np.zeros((40, 40, 3), np.uint8)
    black_and_white[:20] = 255
    done = finish(black_and_white, replace(OFF, balance=1.0), reference=warm)
    assert np.array_equal(done, black_and_white), "no tint"


def test_grain_has_its_strength_in_the_midtones_and_repeats_nowhere() -> None:
    grey = np.full((1100, 256, 3), 32768, np.uint16)
    done = luma(finish(grey, replace(OFF, grain=0.03, grain_size=1.0), seed=1)) - 0.5
    assert done.std() == pytest.approx(0.03, rel=0.05) and abs(done.mean()) < 0.002
    assert np.abs(np.corrcoef(done[:500].ravel(), done[512:1012].ravel())[0, 1]) < 0.02, "strips differ"
    rows = done.std(1)
    assert 0.7 < rows[505:520].mean() / rows.mean() < 1.3, "and meet without a line"
    for value in (0, 65535):
        flat = np.full((32, 32, 3), value, np.uint16)
        assert np.array_equal(finish(flat, replace(OFF, grain=0.1)), flat)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 3000, 3), (3000, 1, 1)])
def test_odd_pictures(shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    for look in FINISHES.values():
        assert finish(picture, look, reference=PICTURE).shape == shape


def test_cancelling_ends_it_between_strips() -> None:
    asked: list[int] = []

    def check() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finish(PICTURE, FINISHES["film"], check=check)


def test_styles_ask_for_finishes_that_there_are() -> None:
    assert set(OF_STYLES) <= set(WORDS) and set(OF_STYLES.values()) <= set(FINISHES)
    assert finish_of(BY_STYLE, "noir") is FINISHES["film"] and finish_of("ink", "noir") is FINISHES["ink"]
    for flat in ("", "pixel_art", "toon", "anime", "watercolour"):
        assert finish_of(BY_STYLE, flat) is None, "these want nothing"
    ranges = {"sharpen": 2, "local_contrast": 1, "balance": 1, "grain": 0.1}
    for look in FINISHES.values():
        assert all(0 <= getattr(look, name) <= most for name, most in ranges.items())
