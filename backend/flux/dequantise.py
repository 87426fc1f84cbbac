"""Unpacks the number formats of weights with torch: one function a format, values equal to llama.cpp's definitions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .gguf_file import TENSOR_TYPES

UNEVEN = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""The sixteen values of the IQ4 formats, denser around 0 (llama.cpp's table)."""
CACHED = 1 << 20
"""Weights that are unpacked at once on a processor: more of them wait for memory, fewer for Python."""
BLOCKS = {kind.name: kind for kind in TENSOR_TYPES.values()}


def dequantise(packed: Tensor, type_name: str, dtype: torch.dtype = torch.float32, out: Tensor | None = None) -> Tensor:
    """(rows, bytes per row) uint8 -> (rows, columns) of `dtype`. Computed in float32, rounded once.

    out: what to fill and return, contiguous, of that shape and dtype.
    """
    if type_name in FLOAT_DTYPES:
        values = packed.contiguous().view(FLOAT_DTYPES[type_name])
        return values.to(dtype) if out is None else out.copy_(values)
    kind = BLOCKS[type_name]
    rows = packed.shape[0]
    blocks = packed.reshape(-1, kind.block_bytes)
    if out is None:
        return UNPACKERS[type_name](blocks).reshape(rows, -1).to(dtype)
    fill = FILLERS.get(type_name) or _filler(UNPACKERS[type_name])
    # On a processor, in parts that stay in its caches.
    part = CACHED // kind.block_size if packed.device.type == "cpu" else len(blocks)
    for some, place in zip(blocks.split(part), out.view(-1, kind.block_size).split(part), strict=True):
        fill(some, place)
    return out


def _filler(unpack: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], object]:
    return lambda blocks, out: out.copy_(unpack(blocks))


def _fill_q8_0(blocks: Tensor, out: Tensor) -> None:
    """`unpack_q8_0` without a copy in between, where the dtype holds what is multiplied."""
    if out.dtype != torch.float32:
        out.copy_(unpack_q8_0(blocks))
        return
    out.copy_(blocks[:, 2:].view(torch.int8))
    out.mul_(_half(blocks, 0))


def unpack_q8_0(blocks: Tensor) -> Tensor:
    """(n, 34) bytes -> (n, 32): a float16 scale, then 32 signed bytes."""
    return _half(blocks, 0) * blocks[:, 2:].view(torch.int8).float()


def unpack_q4_0(blocks: Tensor) -> Tensor:
    """(n, 18) bytes -> (n, 32): a float16 scale, then 32 nibbles around 8; low nibbles are the first half."""
    nibbles = torch.cat((blocks[:, 2:] & 15, blocks[:, 2:] >> 4), dim=1)
    return _half(blocks, 0) * (nibbles.float() - 8.0)


def unpack_q4_1(blocks: Tensor) -> Tensor:
    """(n, 20) bytes -> (n, 32): float16 scale and minimum, then 32 nibbles as in Q4_0."""
    nibbles = torch.cat((blocks[:, 4:] & 15, blocks[:, 4:] >> 4), dim=1)
    return _half(blocks, 0) * nibbles.float() + _half(blocks, 2)


def unpack_q5_0(blocks: Tensor) -> Tensor:
    """(n, 22) bytes -> (n, 32): a float16 scale, 32 fifth bits, 32 nibbles as in Q4_0; values around 16."""
    return _half(blocks, 0) * (_five_bits(blocks[:, 2:6], blocks[:, 6:]) - 16.0)


def unpack_q5_1(blocks: Tensor) -> Tensor:
    """(n, 24) bytes -> (n, 32): float16 scale and minimum, 32 fifth bits, 32 nibbles."""
    return _half(blocks, 0) * _five_bits(blocks[:, 4:8], blocks[:, 8:]) + _half(blocks, 2)


def unpack_q2_k(blocks: Tensor) -> Tensor:
    """(n, 84) bytes -> (n, 256): 16 nibble pairs of scale and minimum, 256 bit pairs, float16 scale and minimum."""
    values = _bit_pairs(blocks[:, 16:80]).reshape(-1, 16, 16).float()
    scale = (_half(blocks, 80) * (blocks[:, :16] & 15).float()).unsqueeze(2)
    minimum = (_half(blocks, 82) * (blocks[:, :16] >> 4).float()).unsqueeze(2)
    return (scale * values - minimum).reshape(-1, 256)


def unpack_q3_k(blocks: Tensor) -> Tensor:
    """(n, 110) bytes -> (n, 256): 256 third bits, 256 bit pairs, 16 six-bit scales, a float16 scale.

    A third bit that is not set takes 4 off. The scales' low nibbles are in 8 bytes, low nibbles first; their upper
    bit pairs in 4 bytes.
    """
    third = torch.cat([(blocks[:, :32] >> shift) & 1 for shift in range(8)], dim=1)
    values = _bit_pairs(blocks[:, 32:96]).reshape(-1, 256).float() - 4.0 * (1.0 - third.float())
    low, high = blocks[:, 96:104], blocks[:, 104:108]
    low = torch.cat((low & 15, low >> 4), dim=1)
    high = torch.cat([(high >> shift) & 3 for shift in (0, 2, 4, 6)], dim=1)
    scale = _half(blocks, 108) * ((low | (high << 4)).float() - 32.0)
    return (scale.unsqueeze(2) * values.reshape(-1, 16, 16)).reshape(-1, 256)


