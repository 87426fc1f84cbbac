"""The loop: noise in, latents of a picture out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor

from .controls import Steering, summed_residuals
from .forward import Prepared, transformer_velocity
from .samplers import Callback, Sampler, StepNoise


@dataclass(frozen=True, eq=False, slots=True)
class Negative:
    """What to go away from. scale: true CFG, above 1."""

    prepared: Prepared
    scale: float


def denoise(
    net: FluxTransformer2DModel,
    latents: Tensor,
    sigmas: Tensor,
    prepared: Prepared,
    negative: Negative | None,
    controls: Sequence[Steering],
    sampler: Sampler,
    callback: Callback,
    noise: StepNoise,
) -> Tensor:
    """(1, tokens, channels) float32 noise -> float32 latents at noise level 0, of the same shape.

    sigmas: (steps + 1,) falling to 0. negative: for true classifier-free guidance, a second pass in each call, steered
    by what the controls made of the prompt, as in diffusers. noise: for samplers that add some on the way. The net
    computes in the dtype of `prepared.text`. Whatever `callback` raises ends the loop.
    """
    dtype = prepared.text.dtype

    def model(x: Tensor, call: int) -> Tensor:
        x = x.to(dtype)
        residuals = summed_residuals(list(controls), x, call)
        velocity = transformer_velocity(net, x, prepared, call, residuals)
        if negative is None:
            return velocity
        away = transformer_velocity(net, x, negative.prepared, call, residuals)
        return away + negative.scale * (velocity - away)

    return sampler.run(model, latents, sigmas, callback, noise)
