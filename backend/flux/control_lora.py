"""FLUX.1-Depth and -Canny as a LoRA: a file that makes such a model of FLUX.1-dev's transformer.

It adds to every linear layer a product of two thin matrices, widens the first layer so that it takes the control
picture, and brings norms of its own (Black Forest Labs' flux1-depth-dev-lora and flux1-canny-dev-lora).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor, nn
from torch.nn.functional import pad

from .dequantise import dequantise
from .low_rank import LowRank, beside, place_of
from .place_weights import replace_layer, unsupported
from .products import Linear
from .quantised_linear import QuantisedLinear
from .safetensors_file import read_safetensors
from .transformer_names import Piece, bfl_pieces, is_bfl
from .weight_file import WeightFile

DOWN, UP, BIAS = ".lora_A.weight", ".lora_B.weight", ".lora_B.bias"
DIFFUSERS_PREFIX = "transformer."


def apply_control_lora(
    model: FluxTransformer2DModel, path: Path, dtype: torch.dtype, device: torch.device | None = None
) -> None:
    """Changes the transformer in place: what is not packed is merged, what is packed keeps the addition beside it.

    path: safetensors, in the names of Black Forest Labs or of diffusers. dtype: what is computed in. device: what to
    merge on, layer by layer, if not where the layers are. Raises `FailureError`, also for a LoRA that does not make a
    Depth or Canny model.
    """
    file = read_safetensors(path)
    layers: dict[str, nn.Module] = dict(model.named_modules())
    for target, ranks in _low_ranks(file, model.inner_dim).items():
        layer = layers.get(target)
        if not isinstance(layer, nn.Linear | QuantisedLinear):
            unsupported(file, f"is for a layer {target!r} that this transformer does not have")
        is_first = target == "x_embedder"
        if ranks.up.shape[0] != layer.out_features or (ranks.down.shape[1] != layer.in_features and not is_first):
            unsupported(file, f"does not fit the transformer's layer {target!r}")
        if is_first or isinstance(layer, nn.Linear):
            replace_layer(model, target, _merged(layer, ranks, dtype, device))
        else:
            replace_layer(model, target, beside(layer, [ranks], dtype))
    if model.x_embedder.in_features != 2 * model.proj_out.out_features:
        unsupported(file, "is a LoRA, but not one that takes a control picture in")
    for target, norm in _norms(file, model.inner_dim).items():
        _replace_norm(file, layers, target, norm)


def _low_ranks(file: WeightFile, inner_dim: int) -> dict[str, LowRank]:
    """What is added to each layer, by its name in diffusers."""
    found: dict[str, LowRank] = {}
    for name in file.tensors:
        if not name.endswith(DOWN):
            continue
        layer = name.removesuffix(DOWN)
        if layer + UP not in file.tensors:
            unsupported(file, f"holds {name!r} without its other half")
        down, up = _values(file, name), _values(file, layer + UP)
        bias = _values(file, layer + BIAS).flatten() if layer + BIAS in file.tensors else None
        if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
            unsupported(file, f"holds {name!r} in a shape that its other half does not fit")
        for piece in _pieces(file, f"{layer}.weight", up.shape[0], inner_dim):
            rows = slice(piece.first, piece.last)
            part = LowRank(down, up[rows], None if bias is None else bias[rows])
            target = piece.target.removesuffix(".weight")
            found[target] = found[target].above(part) if target in found else part
    return found


def _norms(file: WeightFile, inner_dim: int) -> dict[str, Tensor]:
    """The norms that take the place of the transformer's, by name; all else that is in the file is refused."""
    found = {}
    for name in file.tensors:
        if name.endswith((DOWN, UP, BIAS)):
            continue
        if not re.search(r"norm(_q|_k|_added_q|_added_k)\.weight$|(query|key)_norm\.scale$", name):
            unsupported(file, f"holds {name!r}, which a control LoRA does not have")
        values = _values(file, name).flatten()
        for piece in _pieces(file, name, len(values), inner_dim):
            found[piece.target] = values
    return found


def _pieces(file: WeightFile, name: str, rows: int, inner_dim: int) -> Iterator[Piece]:
    if not is_bfl(file.tensors):
        yield Piece(name, 0, rows, name.removeprefix(DIFFUSERS_PREFIX))
        return
    pieces = list(bfl_pieces(name, rows, inner_dim))
    if not pieces:
        unsupported(file, f"is for {name!r}, which FLUX.1 does not have")
    yield from pieces


def _values(file: WeightFile, name: str) -> Tensor:
    tensor = file.tensors[name]
    return dequantise(torch.from_numpy(tensor.packed), tensor.type.name).reshape(tensor.shape)


def _merged(
    layer: nn.Linear | QuantisedLinear, ranks: LowRank, dtype: torch.dtype, device: torch.device | None
) -> nn.Linear:
    """An ordinary layer of the sum, as wide as what is added: the weights for more channels were 0. In float32."""
    home = place_of(layer)
    device = device or home
    if isinstance(layer, QuantisedLinear):
        weight = dequantise(layer.packed.to(device), layer.type_name)
    else:
        weight = layer.weight.to(device).float()
    up, down = ranks.up.to(device), ranks.down.to(device)
    total = pad(weight, (0, down.shape[1] - weight.shape[1])) + up @ down
    biases = [bias.to(home).float() for bias in (layer.bias, ranks.bias) if bias is not None]
    with torch.device("meta"):
        merged = Linear(total.shape[1], total.shape[0], bias=bool(biases))
    merged.weight = nn.Parameter(total.to(home, dtype), requires_grad=False)
    if biases:
        merged.bias = nn.Parameter(torch.stack(biases).sum(0).to(dtype), requires_grad=False)
    return merged


def _replace_norm(file: WeightFile, layers: dict[str, nn.Module], target: str, values: Tensor) -> None:
    norm = layers.get(target.removesuffix(".weight"))
    old = getattr(norm, "weight", None)
    if norm is None or old is None or old.shape != values.shape:
        unsupported(file, f"has a norm {target!r} that this transformer does not have")
    norm.register_parameter("weight", nn.Parameter(values.to(old), requires_grad=False))
