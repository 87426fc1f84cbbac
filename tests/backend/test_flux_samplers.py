"""Samplers on problems with a known solution: each at its order; schedules against diffusers'."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from backend.flux.samplers import SAMPLERS, log_ratio
from backend.flux.schedules import SCHEDULES, Shift, beta_quantiles, simple
from backend.production import Production
from backend.wire import Control, GenerationRequest
from backend.wire.request import SAMPLERS as NAMES
from backend.wire.request import SCHEDULES as SCHEDULE_NAMES
from tests.backend.samples import made, run

SPREAD, MIDDLE = 0.6, 1.5
"""The pictures of the known problem: independent Gaussians with this spread around this middle."""


def exact_velocity(x: Tensor, level: float) -> Tensor:
    """Of Gaussian pictures the best guess of the picture is linear, so the velocity is known without a net."""
    clean = 1.0 - level
    variance = (clean * SPREAD) ** 2 + level**2
    offset = x - clean * MIDDLE
    picture = MIDDLE + clean * SPREAD**2 / variance * offset
    noise = level / variance * offset
    return noise - picture


def spread_at(level: float) -> float:
    """Of the latents of such pictures."""
    return math.hypot((1.0 - level) * SPREAD, level)


def error_of(name: str, sigmas: Tensor) -> float:
    """How far from the exact end of the flow a sampler ends; sigmas: float64 noise levels."""
    sampler = SAMPLERS[name]
    levels = sampler.calls(sigmas).levels.tolist()
    first, last = float(sigmas[0]), float(sigmas[-1])
    offset = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(1, 9, 1)
    start = (1.0 - first) * MIDDLE + spread_at(first) * offset

    def model(x: Tensor, call: int) -> Tensor:
        # The samplers compute in float32, of which this is to see nothing.
        return Exact(exact_velocity(x, levels[call]))

    end = sampler.run(model, start, sigmas, lambda step, picture: None, lambda step: torch.zeros_like(start))
    return float((end - (1.0 - last) * MIDDLE - spread_at(last) * offset).abs().max())


def even_levels(steps: int) -> Tensor:
    """From pure noise to none."""
    return torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)


def even_log_ratios(steps: int) -> Tensor:
    """From a level of 0.95 to 0.05, evenly spaced in what DPM-Solver and UniPC count in."""
    return 1.0 / (1.0 + torch.linspace(log_ratio(0.95), log_ratio(0.05), steps + 1, dtype=torch.float64).exp())


class Exact(Tensor):
    """float64 that stays float64."""

    def float(self, *_: Any, **__: Any) -> Tensor:
        return self.as_subclass(Tensor)


@pytest.mark.parametrize(
    ("name", "order", "spacing"),
    [
        ("euler", 1, even_levels),
        ("heun", 2, even_levels),
        ("dpmpp_2m", 2, even_log_ratios),
        ("unipc", 3, even_log_ratios),
    ],
)
def test_each_converges_at_its_order(name: str, order: int, spacing: Callable[[int], Tensor]) -> None:
    errors = [error_of(name, spacing(steps)) for steps in (64, 128, 256)]
    measured = [math.log2(a / b) for a, b in pairwise(errors)]
    assert measured == pytest.approx([order, order], abs=0.15), (errors, measured)


@pytest.mark.parametrize("name", ["dpmpp_2m", "unipc"])
def test_the_better_samplers_are_better_from_noise_to_none(name: str) -> None:
    for steps in (12, 28):
        assert error_of(name, even_levels(steps)) < 0.25 * error_of("euler", even_levels(steps))


@pytest.mark.parametrize("budget", [8, 12, 20, 40])
def test_the_adaptive_sampler_keeps_its_budget_and_uses_it_well(budget: int) -> None:
    calls, told = counted_adaptive(even_levels(budget), exact_velocity)
    assert len(calls) <= budget and told == sorted(set(told)) and told[-1] == len(calls) - 1 < budget
    assert error_of("adaptive", even_levels(budget)) < 0.7 * error_of("euler", even_levels(budget))


def test_the_adaptive_sampler_spends_calls_where_the_way_bends() -> None:
    straight, _ = counted_adaptive(even_levels(40), lambda x, level: torch.ones_like(x))
    assert len(straight) <= 14
    # A bend of the velocity at one level: the steps around it are the shortest.
    levels, _ = counted_adaptive(even_levels(40), lambda x, level: torch.full_like(x, math.tanh((level - 0.4) * 60)))
    widths = {(a + b) / 2: a - b for a, b in pairwise(sorted(set(levels), reverse=True))}
    assert abs(min(widths, key=widths.__getitem__) - 0.4) < 0.1
    assert min(widths.values()) < 0.25 * max(widths.values())


@pytest.mark.parametrize("budget", [1, 2, 3])
def test_a_small_budget_is_enough(budget: int) -> None:
    calls, _ = counted_adaptive(even_levels(budget), exact_velocity)
    assert 1 <= len(calls) <= budget


def counted_adaptive(sigmas: Tensor, velocity: Callable[[Tensor, float], Tensor]) -> tuple[list[float], list[int]]:
    """The levels that were called, and the steps that were told."""
    levels = SAMPLERS["adaptive"].calls(sigmas).levels.tolist()
    called: list[float] = []
    told: list[int] = []

    def model(x: Tensor, call: int) -> Tensor:
        called.append(levels[call])
        return Exact(velocity(x, levels[call]))

    start = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(1, 9, 1)
    SAMPLERS["adaptive"].run(model, start, sigmas, lambda step, seen: told.append(step), lambda step: start)
    return called, told


def test_a_known_picture_is_reached_by_all() -> None:
    """Where the net always sees the same picture, that is where every sampler ends."""
    picture = torch.full((1, 4, 2), 0.7)
    sigmas = simple(6, 256, Shift())
    for name, sampler in SAMPLERS.items():
        levels = sampler.calls(sigmas).levels.tolist()
        chance = torch.Generator().manual_seed(1)
        start = torch.randn((1, 4, 2), generator=chance)
        end = sampler.run(
            lambda x, call, levels=levels: (x - picture) / levels[call],
            start,
            sigmas,
            lambda step, seen: torch.testing.assert_close(seen, picture),
            lambda step, chance=chance: torch.randn((1, 4, 2), generator=chance),
        )
        torch.testing.assert_close(end, picture, msg=name)


@pytest.mark.parametrize("name", ["lcm", "euler_ancestral"])
def test_noise_that_is_added_keeps_the_level(name: str) -> None:
    """At each step the latents of Gaussian pictures have the spread that the level says: what was taken is renewed."""
    sigmas = simple(8, 256, Shift())
    levels = SAMPLERS[name].calls(sigmas).levels.tolist()
    chance = torch.Generator().manual_seed(3)
    shape = (1, 200_000, 1)
    spreads = []

    def model(x: Tensor, call: int) -> Tensor:
        # A net that knows each picture exactly, so that only the sampler's own noise is in question.
        spreads.append(float((x - (1 - levels[call]) * MIDDLE).std()))
        return (x - MIDDLE) / levels[call]

    start = torch.randn(shape, generator=chance)
    SAMPLERS[name].run(model, start, sigmas, lambda step, seen: None, lambda step: torch.randn(shape, generator=chance))
    assert spreads == pytest.approx(levels, rel=0.01)


def test_the_log_ratio_has_ends() -> None:
    assert log_ratio(1.0) == -math.inf and log_ratio(0.0) == math.inf and log_ratio(0.5) == 0.0


@pytest.mark.parametrize("steps", [2, 8, 28])
@pytest.mark.parametrize("name", ["beta", "karras", "exponential"])
def test_schedules_are_diffusers(name: str, steps: int) -> None:
    options: dict[str, Any] = {f"use_{name}_sigmas": True}
    scheduler: Any = FlowMatchEulerDiscreteScheduler(shift=3.0, **options)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps))
    ours = SCHEDULES[name](steps, 4096, Shift(is_dynamic=False, fixed=3.0))
    torch.testing.assert_close(ours, scheduler.sigmas, rtol=1e-5, atol=1e-6)


def test_beta_quantiles_against_known_ones() -> None:
    # Beta(1, 1) is even; Beta(1/2, 1/2) is the arcsine distribution; any with a = b is symmetrical.
    shares = torch.tensor([0.0, 0.1, 0.25, 0.5, 0.9, 1.0], dtype=torch.float64)
    torch.testing.assert_close(beta_quantiles(shares, 1.0, 1.0), shares, atol=1e-6, rtol=0)
    arcsine = (shares * math.pi / 2).sin() ** 2
    torch.testing.assert_close(beta_quantiles(shares, 0.5, 0.5), arcsine, atol=1e-6, rtol=0)
    torch.testing.assert_close(beta_quantiles(shares), 1.0 - beta_quantiles(1.0 - shares), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_fall_from_1_to_0(name: str) -> None:
    for steps in (1, 2, 50):
        sigmas = SCHEDULES[name](steps, 1024, Shift())
        assert sigmas.shape == (steps + 1,) and sigmas[0] == 1.0 and sigmas[-1] == 0.0
        assert (sigmas.diff() < 0).all()


def test_what_a_request_may_name_is_there() -> None:
    assert set(NAMES) == set(SAMPLERS) and set(SCHEDULE_NAMES) == set(SCHEDULES)


@pytest.mark.parametrize("sampler", NAMES)
def test_every_sampler_paints_with_control_and_the_same_twice(production: Production, sampler: str) -> None:
    request = GenerationRequest(
        "a cube", 64, 64, seed=4, steps=3, model="random-weights", sampler=sampler, schedule="beta",
        controls=(Control("depth", 0.7, 0.0, 0.6),),
    )  # fmt: skip
    first, again = made(run(production, request)), made(run(production, request))
    assert first.png == again.png
