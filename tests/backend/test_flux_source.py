"""Starting from a picture, and keeping what a mask keeps, with every sampler."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.flux.latents import pack
from backend.flux.samplers import SAMPLERS
from backend.flux.source import Source, run_sigmas
from backend.production import Production
from backend.wire import GenerationRequest
from tests.backend.samples import failed, made, make_maps, pixels, run, texts_of

SIGMAS = torch.linspace(1.0, 0.0, 9)
REQUEST = GenerationRequest("a red cube", 64, 64, seed=2, steps=4, model="random-weights")
PICTURE = np.zeros((64, 64, 3), np.uint8)


def tokens(seed: int) -> Tensor:
    return pack(torch.randn(1, 16, 4, 8, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize(
    ("steps", "strength", "runs"), [(10, 1.0, 10), (10, 0.6, 6), (10, 0.25, 3), (10, 0.01, 1), (1, 0.5, 1)]
)
def test_strength_is_the_share_of_the_steps_that_runs(steps: int, strength: float, runs: int) -> None:
    left = run_sigmas(torch.linspace(1.0, 0.0, steps + 1), strength)
    assert len(left) - 1 == runs and left[-1] == 0.0


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_keeps_what_the_mask_keeps(name: str) -> None:
    sampler, source, new = SAMPLERS[name], torch.randn(1, 16, 4, 8), tokens(5)
    mask = torch.zeros(32, 64)
    mask[:, 32:] = 1.0
    start = Source.of(source, mask)
    assert start.mask is not None
    calls = sampler.calls(SIGMAS)

    def model(x: Tensor, call: int) -> Tensor:
        """Straight to another picture."""
        return (x - new) / calls.levels[call]

    kept = start.kept(model, calls.steps, calls.levels)
    done = sampler.run(kept, start.start(tokens(1), 1.0), SIGMAS, lambda step, picture: None, lambda step: tokens(9))
    assert torch.allclose(done, torch.where(start.mask == 1.0, new, pack(source)), atol=1e-4)


def test_a_grey_mask_is_a_strength() -> None:
    """Each value is free in as many of the last steps as it says."""
    mask = torch.linspace(0.0, 1.0, 8).repeat_interleave(8).repeat(32, 1)
    source = Source.of(torch.zeros(1, 16, 4, 8), mask)
    assert source.mask is not None
    free = torch.zeros_like(source.mask)
    for step in range(8):
        velocity = source.kept(lambda x, call: torch.full_like(x, 7.0), range(8), SIGMAS[:-1])(
            torch.zeros_like(source.mask), step
        )
        free += velocity == 7.0
    assert torch.allclose(free / 8, (source.mask * 8 + 1e-3).floor() / 8)
    assert set(free.unique().tolist()) == {0, 1, 2, 3, 4, 5, 6, 8}


def test_in_painting_through_production(production: Production) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    mask = np.zeros((64, 64), np.float32)
    mask[:, 32:] = 1.0
    maps = replace(make_maps(64, 64), image=image, mask=mask)
    request = replace(REQUEST, task="inpaint", strength=0.75)
    steps: list[tuple[int, int]] = []
    result = made(run(production, request, maps, lambda told: steps.append((told.step, told.steps))))
    picture = pixels(result.png)
    assert (picture[:, :32] == image[:, :32]).all() and (picture[:, 32:] != image[:, 32:]).mean() > 0.5
    assert max(steps) == (3, 3), "three of four steps run, and are told"
    assert set(json.loads(texts_of(result.png)["grisaille:digests"])["maps"]) == {"image", "mask"}
    assert made(run(production, request, replace(maps, mask=1.0 - mask))).png != result.png
    changed = made(run(production, replace(request, task="image_to_image"), maps)).png
    assert (pixels(changed)[:, :32] != image[:, :32]).mean() > 0.5


@pytest.mark.parametrize(
    ("task", "arrays", "sentence"),
    [
        ("image_to_image", {}, "lacks a picture to start from"),
        ("inpaint", {"image": PICTURE}, "lacks a mask"),
        ("image_to_image", {"image": np.zeros((64, 32, 3), np.uint8)}, "uint8 (64, 32, 3) where uint8 (64, 64, 3)"),
        ("image_to_image", {"image": np.zeros((64, 64, 3), np.float32)}, "float32 (64, 64, 3) where uint8"),
        ("inpaint", {"image": PICTURE, "mask": np.full((64, 64), 1.5, np.float32)}, "outside 0 to 1"),
        ("inpaint", {"image": PICTURE, "mask": np.full((64, 64), np.nan, np.float32)}, "outside 0 to 1"),
    ],
)
def test_what_is_wrong_is_said(models_folder: Path, task: str, arrays: dict[str, np.ndarray], sentence: str) -> None:
    maps = replace(make_maps(64, 64), **arrays)
    failure = failed(run(Production(models_folder, "cpu"), replace(REQUEST, task=task), maps))
    assert failure.kind == "bad_request" and sentence in failure.message and failure.hint
