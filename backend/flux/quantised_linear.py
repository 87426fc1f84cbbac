"""Layers that keep their weight packed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .dequantise import dequantise
from .products import linear
from .unpack import unpacked_for_now


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
        weight = unpacked_for_now(self.packed, self.type_name, x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return linear(x, weight, bias)

    def extra_repr(self) -> str:
        return f"{self.in_features} -> {self.out_features}, {self.type_name}"


class LowRankLinear(nn.Module):
    """y = base(x) + up (down x) + bias: what a LoRA adds to a layer whose weight stays packed.

    down: (rank, in_features). up: (out_features, rank). bias: (out_features,) or None. All in the dtype that is
    computed in.
    """

    down: Tensor
    up: Tensor
    bias: Tensor | None

    def __init__(self, base: nn.Module, down: Tensor, up: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.base = base
        self.in_features, self.out_features = down.shape[1], up.shape[0]
        self.register_buffer("down", down)
        self.register_buffer("up", up)
        self.register_buffer("bias", bias)

    @property
    def weight(self) -> Tensor | None:
        """The base's alone, for transformers' T5, which asks for its dtype; None where that is packed."""
        weight = self.base.weight
        return weight if isinstance(weight, Tensor) else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features), in x's dtype."""
        low = linear(x, self.down.to(x.dtype))
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return self.base(x) + linear(low, self.up.to(x.dtype), bias)


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
