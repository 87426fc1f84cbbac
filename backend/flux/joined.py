"""What the models of FLUX.1's families are given in each call beside the noisy picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from .latents import image_positions, pack


@dataclass(frozen=True, eq=False, slots=True)
class Joined:
    """channels: (1, tokens, n), more channels of each token (Depth, Canny, Fill).

    tokens: (1, more tokens, channels), a picture beside the noisy one (Kontext), at `positions` (more tokens, 3).
    """

    channels: Tensor | None = None
    tokens: Tensor | None = None
    positions: Tensor | None = None

    def around(self, latents: Tensor) -> Tensor:
        """(1, tokens, channels) -> what the transformer takes: (1, tokens + more tokens, channels + n)."""
        if self.channels is not None:
            latents = torch.cat((latents, self.channels.to(latents)), dim=2)
        return latents if self.tokens is None else torch.cat((latents, self.tokens.to(latents)), dim=1)

    def places(self, positions: Tensor) -> Tensor:
        """(tokens, 3) places of the picture's tokens -> those of all that `around` returns."""
        return positions if self.positions is None else torch.cat((positions, self.positions.to(positions)))


def fill_channels(encode: Callable[[Tensor], Tensor], image: Tensor, mask: Tensor) -> Tensor:
    """What FLUX.1-Fill takes: (1, tokens, 64 + 256), the picture with a grey hole, and the mask, pixel by pixel.

    encode: the VAE's way from pictures to latents. image: (1, 3, height, width), -1..1. mask: (height, width), 0..1.
    Fill was taught black and white alone: what is half white or more may change.
    """
    hole = (mask >= 0.5).to(image)[None, None]
    latents = encode(image * (1.0 - hole))
    factor = image.shape[-1] // latents.shape[-1]
    return torch.cat((pack(latents), pack(pixel_unshuffle(hole, factor)).to(latents)), dim=2)


def beside(latents: Tensor) -> Joined:
    """A picture for FLUX.1-Kontext to look at, in a layer of its own. latents: (1, channels, rows, columns)."""
    positions = image_positions(*latents.shape[2:])
    positions[:, 0] = 1.0
    return Joined(tokens=pack(latents), positions=positions)
