"""Products of 8-bit numbers, made from a model's weights when they are first wanted: twice a graphics card's bf16 rate.

fp8: e4m3, a scale for each row of the weight and each token, where the card has such products (capability 8.9). int8:
whole numbers with the same scales, on other cards and on a processor. Both are approximate. Which layers: those of the
blocks. adaLN's run once a picture, and what goes in and comes out at a net's ends meets no other layer, so they stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .dequantise import dequantise
from .modulation import adaln_layers
from .place_weights import replace_layer
from .quantised_linear import LowRankLinear, QuantisedLinear

FP8, INT8 = "fp8", "int8"
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
    stays as it is: only the layer below it is another.
    """
    replaced: list[tuple[str, nn.Module]] = []
    try:
        for name, layer in block_layers(net):
            below = f"{name}.base" if isinstance(layer, LowRankLinear) else name
            own = net.get_submodule(below)
            replace_layer(net, below, kept.of(own, form))
            replaced.append((below, own))
        yield
    finally:
        for name, layer in replaced:
            replace_layer(net, name, layer)


class EightBits:
    """What was made of layers, while their weights are the same."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[nn.Module, str, EightBitLinear]] = {}

    def of(self, layer: nn.Module, form: str) -> EightBitLinear:
        """The layer in 8 bits, where its weights are; they must be there."""
        made = self._made.get(id(layer))
        if made is None or made[0] is not layer or made[1] != form:
            made = (layer, form, eight_bit_layer(layer, form))
            self._made[id(layer)] = made
        return made[2]

    def forget(self) -> None:
        """Lets go of all: weights are others now."""
        self._made.clear()


def eight_bit_layer(layer: nn.Module, form: str) -> EightBitLinear:
    """A packed or ordinary layer -> one of 8 bits, each row of its weight with a scale of its own."""
    if isinstance(layer, QuantisedLinear):
        weight = dequantise(layer.packed, layer.type_name)
    else:
        assert isinstance(layer, nn.Linear)
        weight = layer.weight.detach().float()
    weight8, scale = scaled(weight, form)
    bias = layer.bias
    return EightBitLinear(weight8, scale, None if bias is None else bias.detach()).eval()


def block_layers(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """The linear layers of a net's blocks, but for adaLN's, by name; those whose sides suit a product of 8 bits."""
    adaln = {id(part) for layer in adaln_layers(net) for part in layer.linear.modules()}
    found: list[tuple[str, nn.Module]] = []
    for name, layer in net.named_modules():
        is_inside = name.startswith(("transformer_blocks.", "single_transformer_blocks."))
        is_linear = isinstance(layer, QuantisedLinear | LowRankLinear | nn.Linear)
        if not is_inside or not is_linear or id(layer) in adaln or ".base" in name:
            continue
        if layer.in_features % ALIGNED == 0 and layer.out_features % ALIGNED == 0:
            found.append((name, layer))
    return found
