"""Unpacks a weight in one kernel, with Triton: the same bits as `dequantise`'s functions, read once and written once.

A program unpacks a tile of (blocks, weights per block). What each format's bytes mean is said in `dequantise`. Sums of
products are not fused (`enable_fp_fusion=False`), and bfloat16 is rounded by whole numbers: so the card, Triton's
interpreter and torch agree to the bit. Importing this needs Triton.
"""

from __future__ import annotations

import struct
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .dequantise import UNEVEN
from .gguf_file import TENSOR_TYPES

BLOCKS = {kind.name: kind for kind in TENSOR_TYPES.values() if kind.block_size > 1}
TILE = 2048
"""Weights that one program unpacks: 16 for each of its 128 threads."""
OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}
DTYPES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}
UNEVEN_LOW, UNEVEN_HIGH = (tl.constexpr(number) for number in struct.unpack("<2q", struct.pack("16b", *UNEVEN)))
"""Eight signed bytes in each."""


def launch(packed: Tensor, type_name: str, out: Tensor) -> None:
    """Unpacks (rows, bytes per row) uint8 into `out`, contiguous and of float32, float16 or bfloat16."""
    kind = BLOCKS[type_name]
    count = packed.numel() // kind.block_bytes
    # Rounded by hand; the store is of whole numbers.
    target = out.view(torch.int16) if out.dtype == torch.bfloat16 else out
    blocks = TILE // kind.block_size
    grid = (triton.cdiv(count, blocks),)
    arguments: Any = {**constants(type_name, out.dtype), **OPTIONS}
    kernel: Any = unpack
    kernel[grid](packed, target, count, **arguments)


def constants(type_name: str, dtype: torch.dtype) -> dict[str, Any]:
    """What the kernel is compiled for."""
    kind = BLOCKS[type_name]
    return {
        "form": type_name, "dtype": DTYPES[dtype], "block_bytes": kind.block_bytes, "size": kind.block_size,
        "blocks": TILE // kind.block_size,
    }  # fmt: skip


@triton.jit
def unpack(
    packed, out, count,
    form: tl.constexpr, dtype: tl.constexpr, block_bytes: tl.constexpr, size: tl.constexpr, blocks: tl.constexpr,
):  # fmt: skip
    number = tl.program_id(0) * blocks + tl.arange(0, blocks)[:, None]
    inside = number < count
    block = packed + number.to(tl.int64) * block_bytes
    place = tl.arange(0, size)[None, :]
    if form == "Q8_0":
        value = _half(block, 0, inside) * _signed_byte(block, 2 + place, inside)
    elif form == "Q4_0":
        value = _half(block, 0, inside) * (_nibble(block, 2, place, inside).to(tl.float32) - 8.0)
    elif form == "Q4_1":
        value = _half(block, 0, inside) * _nibble(block, 4, place, inside).to(tl.float32) + _half(block, 2, inside)
    elif form == "Q5_0":
        value = _half(block, 0, inside) * (_five_bits(block, 2, place, inside) - 16.0)
    elif form == "Q5_1":
        value = _half(block, 0, inside) * _five_bits(block, 4, place, inside) + _half(block, 2, inside)
    elif form == "IQ4_NL":
        value = _half(block, 0, inside) * _uneven(_nibble(block, 2, place, inside))
    elif form == "Q2_K":
        value = _q2_k(block, place, inside)
    elif form == "Q3_K":
        value = _q3_k(block, place, inside)
    elif form == "Q4_K":
        value = _q4_k(block, place, inside)
    elif form == "Q5_K":
        value = _q5_k(block, place, inside)
    elif form == "Q6_K":
        value = _q6_k(block, place, inside)
    else:
        tl.static_assert(form == "IQ4_XS", "a format that is not known")
        value = _iq4_xs(block, place, inside)
    target = out + number.to(tl.int64) * size + place
    if dtype == "bfloat16":
        tl.store(target, _bfloat16_bits(value), mask=inside)
    elif dtype == "float16":
        tl.store(target, value.to(tl.float16), mask=inside)
    else:
        tl.store(target, value, mask=inside)


@triton.jit
def _q2_k(block, place, inside):
    both = _byte(block, place >> 4, inside)
    pair = (_byte(block, 16 + (place >> 7) * 32 + (place & 31), inside) >> (((place >> 5) & 3) * 2)) & 3
    scale = _half(block, 80, inside) * (both & 15).to(tl.float32)
    minimum = _half(block, 82, inside) * (both >> 4).to(tl.float32)
    return scale * pair.to(tl.float32) - minimum


