"""The loop: noise in, latents of a picture out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor

from .controls import Steering, summed_residuals
from .forward import Prepared, transformer_velocity
from .graphs import NetCalls
from .joined import Joined
from .journal import Journal, Known
from .samplers import Callback, Sampler, StepNoise
from .source import Source
from .step_cache import StepCache


@dataclass(frozen=True, eq=False, slots=True)
class Negative:
    """What to go away from. scale: true CFG, above 1.

    calls: in which of the model's calls its pass is due; in all where not said. In the others, and in calls that a step
    cache leaves out, stands what the two passes differed by when they were last taken: it changes slower than either.
    """

    prepared: Prepared
    scale: float
    calls: Sequence[bool] | None = None

    def is_due(self, call: int, known: Known | None) -> bool:
        """Whether its pass is to be taken. known: from when it last was."""
        return self.calls is None or known is None or any(self.calls[known.call + 1 : call + 1])


@dataclass(frozen=True, eq=False, slots=True)
class Guides:
    """What leads the picture: the prompt, a negative one, controls, the picture it starts from, and what is beside it.

    negative: for true classifier-free guidance, a second pass in each call, steered by what the controls made of the
    prompt, as in diffusers. joined: given to the transformer, not to the controls. calls: how the net is called.
    """

    prompt: Prepared
    negative: Negative | None
    controls: Sequence[Steering]
    source: Source | None
    joined: Joined
    calls: NetCalls = field(default_factory=NetCalls)


def denoise(
    net: FluxTransformer2DModel,
    latents: Tensor,
    sigmas: Tensor,
    guides: Guides,
    sampler: Sampler,
    callback: Callback,
    noise: StepNoise,
    journal: Journal | None = None,
    cache: StepCache | None = None,
) -> Tensor:
    """(1, tokens, channels) float32 latents under noise -> float32 latents at noise level 0, of the same shape.

    latents: at the first of the noise levels. sigmas: (steps + 1,) falling to 0. noise: for samplers that add some on
    the way. The net computes in the dtype of the prompt's text. Whatever `callback` raises ends the loop. journal: of a
    loop that was begun before with the same of all this, whose finished calls are not made again. cache: leaves calls
    out.
    """
    journal = journal or Journal()
    dtype = guides.prompt.text.dtype
    negative, velocity_of = guides.negative, guides.calls.velocity

    def model(x: Tensor, call: int) -> Tensor:
        x = x.to(dtype)
        residuals = summed_residuals(guides.controls, x, call)
        given, tokens = guides.joined.around(x), x.shape[1]
        velocity = velocity_of(transformer_velocity, net, given, guides.prompt, call, residuals)[:, :tokens]
        if negative is None:
            return velocity
        if negative.is_due(call, journal.known):
            away = velocity_of(transformer_velocity, net, given, negative.prepared, call, residuals)[:, :tokens]
            journal.known = Known(call, (velocity - away).cpu()) if negative.calls is not None else None
            return away + negative.scale * (velocity - away)
        assert journal.known is not None
        return velocity + (negative.scale - 1.0) * journal.known.difference.to(velocity.device)

    calls = sampler.calls(sigmas)
    steered = journal.kept(model)
    if cache is not None:
        # Around the journal, which then gives a loop that is begun again the same to go by.
        steered = cache.around(steered)
    if guides.source is not None:
        steered = guides.source.kept(steered, calls.steps, calls.levels)
    return sampler.run(steered, latents, sigmas, journal.once(callback), noise)
