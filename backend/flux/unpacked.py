"""A net's packed weights unpacked once, in the dtype that is computed in, and packed again."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from .modulation import adaln_layers
from .moves import Mover, Packed
from .place_weights import replace_layer
from .products import Linear
from .quantised_linear import QuantisedLinear


@dataclass(eq=False, slots=True)
class UnpackedLayers:
    """The layers of one net that are unpacked. packed: what they were, by their names; they stay in main memory.

    adaLN's layers stay packed: each computes once a picture.
    """

    net: nn.Module
    mover: Mover
    packed: dict[str, QuantisedLinear] = field(default_factory=dict)

    def unpack(self, dtype: torch.dtype) -> None:
        """Puts an ordinary layer in the place of each packed one; its weight is made when it comes to the device.

        The packed ones must have left the device.
        """
        adaln = {id(part) for layer in adaln_layers(self.net) for part in layer.linear.modules()}
        for name, layer in list(self.net.named_modules()):
            if isinstance(layer, QuantisedLinear) and id(layer) not in adaln:
                self.packed[name] = layer
                replace_layer(self.net, name, _unpacked(layer, self.mover, dtype))

    def pack(self) -> None:
        """Puts the packed layers back; what was unpacked is gone."""
        for name, layer in self.packed.items():
            replace_layer(self.net, name, layer)
        self.packed.clear()


def _unpacked(layer: QuantisedLinear, mover: Mover, dtype: torch.dtype) -> Linear:
    with torch.device("meta"):
        made = Linear(layer.in_features, layer.out_features, bias=False)
    made.weight = nn.Parameter(torch.empty(0, dtype=dtype), requires_grad=False)
    mover.set_source(made.weight, Packed(layer.packed.data, layer.type_name, (layer.out_features, layer.in_features)))
    if layer.bias is not None:
        made.bias = nn.Parameter(layer.bias.data, requires_grad=False)
        mover.load([made.bias])
    return made.eval()
