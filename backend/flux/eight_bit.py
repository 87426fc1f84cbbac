"""Products of 8-bit numbers, made from a model's weights when they are first wanted: twice a graphics card's bf16 rate.

fp8: e4m3, a scale for each row of the weight and each token, where the card has such products (capability 8.9). int8:
whole numbers with the same scales, on other cards and on a processor. Both are approximate. Which layers: those of the
blocks. adaLN's run once a picture, and what goes in and comes out at a net's ends meets no other layer, so they stay.

The weights that they are made of leave the device one by one as that happens. They are wanted again when a picture is
painted in full: then those of 8 bits are let go, as making them again takes less than copying them to and fro.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from .dequantise import dequantise
from .modulation import adaln_layers
from .moves import Mover
from .place_weights import replace_layer
from .quantised_linear import LowRankLinear, QuantisedLinear

FORMS = FP8, INT8 = "fp8", "int8"
FP8_MAX = 448.0
INT8_MAX = 127.0
INT_MM_ROWS = 17
"""torch's product of whole numbers on a card takes no fewer rows."""
ALIGNED = 16
"""What inputs and outputs of a layer have to be multiples of."""


class EightBitLinear(nn.Module):
    """y = scale_x scale_w (x8 w8^T) + bias. x8 is made of x in each call, with a scale for each token.

    weight8: (out, in), float8_e4m3fn or int8. scale: (out,) float32. bias: (out,) or None.
    """

    weight8: Tensor
    scale: Tensor
    bias: Tensor | None
    weight: None = None

    def __init__(self, weight8: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight8.shape
        self.register_buffer("weight8", weight8)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features), in x's dtype."""
        rows = x.reshape(-1, self.in_features)
        made, scale = scaled(rows, FP8 if self.weight8.dtype == torch.float8_e4m3fn else INT8)
        product = multiply(made, self.weight8, scale, self.scale, x.dtype)
        if self.bias is not None:
            product = product + self.bias.to(x.dtype)
        return product.reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"{self.in_features} -> {self.out_features}, {self.weight8.dtype}"


def scaled(values: Tensor, form: str) -> tuple[Tensor, Tensor]:
    """(rows, columns) -> the same in 8 bits, and the (rows,) float32 by which each row is to be multiplied."""
    most = FP8_MAX if form == FP8 else INT8_MAX
    values = values.float()
    scale = values.abs().amax(dim=1).clamp(min=1e-12) / most
    share = values / scale[:, None]
    if form == FP8:
        return share.clamp(-most, most).to(torch.float8_e4m3fn), scale
    return share.round().clamp(-most, most).to(torch.int8), scale


def multiply(x8: Tensor, weight8: Tensor, x_scale: Tensor, weight_scale: Tensor, dtype: torch.dtype) -> Tensor:
    """(rows, in) and (out, in) of 8 bits -> (rows, out): by the device's own product, else by the plain one."""
    if not has_product(x8.device, FP8 if x8.dtype == torch.float8_e4m3fn else INT8):
        return plain_product(x8, weight8, x_scale, weight_scale, dtype)
    if x8.dtype == torch.float8_e4m3fn:
        # Scales by rows come in bf16 alone.
        wide = torch._scaled_mm(
            x8, weight8.t(), scale_a=x_scale[:, None], scale_b=weight_scale[None], out_dtype=torch.bfloat16
        )
        return wide.to(dtype)
    rows = len(x8)
    if rows < INT_MM_ROWS and x8.device.type == "cuda":
        x8 = nn.functional.pad(x8, (0, 0, 0, INT_MM_ROWS - rows))
    whole = torch._int_mm(x8, weight8.t())[:rows]
    return (whole.float() * x_scale[:, None] * weight_scale).to(dtype)


def plain_product(x8: Tensor, weight8: Tensor, x_scale: Tensor, weight_scale: Tensor, dtype: torch.dtype) -> Tensor:
    """The same numbers by an ordinary product, for devices without another, and to compare with.

    int8: whole, and so exact in float64; fp8: summed in float32.
    """
    wide = torch.float32 if x8.dtype == torch.float8_e4m3fn else torch.float64
    product = nn.functional.linear(x8.to(wide), weight8.to(wide)).float()
    return (product * x_scale[:, None] * weight_scale).to(dtype)


def has_product(device: torch.device, form: str) -> bool:
    """Whether a device has a product of its own in that form."""
    if device.type != "cuda":
        return form == INT8 and device.type == "cpu"
    capability = torch.cuda.get_device_capability(device)
    return capability >= (8, 9) if form == FP8 else capability >= (7, 5)


def best_form(device: torch.device) -> str:
    """The form that a device is fastest in; whole numbers also where nothing is gained by them."""
    return FP8 if has_product(device, FP8) else INT8


