"""Weights -> GGUF's blocks: the way back from `dequantise`."""

from __future__ import annotations

import torch
from gguf import GGMLQuantizationType
from gguf.quants import quantize
from torch import Tensor

Q8_0_BLOCK = 32


def pack_weights(values: Tensor, type_name: str) -> Tensor:
    """(rows, columns) float32 -> (rows, bytes per row) uint8, on the same device. Columns are whole blocks.

    The same bytes as gguf-py's, which packs in numpy and takes minutes for a ControlNet.
    """
    if type_name == "Q8_0":
        return pack_q8_0(values)
    packed = quantize(values.cpu().numpy(), GGMLQuantizationType[type_name])
    return torch.from_numpy(packed.reshape(len(values), -1)).to(values.device)


def pack_q8_0(values: Tensor) -> Tensor:
    """Blocks of 32 weights: a float16 scale, and 32 whole numbers of one byte."""
    blocks = values.float().reshape(-1, Q8_0_BLOCK)
    scale = blocks.abs().amax(dim=1, keepdim=True) / 127.0
    scaled = blocks * torch.where(scale == 0.0, scale, 1.0 / scale)
    # Halves away from zero, as in C; torch rounds them to even.
    size = scaled.abs()
    numbers = (scaled.sign() * (size.floor() + (2.0 * (size - size.floor())).floor())).to(torch.int8)
    packed = torch.cat((scale.to(torch.float16).view(torch.uint8), numbers.view(torch.uint8)), dim=1)
    return packed.reshape(len(values), -1)
