"""Unpacks GGUF's number formats with torch: one function a format, values equal to llama.cpp's definitions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .gguf_file import TENSOR_TYPES

BLOCKS = {kind.name: kind for kind in TENSOR_TYPES.values()}


def dequantise(packed: Tensor, type_name: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """(rows, bytes per row) uint8 -> (rows, columns) of `dtype`. Computed in float32, rounded once."""
    kind = BLOCKS[type_name]
    if type_name in FLOAT_DTYPES:
        return packed.contiguous().view(FLOAT_DTYPES[type_name]).to(dtype)
    rows = packed.shape[0]
    blocks = packed.reshape(-1, kind.block_bytes)
    return UNPACKERS[type_name](blocks).reshape(rows, -1).to(dtype)


def unpack_q8_0(blocks: Tensor) -> Tensor:
    """(n, 34) bytes -> (n, 32): a float16 scale, then 32 signed bytes."""
    return _half(blocks, 0) * blocks[:, 2:].view(torch.int8).float()


def unpack_q4_0(blocks: Tensor) -> Tensor:
    """(n, 18) bytes -> (n, 32): a float16 scale, then 32 nibbles around 8; low nibbles are the first half."""
    nibbles = torch.cat((blocks[:, 2:] & 15, blocks[:, 2:] >> 4), dim=1)
    return _half(blocks, 0) * (nibbles.float() - 8.0)


def unpack_q4_k(blocks: Tensor) -> Tensor:
    """(n, 144) bytes -> (n, 256): float16 scale and minimum, 8 six-bit pairs of both, then 256 nibbles."""
    scales, minimums = _six_bit_pairs(blocks[:, 4:16])
    nibbles = blocks[:, 16:].reshape(-1, 4, 1, 32)
    values = torch.cat((nibbles & 15, nibbles >> 4), dim=2).reshape(-1, 8, 32).float()
    scale = (_half(blocks, 0) * scales).unsqueeze(2)
    minimum = (_half(blocks, 2) * minimums).unsqueeze(2)
    return (scale * values - minimum).reshape(-1, 256)


def unpack_q6_k(blocks: Tensor) -> Tensor:
    """(n, 210) bytes -> (n, 256): low nibbles, high bit pairs, 16 signed byte scales, a float16 scale."""
    low = blocks[:, :128].reshape(-1, 2, 1, 64)
    low = torch.cat((low & 15, low >> 4), dim=2).reshape(-1, 8, 32)
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32)
    high = torch.cat([(high >> shift) & 3 for shift in (0, 2, 4, 6)], dim=2).reshape(-1, 8, 32)
    values = (low | (high << 4)).float() - 32.0
    scales = _half(blocks, 208) * blocks[:, 192:208].view(torch.int8).float()
    return (scales.unsqueeze(2) * values.reshape(-1, 16, 16)).reshape(-1, 256)


def _half(blocks: Tensor, at: int) -> Tensor:
    """The float16 at byte `at` of each block, as (n, 1) float32."""
    return blocks[:, at : at + 2].contiguous().view(torch.float16).float()


def _six_bit_pairs(packed: Tensor) -> tuple[Tensor, Tensor]:
    """(n, 12) bytes -> 8 scales and 8 minimums each, (n, 8) float32, 0..63.

    The first four of each are the low six bits of bytes 0..3 and 4..7. The last four have their low nibbles in
    bytes 8..11 (scales low, minimums high) and their top two bits above the first four.
    """
    scales, minimums, nibbles = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    return (
        torch.cat((scales & 63, (nibbles & 15) | ((scales >> 6) << 4)), dim=1).float(),
        torch.cat((minimums & 63, (nibbles >> 4) | ((minimums >> 6) << 4)), dim=1).float(),
    )


FLOAT_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Formats that torch reads as they are."""

UNPACKERS: dict[str, Callable[[Tensor], Tensor]] = {
    "Q8_0": unpack_q8_0,
    "Q4_0": unpack_q4_0,
    "Q4_K": unpack_q4_k,
    "Q6_K": unpack_q6_k,
}
"""(blocks, bytes per block) uint8 -> (blocks, weights per block) float32."""
