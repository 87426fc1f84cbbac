"""Layers that keep their weight packed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .dequantise import dequantise


class QuantisedLinear(nn.Module):
    """y = x W^T + b with W unpacked on the way, in x's dtype.

    packed: (out_features, bytes per row) uint8 in a plain buffer, so that moving, compiling and offloading see an
    ordinary module. bias: (out_features,) or None.
    """

    packed: Tensor
    bias: Tensor | None
    weight: None = None
    """transformers' T5 asks its layers for the dtype of a weight, and passes over what has none."""

    def __init__(self, packed: Tensor, type_name: str, in_features: int, bias: Tensor | None) -> None:
        super().__init__()
        self.type_name = type_name
        self.in_features = in_features
        self.out_features = packed.shape[0]
        self.register_buffer("packed", packed)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features), in x's dtype."""
        weight = dequantise(self.packed, self.type_name, x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return torch.nn.functional.linear(x, weight, bias)

    def extra_repr(self) -> str:
        return f"{self.in_features} -> {self.out_features}, {self.type_name}"


class QuantisedEmbedding(nn.Module):
    """Rows of a packed table, unpacked when they are looked up.

    packed: (words, bytes per row) uint8. dtype: of what comes out.
    """

    packed: Tensor

    def __init__(self, packed: Tensor, type_name: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.type_name, self.dtype = type_name, dtype
        self.register_buffer("packed", packed)

    def forward(self, words: Tensor) -> Tensor:
        """(...) whole numbers -> (..., width)."""
        rows = dequantise(self.packed[words.flatten()], self.type_name, self.dtype)
        return rows.reshape(*words.shape, -1)

    def extra_repr(self) -> str:
        return f"{self.packed.shape[0]} words, {self.type_name}"
