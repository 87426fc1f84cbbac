"""Latents: (1, channels, height / 8, width / 8) in the VAE, (1, tokens, 4 x channels) in the transformer."""

from __future__ import annotations

import torch
from torch import Tensor

PATCH = 2
"""The transformer's token is 2 x 2 latents."""


def pack(latents: Tensor) -> Tensor:
    """(batch, channels, rows, columns) -> (batch, rows / 2 x columns / 2, 4 x channels)."""
    batch, channels, rows, columns = latents.shape
    split = latents.reshape(batch, channels, rows // PATCH, PATCH, columns // PATCH, PATCH)
    return split.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns // PATCH**2, channels * PATCH**2)


def unpack(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """The inverse of `pack`; rows and columns in latents."""
    batch, _, width = tokens.shape
    channels = width // PATCH**2
    split = tokens.reshape(batch, rows // PATCH, columns // PATCH, channels, PATCH, PATCH)
    return split.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels, rows, columns)


def noise(seed: int, channels: int, rows: int, columns: int, step: int = 0) -> Tensor:
    """Gaussian noise (1, channels, rows, columns), float32, made on the CPU so that a seed means the same anywhere.

    step: 0 for what a picture begins as; from 1 on for what is added on the way.
    """
    # Seeds are below 2^32: no step's noise is the start of another seed.
    generator = torch.Generator("cpu").manual_seed(seed + (step << 32))
    return torch.randn((1, channels, rows, columns), generator=generator, dtype=torch.float32)


def image_positions(rows: int, columns: int) -> Tensor:
    """The place of each token, (tokens, 3) float32: 0, row, column. rows and columns in latents."""
    positions = torch.zeros(rows // PATCH, columns // PATCH, 3)
    positions[..., 1] = torch.arange(rows // PATCH)[:, None]
    positions[..., 2] = torch.arange(columns // PATCH)[None, :]
    return positions.reshape(-1, 3)
