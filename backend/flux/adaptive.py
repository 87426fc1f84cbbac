"""The adaptive sampler: steps as long as their error allows, within a budget of model calls."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .samplers import Callback, Model, StepNoise

FINE = 16
"""Its steps begin and end at levels that divide each of the schedule's steps so finely: these can be declared, so that
what depends on a level is made before the loop, though which of them it will call is known only then."""
TOLERANCE = 0.03
"""The error of a step that is let pass, as a share of the latents."""
GROWTH = (0.3, 3.0)


def fine_levels(sigmas: Tensor) -> Tensor:
    """(steps + 1,) -> (FINE x steps + 1,), the given levels among them."""
    shares = torch.arange(FINE, dtype=sigmas.dtype) / FINE
    between = sigmas[:-1, None] + (sigmas[1:] - sigmas[:-1])[:, None] * shares
    return torch.cat((between.flatten(), sigmas[-1:]))


class Budget:
    """Model calls that are left."""

    def __init__(self, calls: int) -> None:
        self.calls, self.made = calls, 0

    @property
    def left(self) -> int:
        return self.calls - self.made


def adaptive(model: Model, latents: Tensor, sigmas: Tensor, callback: Callback, noise: StepNoise) -> Tensor:
    """Heun's step, order 2, beside Euler's, whose difference is the error (Hairer, Nørsett, Wanner 1993, II.4).

    A step whose error is too large is taken again, shorter; the next is as long as the error lets it be. At most as
    many calls as there are steps, and fewer where the way is straight. What is left of the budget sets the shortest
    step, so that it always suffices.
    """
    levels = fine_levels(sigmas).tolist()
    budget = Budget(len(sigmas) - 1)

    def velocity_at(x: Tensor, place: int) -> Tensor:
        budget.made += 1
        return model(x, place).float()

    def tell(x: Tensor, place: int, velocity: Tensor) -> None:
        callback(budget.made - 1, x - levels[place] * velocity)

    place, stride, end = 0, FINE, len(levels) - 1 - FINE
    velocity = velocity_at(latents, 0)
    tell(latents, 0, velocity)
    while place < end and budget.left >= 2:
        shortest = math.ceil((end - place) / (budget.left // 2))
        stride = min(max(stride, shortest), end - place)
        width = levels[place + stride] - levels[place]
        ahead = latents + width * velocity
        there = latents + width * (velocity + velocity_at(ahead, place + stride)) / 2
        error = _rms(there - ahead) / (TOLERANCE * max(_rms(latents), _rms(there)))
        # Trying again costs a call, and the rest of the way must still be paid for.
        may_retry = stride > 1 and math.ceil((end - place) / max(1, (budget.left - 1) // 2)) < stride
        if error <= 1.0 or not may_retry:
            latents, place = there, place + stride
            velocity = velocity_at(latents, place)
            tell(latents, place, velocity)
        low, high = GROWTH
        stride = max(1, int(stride * min(high, max(low, 0.9 / math.sqrt(max(error, 1e-9))))))
    return latents - levels[place] * velocity


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())
