"""Ways from noise to a picture. Each is a function over tensors that calls the model and reports after each step.

The model is `(latents, call) -> velocity`, where `call` counts the sampler's calls of the model from 0. Which noise
level each call has, and which step it belongs to, is declared beforehand (`Sampler.calls`), so that what depends on the
level alone is made once, before the loop.

Flow matching mixes latents = (1 - level) picture + level noise, with velocity = noise - picture along the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .adaptive import FINE, adaptive, fine_levels

Model = Callable[[Tensor, int], Tensor]
Callback = Callable[[int, Tensor], None]
"""Called after each step with its number from 0 and the picture as predicted there (latents without noise)."""
StepNoise = Callable[[int], Tensor]
"""Gaussian noise of the latents' shape for a step; only samplers that add noise on the way ask for it."""
Run = Callable[[Model, Tensor, Tensor, Callback, StepNoise], Tensor]


def euler(model: Model, latents: Tensor, sigmas: Tensor, callback: Callback, noise: StepNoise) -> Tensor:
    """Flow matching's straight step, order 1. latents: (1, tokens, channels) float32 at noise level sigmas[0]."""
    for step, (level, following) in enumerate(_steps(sigmas)):
        velocity = model(latents, step).float()
        callback(step, latents - level * velocity)
        latents = latents + (following - level) * velocity
    return latents


def heun(model: Model, latents: Tensor, sigmas: Tensor, callback: Callback, noise: StepNoise) -> Tensor:
    """The mean of the slopes at both ends of the step, order 2; two calls a step but for the last, which ends at 0."""
    call = 0
    for step, (level, following) in enumerate(_steps(sigmas)):
        velocity = model(latents, call).float()
        callback(step, latents - level * velocity)
        ahead = latents + (following - level) * velocity
        call += 1
        if following > 0.0:
            velocity = (velocity + model(ahead, call).float()) / 2
            call += 1
        latents = latents + (following - level) * velocity
    return latents


def dpmpp_2m(model: Model, latents: Tensor, sigmas: Tensor, callback: Callback, noise: StepNoise) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), order 2 in the log of the signal-to-noise ratio.

    The first step, from pure noise, and the last, to none, are of order 1: the ratio is 0 or infinite there.
    """
    before: Tensor | None = None
    before_width = math.inf
    for step, (level, following) in enumerate(_steps(sigmas)):
        picture = latents - level * model(latents, step).float()
        callback(step, picture)
        width = log_ratio(following) - log_ratio(level)
        blend = picture
        if before is not None and math.isfinite(width) and math.isfinite(before_width):
            blend = picture + (picture - before) * (width / (2 * before_width))
        latents = _towards(latents, blend, level, following)
        before, before_width = picture, width
    return latents


def unipc(model: Model, latents: Tensor, sigmas: Tensor, callback: Callback, noise: StepNoise) -> Tensor:
    """UniPC (Zhao et al. 2023) with two points, B(h) = e^h - 1: each call corrects the step before it, then predicts.

    One call a step; the corrector makes it order 3 in the log of the signal-to-noise ratio. The step from pure noise is
    of order 1, and the last, to none, is not corrected.
    """
    pictures: list[Tensor] = []
    origin, levels = latents, sigmas.tolist()
    for step, (level, following) in enumerate(_steps(sigmas)):
        picture = latents - level * model(latents, step).float()
        if pictures:
            latents = _corrected(origin, pictures, picture, levels[: step + 1])
        callback(step, picture)
        pictures = [*pictures[-1:], picture]
        origin = latents
        latents = _predicted(origin, pictures, [*levels[: step + 1], following])
    return latents


def lcm(model: Model, latents: Tensor, sigmas: Tensor, callback: Callback, noise: StepNoise) -> Tensor:
    """Consistency sampling (Luo et al. 2023): each step predicts the picture and adds new noise of the next level."""
    for step, (level, following) in enumerate(_steps(sigmas)):
        latents = latents - level * model(latents, step).float()
        callback(step, latents)
        if following > 0.0:
            latents = (1.0 - following) * latents + following * noise(step)
    return latents


def euler_ancestral(model: Model, latents: Tensor, sigmas: Tensor, callback: Callback, noise: StepNoise) -> Tensor:
    """Euler steps that go below the next level and add new noise back up to it.

    The level below is the next one squared over this one, as ancestral sampling (Karras et al. 2022, 'Elucidating',
    section 4) does it for flow matching with all noise renewed.
    """
    for step, (level, following) in enumerate(_steps(sigmas)):
        picture = latents - level * model(latents, step).float()
        callback(step, picture)
        if following == 0.0:
            return picture
        below = following**2 / level
        latents = _towards(latents, picture, level, below)
        keep = (1.0 - following) / (1.0 - below)
        renewed = math.sqrt(max(0.0, following**2 - (keep * below) ** 2))
        latents = keep * latents + renewed * noise(step)
    return latents


def log_ratio(level: float) -> float:
    """Half the log of the signal-to-noise ratio at a noise level: -inf at 1, inf at 0."""
    if level >= 1.0:
        return -math.inf
    return math.log((1.0 - level) / level) if level > 0.0 else math.inf


def _steps(sigmas: Tensor) -> list[tuple[float, float]]:
    return list(pairwise(sigmas.tolist()))


def _towards(latents: Tensor, picture: Tensor, level: float, following: float) -> Tensor:
    """From one noise level to a lower one, straight towards a picture."""
    share = following / level
    return share * latents + (1.0 - share) * picture


def _exponents(width: float) -> tuple[float, float, float]:
    """For a step of `width` in the log ratio: e^-h - 1, and the two integrals after it that UniPC's orders need."""
    first = math.expm1(-width)
    second = first / -width - 1.0 if math.isfinite(width) else -1.0
    third = second / -width - 0.5 if math.isfinite(width) else -0.5
    return first, second, third