def unpack_q5_k(blocks: Tensor) -> Tensor:
    """(n, 176) bytes -> (n, 256): scales and minimums as in Q4_K, 256 fifth bits, 256 nibbles."""
    scales, minimums = _six_bit_pairs(blocks[:, 4:16])
    fifth = torch.stack([(blocks[:, 16:48] >> shift) & 1 for shift in range(8)], dim=1)
    nibbles = blocks[:, 48:].reshape(-1, 4, 1, 32)
    nibbles = torch.cat((nibbles & 15, nibbles >> 4), dim=2).reshape(-1, 8, 32)
    scale = (_half(blocks, 0) * scales).unsqueeze(2)
    minimum = (_half(blocks, 2) * minimums).unsqueeze(2)
    return (scale * (nibbles | (fifth << 4)).float() - minimum).reshape(-1, 256)


def unpack_iq4_nl(blocks: Tensor) -> Tensor:
    """(n, 18) bytes -> (n, 32): a float16 scale, then 32 nibbles that are places in UNEVEN."""
    nibbles = torch.cat((blocks[:, 2:] & 15, blocks[:, 2:] >> 4), dim=1)
    return _half(blocks, 0) * _uneven(nibbles)


def unpack_iq4_xs(blocks: Tensor) -> Tensor:
    """(n, 136) bytes -> (n, 256): a float16 scale, 8 six-bit scales around 32, nibbles that are places in UNEVEN.

    The scales' upper bit pairs come first, in 2 bytes, then their low nibbles, in 4.
    """
    high = torch.stack([(blocks[:, 2:4] >> shift) & 3 for shift in (0, 2, 4, 6)], dim=2).reshape(-1, 8)
    low = torch.stack((blocks[:, 4:8] & 15, blocks[:, 4:8] >> 4), dim=2).reshape(-1, 8)
    scale = _half(blocks, 0) * ((low | (high << 4)).float() - 32.0)
    nibbles = blocks[:, 8:].reshape(-1, 8, 16)
    return (scale.unsqueeze(2) * _uneven(torch.cat((nibbles & 15, nibbles >> 4), dim=2))).reshape(-1, 256)


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
    """The float16 at byte `at` of each block, as (n, 1) float32. Blocks are of even size, and `at` is even."""
    if blocks.is_contiguous() and blocks.storage_offset() % 2 == 0:  # where they can be read as they lie
        return blocks.view(torch.float16)[:, at // 2 : at // 2 + 1].float()
    return blocks[:, at : at + 2].contiguous().view(torch.float16).float()


def _five_bits(fifth: Tensor, nibbles: Tensor) -> Tensor:
    """(n, 4) bytes of single bits and (n, 16) bytes of nibbles, low ones first -> (n, 32) float32, 0..31."""
    bits = torch.stack([(fifth >> shift) & 1 for shift in range(8)], dim=2).reshape(-1, 32)
    return (torch.cat((nibbles & 15, nibbles >> 4), dim=1) | (bits << 4)).float()


def _bit_pairs(packed: Tensor) -> Tensor:
    """(n, 64) bytes -> (n, 2, 4, 32), 0..3: of each half, the lowest pairs of its 32 bytes first."""
    halves = packed.reshape(-1, 2, 1, 32)
    return torch.cat([(halves >> shift) & 3 for shift in (0, 2, 4, 6)], dim=2)


def _uneven(places: Tensor) -> Tensor:
    """The values in UNEVEN at these places, float32."""
    return torch.tensor(UNEVEN, dtype=torch.float32, device=places.device)[places.int()]


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


FLOAT_DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
"""Formats that torch reads as they are."""

UNPACKERS: dict[str, Callable[[Tensor], Tensor]] = {
    "Q8_0": unpack_q8_0,
    "Q4_0": unpack_q4_0,
    "Q4_1": unpack_q4_1,
    "Q5_0": unpack_q5_0,
    "Q5_1": unpack_q5_1,
    "Q2_K": unpack_q2_k,
    "Q3_K": unpack_q3_k,
    "Q4_K": unpack_q4_k,
    "Q5_K": unpack_q5_k,
    "Q6_K": unpack_q6_k,
    "IQ4_NL": unpack_iq4_nl,
    "IQ4_XS": unpack_iq4_xs,
}
"""(blocks, bytes per block) uint8 -> (blocks, weights per block) float32."""

FILLERS: dict[str, Callable[[Tensor, Tensor], object]] = {"Q8_0": _fill_q8_0}
"""Those that need no copy in between."""
