"""Latents: (1, channels, height / 8, width / 8) in the VAE, (1, tokens, 4 x channels) in the transformer."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

PATCH = 2
"""The transformer's token is 2 x 2 latents."""
NOISE_BLOCK = 32
"""Latents on a side of what `noise_at` makes at once."""


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


def noise_at(seed: int, channels: int, rows: int, columns: int, origin: tuple[int, int], step: int = 0) -> Tensor:
    """`noise` of a part of a plane without end: parts that overlap have the same there.

    origin: row and column of the part's first latent in the plane; may be below 0.
    """
    first = [start // NOISE_BLOCK for start in origin]
    last = [(start + count - 1) // NOISE_BLOCK for start, count in zip(origin, (rows, columns), strict=True)]
    strips = [
        torch.cat([_block(seed, channels, row, column, step) for column in range(first[1], last[1] + 1)], 2)
        for row in range(first[0], last[0] + 1)
    ]
    top, left = (start - block * NOISE_BLOCK for start, block in zip(origin, first, strict=True))
    return torch.cat(strips, 1)[None, :, top : top + rows, left : left + columns]


def _block(seed: int, channels: int, row: int, column: int, step: int) -> Tensor:
    name = hashlib.sha256(f"{seed} {step} {row} {column}".encode()).digest()
    generator = torch.Generator("cpu").manual_seed(int.from_bytes(name[:8], "little", signed=True))
    return torch.randn((channels, NOISE_BLOCK, NOISE_BLOCK), generator=generator, dtype=torch.float32)


def image_positions(rows: int, columns: int) -> Tensor:
    """The place of each token, (tokens, 3) float32: 0, row, column. rows and columns in latents."""
    positions = torch.zeros(rows // PATCH, columns // PATCH, 3)
    positions[..., 1] = torch.arange(rows // PATCH)[:, None]
    positions[..., 2] = torch.arange(columns // PATCH)[None, :]
    return positions.reshape(-1, 3)
