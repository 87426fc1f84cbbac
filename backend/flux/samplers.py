"""Ways from noise to a picture. Each is a function over tensors that calls the model and reports after each step.

The model is `(latents, call) -> velocity`, where `call` counts the sampler's calls of the model from 0 and the noise
level of each is known beforehand (`Sampler.levels`), so that what depends on the level alone is made once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

Model = Callable[[Tensor, int], Tensor]
Callback = Callable[[int, Tensor], None]
"""Called after each step with its number from 0 and the picture as predicted there (latents without noise)."""


def euler(model: Model, latents: Tensor, sigmas: Tensor, callback: Callback) -> Tensor:
    """Flow matching's straight step. latents: (1, tokens, channels) float32 at noise level sigmas[0]."""
    levels: list[float] = sigmas.tolist()
    for step, (level, following) in enumerate(pairwise(levels)):
        velocity = model(latents, step).float()
        callback(step, latents - level * velocity)
        latents = latents + (following - level) * velocity
    return latents


@dataclass(frozen=True, slots=True)
class Sampler:
    """run: the function above. levels: sigmas (steps + 1,) -> the noise level of each call of the model."""

    run: Callable[[Model, Tensor, Tensor, Callback], Tensor]
    levels: Callable[[Tensor], Tensor]


SAMPLERS = {"euler": Sampler(euler, lambda sigmas: sigmas[:-1])}
