"""What a picture starts from when it does not start from noise alone, and which parts of it may change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from .latents import pack
from .samplers import Model


def run_sigmas(sigmas: Tensor, strength: float) -> Tensor:
    """The noise levels that are left at a strength (0..1, image to image): 1 is all of them, from pure noise.

    sigmas: (steps + 1,). As in diffusers: whole steps, and at least one.
    """
    steps = len(sigmas) - 1
    skipped = min(steps - 1, int(max(steps - min(steps * strength, steps), 0)))
    return sigmas[skipped:]


@dataclass(frozen=True, eq=False, slots=True)
class Source:
    """A picture to start from. latents: (1, tokens, channels) of it.

    mask: like latents, 0..1, how much each latent may change; None where all of them may.
    """

    latents: Tensor
    mask: Tensor | None = None

    @classmethod
    def of(cls, latents: Tensor, mask: Tensor | None) -> Source:
        """latents: (1, channels, rows, columns). mask: (height, width) 0..1, of the picture, or None."""
        if mask is None:
            return cls(pack(latents))
        rows, columns = latents.shape[2:]
        coarse = adaptive_avg_pool2d(mask[None, None].float(), (rows, columns)).expand(-1, latents.shape[1], -1, -1)
        return cls(pack(latents), pack(coarse).to(latents.device))

    def start(self, noise: Tensor, level: float) -> Tensor:
        """The picture under so much noise. noise: (1, tokens, channels)."""
        return level * noise + (1.0 - level) * self.latents

    def kept(self, model: Model, steps: Sequence[int], levels: Tensor) -> Model:
        """The model, but for what the mask keeps: there the velocity leads straight back to the source.

        A grey value is a strength, as in differential diffusion (Levin and Fried 2023): 0.5 may change in the second
        half of the steps, 1 in all, 0 in none. steps, levels: of each of the model's calls.
        """
        if self.mask is None:
            return model
        mask, source, count = self.mask, self.latents, max(steps) + 1

        def masked(x: Tensor, call: int) -> Tensor:
            velocity = model(x, call).float()
            back = (x - source) / levels[call]
            # A little below, since an average of ones may not be one.
            is_free = mask >= 1.0 - steps[call] / count - 1e-4
            return torch.where(is_free, velocity, back)

        return masked