@contextmanager
def in_eight_bits(net: nn.Module, form: str, kept: EightBits) -> Iterator[None]:
    """While it lasts, the blocks of a net compute in 8 bits; its own layers are back afterwards, also after an error.

    kept: what was made of these layers before, and is used again while they are the same. A LoRA's part beside a layer
    stays as it is: only the layer below it is another. The weights of the net's own layers rest in main memory, now and
    afterwards, where the device has a memory of its own.
    """
    replaced: list[tuple[str, nn.Module]] = []
    try:
        for name, layer in block_layers(net):
            below = f"{name}.base" if isinstance(layer, LowRankLinear) else name
            own = net.get_submodule(below)
            replace_layer(net, below, kept.of(own, form))
            replaced.append((below, own))
            for weight in own_weights(own):
                kept.mover.send(weight)
        yield
    finally:
        for name, layer in replaced:
            replace_layer(net, name, layer)


class EightBits:
    """What was made of layers, while their weights are the same: a part that takes room on the device, and may leave.

    mover: knows where the weights lie that it is made of.
    """

    def __init__(self, mover: Mover) -> None:
        self.mover = mover
        self._made: dict[int, tuple[nn.Module, str, EightBitLinear]] = {}

    def of(self, layer: nn.Module, form: str) -> EightBitLinear:
        """The layer in 8 bits, on the device; its own weights need not be there."""
        made = self._made.get(id(layer))
        if made is None or made[0] is not layer or made[1] != form:
            made = (layer, form, eight_bit_layer(layer, form, self.mover.copy))
            self._made[id(layer)] = made
        return made[2]

    def forget(self) -> None:
        """Lets go of all: weights are others now, or their room is needed."""
        self._made.clear()

    @property
    def is_here(self) -> bool:
        return bool(self._made)

    def size(self) -> int:
        """Bytes of what is made."""
        return sum(layer.weight8.nbytes + layer.scale.nbytes for _, _, layer in self._made.values())

    def come(self, check: Callable[[], None] = lambda: None) -> None:
        """Layers are made as they are asked for."""

    def leave(self) -> None:
        self.forget()


def eight_bit_layer(
    layer: nn.Module, form: str, bring: Callable[[Tensor], Tensor] = lambda tensor: tensor
) -> EightBitLinear:
    """A packed or ordinary layer -> one of 8 bits, each row of its weight with a scale of its own.

    bring: gives a weight on the device. The bias is the layer's own, wherever that is.
    """
    if isinstance(layer, QuantisedLinear):
        weight = dequantise(bring(layer.packed), layer.type_name)
    else:
        assert isinstance(layer, nn.Linear)
        weight = bring(layer.weight).detach().float()
    weight8, scale = scaled(weight, form)
    return EightBitLinear(weight8, scale, layer.bias).eval()


def own_weights(layer: nn.Module) -> list[Tensor]:
    """What a layer of 8 bits stands in for; the bias they share."""
    if isinstance(layer, QuantisedLinear):
        return [layer.packed]
    assert isinstance(layer, nn.Linear)
    return [layer.weight]


def made_tensors(net: nn.Module) -> list[Tensor]:
    """What of a net's tensors is of 8 bits, with the scales: those of `EightBits`, not the net's own."""
    layers = [layer for layer in net.modules() if isinstance(layer, EightBitLinear)]
    return [one for layer in layers for one in (layer.weight8, layer.scale)]


def product_bytes(net: nn.Module) -> tuple[int, int]:
    """Of the layers that compute in 8 bits, bytes: what they take so, and what their own weights take."""
    layers = [layer.base if isinstance(layer, LowRankLinear) else layer for _, layer in block_layers(net)]
    made = sum(cast("int", layer.out_features) * (cast("int", layer.in_features) + 4) for layer in layers)
    return made, sum(weight.nbytes for layer in layers for weight in own_weights(layer))


def block_layers(net: nn.Module) -> list[tuple[str, QuantisedLinear | LowRankLinear | nn.Linear]]:
    """The linear layers of a net's blocks, but for adaLN's, by name; those whose sides suit a product of 8 bits."""
    adaln = {id(part) for layer in adaln_layers(net) for part in layer.linear.modules()}
    found: list[tuple[str, QuantisedLinear | LowRankLinear | nn.Linear]] = []
    for name, layer in net.named_modules():
        if not isinstance(layer, QuantisedLinear | LowRankLinear | nn.Linear):
            continue
        is_inside = name.startswith(("transformer_blocks.", "single_transformer_blocks."))
        if not is_inside or id(layer) in adaln or ".base" in name:
            continue
        if layer.in_features % ALIGNED == 0 and layer.out_features % ALIGNED == 0:
            found.append((name, layer))
    return found