@triton.jit
def _q3_k(block, place, inside):
    third = (_byte(block, place & 31, inside) >> (place >> 5)) & 1
    pair = (_byte(block, 32 + (place >> 7) * 32 + (place & 31), inside) >> (((place >> 5) & 3) * 2)) & 3
    part = place >> 4
    low = (_byte(block, 96 + (part & 7), inside) >> ((part >> 3) * 4)) & 15
    high = (_byte(block, 104 + (part & 3), inside) >> ((part >> 2) * 2)) & 3
    scale = _half(block, 108, inside) * ((low | (high << 4)).to(tl.float32) - 32.0)
    return scale * (pair - 4 * (1 - third)).to(tl.float32)


@triton.jit
def _q4_k(block, place, inside):
    number = (_byte(block, 16 + (place >> 6) * 32 + (place & 31), inside) >> (((place >> 5) & 1) * 4)) & 15
    return _six_bit_scaled(block, place >> 5, number, inside)


@triton.jit
def _q5_k(block, place, inside):
    number = (_byte(block, 48 + (place >> 6) * 32 + (place & 31), inside) >> (((place >> 5) & 1) * 4)) & 15
    fifth = (_byte(block, 16 + (place & 31), inside) >> (place >> 5)) & 1
    return _six_bit_scaled(block, place >> 5, number | (fifth << 4), inside)


@triton.jit
def _q6_k(block, place, inside):
    low = (_byte(block, (place >> 7) * 64 + (place & 63), inside) >> (((place >> 6) & 1) * 4)) & 15
    high = (_byte(block, 128 + (place >> 7) * 32 + (place & 31), inside) >> (((place >> 5) & 3) * 2)) & 3
    scale = _half(block, 208, inside) * _signed_byte(block, 192 + (place >> 4), inside)
    return scale * ((low | (high << 4)).to(tl.float32) - 32.0)


@triton.jit
def _iq4_xs(block, place, inside):
    part = place >> 5
    low = (_byte(block, 4 + (part >> 1), inside) >> ((part & 1) * 4)) & 15
    high = (_byte(block, 2 + (part >> 2), inside) >> ((part & 3) * 2)) & 3
    scale = _half(block, 0, inside) * ((low | (high << 4)).to(tl.float32) - 32.0)
    number = (_byte(block, 8 + part * 16 + (place & 15), inside) >> (((place >> 4) & 1) * 4)) & 15
    return scale * _uneven(number)


@triton.jit
def _six_bit_scaled(block, part, number, inside):
    """number x scale - minimum, with the part's six-bit scale and minimum of Q4_K and Q5_K."""
    is_late = part >= 4
    first = _byte(block, 4 + (part & 3), inside)
    second = _byte(block, 8 + (part & 3), inside)
    nibbles = _byte(block, 12 + (part & 3), inside)
    scale = tl.where(is_late, (nibbles & 15) | ((first >> 6) << 4), first & 63)
    minimum = tl.where(is_late, (nibbles >> 4) | ((second >> 6) << 4), second & 63)
    taken = _half(block, 2, inside) * minimum.to(tl.float32)
    return (_half(block, 0, inside) * scale.to(tl.float32)) * number.to(tl.float32) - taken


@triton.jit
def _byte(block, at, inside):
    return tl.load(block + at, mask=inside, other=0).to(tl.int32)


@triton.jit
def _signed_byte(block, at, inside):
    return tl.load(block + at, mask=inside, other=0).to(tl.int8, bitcast=True).to(tl.float32)


@triton.jit
def _half(block, at, inside):
    """The float16 at byte `at` of each block: every block begins at an even byte."""
    return tl.load((block + at).to(tl.pointer_type(tl.float16)), mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _nibble(block, at, place, inside):
    """Of 16 bytes from `at`: the low nibbles, then the high ones."""
    return (_byte(block, at + (place & 15), inside) >> ((place >> 4) * 4)) & 15


@triton.jit
def _five_bits(block, at, place, inside):
    """32 fifth bits from `at`, and the nibbles behind them."""
    fifth = (_byte(block, at + (place >> 3), inside) >> (place & 7)) & 1
    return (_nibble(block, at + 4, place, inside) | (fifth << 4)).to(tl.float32)


@triton.jit
def _uneven(number):
    low = tl.full(number.shape, UNEVEN_LOW, tl.int64)
    high = tl.full(number.shape, UNEVEN_HIGH, tl.int64)
    shifted = tl.where(number < 8, low, high) >> ((number & 7) * 8).to(tl.int64)
    return (shifted & 255).to(tl.uint8).to(tl.int8, bitcast=True).to(tl.float32)


@triton.jit
def _bfloat16_bits(value):
    """The nearest bfloat16, halves to even, as its 16 bits."""
    bits = value.to(tl.int32, bitcast=True)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    rounded = tl.where(value != value, 0x7FC00000, rounded)
    return (rounded >> 16).to(tl.int16)
