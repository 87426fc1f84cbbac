"""Packed tensors of a file -> the parameters of an empty network; linear layers and embeddings stay packed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor, nn

from ..wire import FailureError, FailureKind
from .dequantise import FLOAT_DTYPES, dequantise
from .products import use_best_products
from .quantised_linear import QuantisedEmbedding, QuantisedLinear
from .transformer_names import Piece
from .weight_file import PackedTensor, WeightFile

Check = Callable[[], None]
"""Asked now and then while something takes long; ends it by raising."""


def no_check() -> None:
    """Nobody can end it."""


@dataclass(frozen=True, eq=False, slots=True)
class Source:
    """Some rows of a tensor in a file, still packed."""

    tensor: PackedTensor
    piece: Piece

    @property
    def shape(self) -> tuple[int, ...]:
        rows = self.piece.last - self.piece.first
        return (rows, *self.tensor.shape[1:])

    def packed(self) -> Tensor:
        """(rows, bytes per row) uint8, a view of the file. Rows are the first axis; a 1-D tensor's are its values."""
        packed = torch.from_numpy(self.tensor.packed)
        if len(self.tensor.shape) != 2:
            packed = packed.reshape(self.tensor.shape[0], -1)
        return packed[self.piece.first : self.piece.last]


def place_weights(
    file: WeightFile,
    model: nn.Module,
    pieces: dict[str, list[Source]],
    device: torch.device,
    dtype: torch.dtype,
    check: Check = no_check,
) -> dict[str, int]:
    """Puts what the parameters of `model` (on the meta device) are made of in place; all of it must be there, and fit.

    pieces: by the parameter's name. dtype: what is computed in, and what biases, norms and unpacked weights are kept
    in. check: called between the layers; ends the placing by raising. Returns how many linear layers are packed in
    which number format. Raises `FailureError`.
    """
    _check_complete(file, model, pieces)
    types: Counter[str] = Counter()
    for layer_name, layer in list(model.named_modules()):
        check()
        if isinstance(layer, nn.Linear):
            types[_place_linear(model, layer_name, layer, pieces, device, dtype)] += 1
        elif isinstance(layer, nn.Embedding) and _is_packed(pieces[f"{layer_name}.weight"]):
            source = pieces[f"{layer_name}.weight"][0]
            packed = QuantisedEmbedding(source.packed().to(device), source.tensor.type.name, dtype)
            replace_layer(model, layer_name, packed)
        else:
            for name, parameter in list(layer.named_parameters(recurse=False)):
                value = _joined(pieces[f"{layer_name}.{name}".lstrip(".")], dtype)
                layer.register_parameter(name, _parameter(value.reshape(parameter.shape).to(device)))
    use_best_products(model)
    return dict(types)


def _is_packed(sources: list[Source]) -> bool:
    return sources[0].tensor.type.name not in FLOAT_DTYPES


def replace_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Puts a layer in the place of that name."""
    parent_name, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent_name), child, layer)


def _check_complete(file: WeightFile, model: nn.Module, pieces: dict[str, list[Source]]) -> None:
    wanted = dict(model.named_parameters())
    missing = sorted(set(wanted) - set(pieces))
    extra = sorted(set(pieces) - set(wanted))
    if missing:
        unsupported(file, f"lacks {len(missing)} of the model's weights, {missing[0]!r} among them")
    if extra:
        unsupported(file, f"holds {len(extra)} weights that the model does not have, {extra[0]!r} among them")
    for name, parameter in wanted.items():
        sources = pieces[name]
        shape = (sum(source.shape[0] for source in sources), *sources[0].shape[1:])
        if shape != tuple(parameter.shape):
            unsupported(file, f"holds {name!r} with the shape {shape} where {tuple(parameter.shape)} belongs")
        kind = sources[0].tensor.type
        if len(shape) == 1 and kind.name not in FLOAT_DTYPES and (len(sources) > 1 or sources[0].piece.first):
            unsupported(file, f"holds {name!r} packed as {kind.name}, which cannot be divided")


def _place_linear(
    model: nn.Module,
    name: str,
    layer: nn.Linear,
    pieces: dict[str, list[Source]],
    device: torch.device,
    dtype: torch.dtype,
) -> str:
    """Puts the weights of one linear layer in place and returns the format they are kept in."""
    sources = pieces[f"{name}.weight"]
    bias = None
    if layer.bias is not None:
        bias = _joined(pieces[f"{name}.bias"], dtype).reshape(layer.bias.shape).to(device)
    type_name = sources[0].tensor.type.name
    if FLOAT_DTYPES.get(type_name) == dtype:
        layer.weight = _parameter(_joined(sources, dtype).to(device))
        layer.register_parameter("bias", None if bias is None else _parameter(bias))
        return type_name
    parts = [source.packed() for source in sources]
    packed = parts[0] if len(parts) == 1 else torch.cat(parts)
    replace_layer(model, name, QuantisedLinear(packed.to(device), type_name, layer.in_features, bias))
    return type_name


def _joined(sources: list[Source], dtype: torch.dtype) -> Tensor:
    """The pieces unpacked and one below the other; a 1-D tensor comes back flat."""
    parts = []
    for source in sources:
        if len(source.tensor.shape) == 1 and source.tensor.type.name not in FLOAT_DTYPES:
            whole = torch.from_numpy(source.tensor.packed)
            parts.append(dequantise(whole, source.tensor.type.name, dtype).reshape(-1))
        else:
            parts.append(dequantise(source.packed(), source.tensor.type.name, dtype).reshape(source.shape))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _parameter(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value, requires_grad=False)


def unsupported(file: WeightFile, what: str) -> NoReturn:
    raise FailureError.of(
        FailureKind.MODEL_UNSUPPORTED,
        f"The model file {file.path.name} {what}.",
        "Choose a file of FLUX.1 that belongs to this model.",
        str(file.path),
    )
