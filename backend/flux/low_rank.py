"""What a LoRA adds to a linear layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from .quantised_linear import LowRankLinear


@dataclass(frozen=True, eq=False, slots=True)
class LowRank:
    """scale x (up x down), and a bias. down: (rank, in). up: (out, rank). bias: (out,) or None.

    scale: what a file says by its alpha, alpha / rank.
    """

    down: Tensor
    up: Tensor
    bias: Tensor | None = None
    scale: float = 1.0

    def above(self, other: LowRank) -> LowRank:
        """With the other's rows below these; both have the same `down` and scale."""
        bias = None if self.bias is None or other.bias is None else torch.cat((self.bias, other.bias))
        return LowRank(self.down, torch.cat((self.up, other.up)), bias, self.scale)

    def rows(self, first: int, last: int) -> LowRank:
        """What is added to some of the layer's rows, without the ranks that add nothing there.

        Files that were trained on divided layers and written as fused ones hold the parts as blocks between zeros.
        """
        up = self.up[first:last]
        used = up.float().any(dim=0)
        bias = None if self.bias is None else self.bias[first:last]
        if used.all():
            return LowRank(self.down, up, bias, self.scale)
        return LowRank(self.down[used], up[:, used], bias, self.scale)

    def times(self, strength: float) -> LowRank:
        """With a share of what it adds, also of its bias."""
        bias = None if self.bias is None else self.bias.float() * strength
        return replace(self, bias=bias, scale=self.scale * strength)


def place_of(layer: nn.Module) -> torch.device:
    """Where a layer's weights are."""
    return next(iter([*layer.parameters(), *layer.buffers()])).device


def beside(layer: nn.Module, parts: Sequence[LowRank], dtype: torch.dtype) -> LowRankLinear:
    """The layer with all parts beside it as one product: their ranks one after the other, scaled in `up`.

    A part whose `down` is narrower than the layer leaves the layer's further inputs alone. A layer that has something
    beside it already (a control LoRA) keeps that, in the same product.
    """
    if isinstance(layer, LowRankLinear):
        parts, layer = [LowRank(layer.down, layer.up, layer.bias), *parts], layer.base
    device = place_of(layer)
    width = cast("int", layer.in_features)
    downs = [pad(part.down.to(device, dtype), (0, width - part.down.shape[1])) for part in parts]
    return LowRankLinear(layer, torch.cat(downs), *_scaled(parts, device, dtype))


def rescale(layer: LowRankLinear, original: nn.Module, parts: Sequence[LowRank]) -> None:
    """Gives what `beside` made of these parts other scales, in place."""
    if isinstance(original, LowRankLinear):
        parts = [LowRank(original.down, original.up, original.bias), *parts]
    up, bias = _scaled(parts, layer.up.device, layer.up.dtype)
    layer.up.copy_(up)
    if layer.bias is not None and bias is not None:
        layer.bias.copy_(bias)


def merge(weight: Tensor, bias: Tensor | None, parts: Sequence[LowRank], to: nn.Linear) -> None:
    """Fills `to` with weight and bias and all that the parts add, summed in float32 and rounded once."""
    device = to.weight.device
    total = weight.to(device, torch.float32, copy=True)
    for part in parts:
        up, down = part.up.to(device, torch.float32), part.down.to(device, torch.float32)
        total[:, : down.shape[1]].addmm_(up, down, alpha=part.scale)
    to.weight.copy_(total)
    biases = [one.to(device, torch.float32) for one in (bias, *(part.bias for part in parts)) if one is not None]
    if biases:
        to.bias.copy_(torch.stack(biases).sum(0))


def _scaled(parts: Sequence[LowRank], device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """The parts' `up` side by side, each times its scale, and the sum of their biases."""
    ups = [(part.up.to(device, torch.float32) * part.scale).to(dtype) for part in parts]
    biases = [part.bias.to(device, torch.float32) for part in parts if part.bias is not None]
    return torch.cat(ups, dim=1), torch.stack(biases).sum(0).to(dtype) if biases else None