def _predicted(origin: Tensor, pictures: list[Tensor], levels: list[float]) -> Tensor:
    """UniPC's predictor. pictures: the last two, or the only one. levels: up to and with the one to go to."""
    level, following = levels[-2], levels[-1]
    straight = _towards(origin, pictures[-1], level, following)
    width = log_ratio(following) - log_ratio(level)
    back = _back_share(levels[:-1], width)
    if len(pictures) < 2 or back is None:
        return straight
    slope = (pictures[0] - pictures[1]) / back
    return straight - (1.0 - following) * math.expm1(-width) * 0.5 * slope


def _corrected(origin: Tensor, pictures: list[Tensor], new: Tensor, levels: list[float]) -> Tensor:
    """UniPC's corrector: the step that ended at levels[-1] again, with what the model said at its end."""
    level, following = levels[-2], levels[-1]
    straight = _towards(origin, pictures[-1], level, following)
    width = log_ratio(following) - log_ratio(level)
    first, second, third = _exponents(width)
    back = _back_share(levels[:-1], width)
    if len(pictures) < 2 or back is None:
        return straight - (1.0 - following) * first * 0.5 * (new - pictures[-1])
    system = torch.tensor([[1.0, 1.0], [back, 1.0]], dtype=torch.float64)
    wanted = torch.tensor([second / first, 2.0 * third / first], dtype=torch.float64)
    past, ahead = torch.linalg.solve(system, wanted).tolist()
    change = past * (pictures[0] - pictures[1]) / back + ahead * (new - pictures[-1])
    return straight - (1.0 - following) * first * change


def _back_share(levels: list[float], width: float) -> float | None:
    """How far back the step before began, in this step's widths (below 0); None where one of them has no width."""
    if len(levels) < 2 or not math.isfinite(width):
        return None
    back = (log_ratio(levels[-2]) - log_ratio(levels[-1])) / width
    return back if math.isfinite(back) else None


@dataclass(frozen=True, slots=True)
class Calls:
    """levels: (calls,) float32, the noise level of each call of the model. steps: the step that each belongs to."""

    levels: Tensor
    steps: tuple[int, ...]


def one_call_a_step(sigmas: Tensor) -> Calls:
    return Calls(sigmas[:-1], tuple(range(len(sigmas) - 1)))


def two_calls_a_step(sigmas: Tensor) -> Calls:
    """At both ends of each step, but for the last."""
    places = [(step, step + end) for step in range(len(sigmas) - 1) for end in (0, 1)][:-1]
    return Calls(sigmas[[place for _, place in places]], tuple(step for step, _ in places))


def calls_it_may_make(sigmas: Tensor) -> Calls:
    """Of the adaptive sampler: some of these, at most as many as there are steps."""
    count = len(sigmas) - 1
    return Calls(fine_levels(sigmas)[:-1], tuple(step for step in range(count) for _ in range(FINE)))


@dataclass(frozen=True, slots=True)
class Sampler:
    """run: one of the functions above. calls: sigmas (steps + 1,) -> the calls of the model that it will make."""

    run: Run
    calls: Callable[[Tensor], Calls]


SAMPLERS = {
    "euler": Sampler(euler, one_call_a_step),
    "heun": Sampler(heun, two_calls_a_step),
    "dpmpp_2m": Sampler(dpmpp_2m, one_call_a_step),
    "unipc": Sampler(unipc, one_call_a_step),
    "lcm": Sampler(lcm, one_call_a_step),
    "euler_ancestral": Sampler(euler_ancestral, one_call_a_step),
    "adaptive": Sampler(adaptive, calls_it_may_make),
}
