"""adaLN before the loop: what shifts, scales and gates each block depends on the call and the prompt, not the latents.

In FLUX.1-dev those layers are 27 % of the weights, each a product with one vector. All calls that a sampler declares go
through each of them in one product, so their weights are unpacked once a job instead of once a call, and the loop looks
the rows up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from diffusers.models.normalization import AdaLayerNormContinuous, AdaLayerNormZero, AdaLayerNormZeroSingle
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor, nn
from torch.func import functional_call

from .forward import Prepared

ADALN = (AdaLayerNormZero, AdaLayerNormZeroSingle, AdaLayerNormContinuous)
"""diffusers' layers of the form linear(silu(modulation))."""
ROWS_MAX = 256
"""Half a gigabyte of FLUX.1-dev's rows. A sampler that may make more calls computes in each that it makes."""


class LookUp(nn.Module):
    """Rows of a table instead of linear(silu(x)). table: (rows, outputs)."""

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table)

    def forward(self, row: Tensor) -> Tensor:
        """(n,) whole numbers -> (n, outputs)."""
        return self.table.index_select(0, row)


@contextmanager
def looked_up(
    net: FluxTransformer2DModel | FluxControlNetModel, prepared: Sequence[Prepared]
) -> Iterator[list[Prepared]]:
    """While it lasts, the net's adaLN layers look up what they would make of `prepared`, made in one pass before.

    Gives the same Prepared with the numbers of rows for a modulation: what to call the net with inside. Equal to
    computing in each call but for the order of the sums in a product (7e-7). The layers are as they were afterwards,
    also when the loop ends by raising. Their weights may lie elsewhere: they come one layer at a time.
    """
    vectors = torch.cat([one.modulation for one in prepared])
    if len(vectors) > ROWS_MAX:
        yield list(prepared)
        return
    layers = [module for module in net.modules() if isinstance(module, ADALN)]
    kept = [(layer.silu, layer.linear) for layer in layers]
    tables = [LookUp(_table(layer.linear, layer.silu(vectors))) for layer in layers]
    rows = torch.arange(len(vectors), device=vectors.device).split([len(one.modulation) for one in prepared])
    try:
        # In place of the SiLU, not of the linear layer: between the two the last norm rounds to the dtype it computes
        # in, where a row's number would not survive.
        for layer, table in zip(layers, tables, strict=True):
            layer.silu, layer.linear = table, nn.Identity()  # type: ignore[assignment]
        yield [replace(one, modulation=own) for one, own in zip(prepared, rows, strict=True)]
    finally:
        for layer, (silu, linear) in zip(layers, kept, strict=True):
            layer.silu, layer.linear = silu, linear


def _table(linear: nn.Module, vectors: Tensor) -> Tensor:
    """(rows, width) -> (rows, outputs), on the vectors' device, wherever the weights are."""
    weights = {name: value.to(vectors.device) for name, value in linear.state_dict().items()}
    return functional_call(linear, weights, (vectors,))
