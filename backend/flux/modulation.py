"""adaLN before the loop: what shifts, scales and gates each block depends on the call and the prompt, not the latents.

In FLUX.1-dev those layers are 27 % of the weights, each a product with one vector. All calls that a sampler declares go
through each of them in one product, so their weights are unpacked once a job instead of once a call, and the loop looks
the rows up. Where the device has a memory of its own, those weights rest in main memory: they come layer by layer for a
new prompt, and are gone again when the tables are made.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from diffusers.models.normalization import AdaLayerNormContinuous, AdaLayerNormZero, AdaLayerNormZeroSingle
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor, nn
from torch.func import functional_call

from .forward import Prepared
from .moves import Mover, tensors_of

ADALN = (AdaLayerNormZero, AdaLayerNormZeroSingle, AdaLayerNormContinuous)
"""diffusers' layers of the form linear(silu(modulation))."""
ROWS_MAX = 256
"""Half a gigabyte of FLUX.1-dev's rows. A sampler that may make more calls computes in each that it makes."""
TABLES_KEPT = 2
"""Of each net: the passes of a picture that is painted in two sizes."""


class LookUp(nn.Module):
    """Rows of a table instead of linear(silu(x)). table: (rows, outputs)."""

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table)

    def forward(self, row: Tensor) -> Tensor:
        """(n,) whole numbers -> (n, outputs)."""
        return self.table.index_select(0, row)


class AdalnWeights:
    """The weights of nets' adaLN at rest, and the tables that were made of them last.

    mover: knows where they rest.
    """

    def __init__(self, mover: Mover) -> None:
        self.mover = mover
        self._tables: WeakKeyDictionary[nn.Module, OrderedDict[Tensor, list[Tensor]]] = WeakKeyDictionary()

    def rest(self, net: nn.Module) -> None:
        """Takes in a net that was loaded, in main memory still: these weights of it do not come along."""
        self.mover.load(tensors_of(*_linears(net)))

    def forget(self) -> None:
        """Lets go of all tables: the weights are others now."""
        self._tables.clear()

    def tables(self, net: nn.Module, vectors: Tensor) -> list[Tensor]:
        """(rows, width) -> of each adaLN layer of the net (rows, outputs), made now or before.

        Those of a prompt that comes again, with the same steps and guidance, need no weights.
        """
        if not self.mover.apart:
            return self._made(net, vectors)
        kept = self._tables.setdefault(net, OrderedDict())
        found = next((key for key in kept if key.shape == vectors.shape and torch.equal(key, vectors)), None)
        if found is None:
            kept[vectors] = self._made(net, vectors)
            found = vectors
        kept.move_to_end(found)
        while len(kept) > TABLES_KEPT:
            kept.popitem(last=False)
        return kept[found]

    def _made(self, net: nn.Module, vectors: Tensor) -> list[Tensor]:
        return [self._table(layer, vectors) for layer in adaln_layers(net)]

    def _table(self, layer: Any, vectors: Tensor) -> Tensor:
        own = {id(one): self.mover.copy(one, again=True) for one in tensors_of(layer.linear)}
        named = [*layer.linear.named_parameters(), *layer.linear.named_buffers()]
        return functional_call(layer.linear, {name: own[id(one)] for name, one in named}, (layer.silu(vectors),))

    @contextmanager
    def all_here(self, net: nn.Module) -> Iterator[None]:
        """The weights are on the device while this lasts, for a sampler that computes with them in each call."""
        tensors = tensors_of(*_linears(net))
        try:
            for tensor in tensors:
                self.mover.bring(tensor, again=True)
            yield
        finally:
            for tensor in tensors:
                self.mover.send(tensor)


def adaln_layers(net: nn.Module) -> list[Any]:
    """Of the types in ADALN."""
    return [module for module in net.modules() if isinstance(module, ADALN)]


def _linears(net: nn.Module) -> list[nn.Module]:
    return [layer.linear for layer in adaln_layers(net)]


def own_tensors(net: nn.Module) -> list[Tensor]:
    """A net's parameters and buffers, each once, without adaLN's weights and without tables in their place."""
    parts = [part for layer in adaln_layers(net) for part in (layer.silu, layer.linear)]
    left_out = {id(one) for one in tensors_of(*parts)}
    return [one for one in tensors_of(net) if id(one) not in left_out]


@contextmanager
def looked_up(
    net: FluxTransformer2DModel | FluxControlNetModel, prepared: Sequence[Prepared], weights: AdalnWeights
) -> Iterator[list[Prepared]]:
    """While it lasts, the net's adaLN layers look up what they would make of `prepared`, made in one pass before.

    Gives the same Prepared with the numbers of rows for a modulation: what to call the net with inside. Equal to
    computing in each call but for the order of the sums in a product (7e-7). The layers are as they were afterwards,
    also when the loop ends by raising.
    """
    vectors = torch.cat([one.modulation for one in prepared])
    if len(vectors) > ROWS_MAX:
        with weights.all_here(net):
            yield list(prepared)
        return
    layers = adaln_layers(net)
    kept = [(layer.silu, layer.linear) for layer in layers]
    tables = [LookUp(table) for table in weights.tables(net, vectors)]
    rows = torch.arange(len(vectors), device=vectors.device).split([len(one.modulation) for one in prepared])
    try:
        # In place of the SiLU, not of the linear layer: between the two the last norm rounds to the dtype it computes
        # in, where a row's number would not survive.
        for layer, table in zip(layers, tables, strict=True):
            layer.silu, layer.linear = table, nn.Identity()
        yield [replace(one, modulation=own) for one, own in zip(prepared, rows, strict=True)]
    finally:
        for layer, (silu, linear) in zip(layers, kept, strict=True):
            layer.silu, layer.linear = silu, linear
