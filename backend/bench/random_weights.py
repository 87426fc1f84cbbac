"""Random weights in the number formats of GGUF, with sane scales: 3 per cent of random float16 are infinite or NaN."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import cache
from pathlib import Path

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from numpy.typing import NDArray

from ..flux.dequantise import dequantise
from ..flux.write_gguf import tensor_type

SCALES: dict[str, dict[int, float]] = {
    "Q8_0": {0: 1.0},
    "Q4_0": {0: 1.0},
    "Q5_0": {0: 1.0},
    "Q4_K": {0: 1.0, 2: 7.5},
    "Q5_K": {0: 1.0, 2: 15.5},
    "Q6_K": {208: 1.0},
}
"""Where in a block its float16 numbers are, in bytes, and how they relate so that the weights' mean is about 0."""


def random_packed(type_name: str, rows: int, columns: int, spread: float, chance: np.random.Generator) -> NDArray:
    """(rows, bytes per row) uint8: random weights of mean 0 and standard deviation `spread`, packed as `type_name`.

    type_name: of SCALES, or a format without blocks (F32, F16, BF16).
    """
    kind = GGMLQuantizationType[type_name]
    if type_name not in SCALES:
        values = chance.standard_normal((rows, columns), np.float32) * np.float32(spread)
        return np.ascontiguousarray(quantize(values, kind)).view(np.uint8).reshape(rows, -1)
    block_size, block_bytes = GGML_QUANT_SIZES[kind]
    blocks = np.frombuffer(bytearray(chance.bytes(rows * columns // block_size * block_bytes)), np.uint8)
    blocks = blocks.reshape(-1, block_bytes)
    _set_scales(blocks, type_name, spread / unit_spread(type_name))
    return blocks.reshape(rows, -1)


@cache
def unit_spread(type_name: str) -> float:
    """The standard deviation of random blocks with a scale of 1."""
    block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[type_name]][1]
    blocks = np.random.default_rng(0).integers(0, 256, (4096, block_bytes), np.uint8)
    _set_scales(blocks, type_name, 1.0)
    return float(dequantise(torch.from_numpy(blocks), type_name).std())


def _set_scales(blocks: NDArray[np.uint8], type_name: str, scale: float) -> None:
    for place, factor in SCALES[type_name].items():
        blocks[:, place : place + 2] = np.array([scale * factor], np.float16).view(np.uint8)


def write_random_gguf(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    type_name: str,
    architecture: str,
    on_tensor: Callable[[int, int], None],
    seed: int = 0,
) -> None:
    """Writes tensors of these names and shapes, whole or not at all, with one of them at a time in memory.

    Matrices spread as 1 / sqrt(inputs), biases as 0.1; norms and scales are near 1. on_tensor: called with how many
    tensors are written, and of how many.
    """
    chance = np.random.Generator(np.random.SFC64(seed))
    kinds = {name: tensor_type(name, shape, GGMLQuantizationType[type_name]).name for name, shape in shapes.items()}
    partial = path.with_name(f".{path.name}.part")
    partial.unlink(missing_ok=True)
    with closing(GGUFWriter(partial, architecture)) as writer:
        for name, shape in shapes.items():
            kind = GGMLQuantizationType[kinds[name]]
            block_size, block_bytes = GGML_QUANT_SIZES[kind]
            packed = (*shape[:-1], shape[-1] // block_size * block_bytes)
            writer.add_tensor_info(name, packed, np.dtype(np.uint8), math.prod(packed), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for number, (name, shape) in enumerate(shapes.items()):
            writer.write_tensor_data(_random_tensor(name, shape, kinds[name], chance))
            on_tensor(number + 1, len(shapes))
    partial.replace(path)


def _random_tensor(name: str, shape: tuple[int, ...], kind: str, chance: np.random.Generator) -> NDArray:
    if len(shape) == 1:
        values = chance.standard_normal(shape[0], np.float32) * np.float32(0.1)
        return values if name.endswith("bias") else values + np.float32(1.0)
    return random_packed(kind, math.prod(shape[:-1]), shape[-1], 1.0 / math.sqrt(shape[-1]), chance)
