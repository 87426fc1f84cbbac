"""A file of weights -> diffusers' FluxTransformer2DModel, its weights still packed."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor, nn

from ..wire import FailureError, FailureKind
from .dequantise import FLOAT_DTYPES, dequantise
from .gguf_file import read_gguf
from .quantised_linear import QuantisedLinear
from .safetensors_file import INDEX_ENDING, read_safetensors
from .transformer_names import Piece, bfl_pieces, is_bfl, without_prefix
from .weight_file import PackedTensor, WeightFile

CONFIG_FIELDS = {
    "patch_size", "in_channels", "out_channels", "num_layers", "num_single_layers", "attention_head_dim",
    "num_attention_heads", "joint_attention_dim", "pooled_projection_dim", "guidance_embeds", "axes_dims_rope",
}  # fmt: skip


@dataclass(frozen=True, eq=False, slots=True)
class LoadedTransformer:
    """model: in evaluation mode. types: how many of its linear layers are packed in which number format."""

    model: FluxTransformer2DModel
    types: dict[str, int]


def load_transformer(path: Path, config_path: Path, device: torch.device, dtype: torch.dtype) -> LoadedTransformer:
    """Builds the transformer that `config_path` describes and puts the weights of the file into it.

    path: GGUF, or safetensors (or the index of its shards), with the names of Black Forest Labs or of diffusers.

    dtype: what is computed in, and what biases, norms and unpacked weights are kept in. Raises `FailureError`.
    """
    file = read_weights(path)
    config = read_config(config_path)
    names = without_prefix(file.tensors)
    _check_architecture(file, set(names))
    model = _empty_model(config, config_path)
    pieces = _pieces_by_target(file, names, model)
    _check_complete(file, model, pieces)
    types: Counter[str] = Counter()
    for layer_name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear):
            types[_place_linear(model, layer_name, layer, pieces, device, dtype)] += 1
        else:
            for name, parameter in list(layer.named_parameters(recurse=False)):
                value = _joined(pieces[f"{layer_name}.{name}".lstrip(".")], dtype)
                layer.register_parameter(name, _parameter(value.reshape(parameter.shape).to(device)))
    return LoadedTransformer(model.eval(), dict(types))


def read_weights(path: Path) -> WeightFile:
    """Reads a file's tables in the form that its name says: safetensors, else GGUF. Raises `FailureError`."""
    return read_safetensors(path) if path.name.endswith((".safetensors", INDEX_ENDING)) else read_gguf(path)


def read_config(path: Path) -> dict[str, object]:
    """The transformer's shape from its config.json, without the fields that are about diffusers itself."""
    try:
        data = json.loads(path.read_text())
        return {key: value for key, value in data.items() if key in CONFIG_FIELDS}
    except FileNotFoundError:
        raise FailureError.of(
            FailureKind.MODEL_MISSING,
            f"The model's file {path.parent.name}/{path.name} is not there.",
            "Download the model again.",
            str(path),
        ) from None
    except (ValueError, AttributeError) as error:
        raise broken_config(path, error) from error


def _empty_model(config: dict[str, object], config_path: Path) -> FluxTransformer2DModel:
    try:
        with torch.device("meta"):
            return FluxTransformer2DModel(**config)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise broken_config(config_path, error) from error


def broken_config(path: Path, error: Exception) -> FailureError:
    return FailureError.of(
        FailureKind.MODEL_BROKEN,
        f"The model's file {path.parent.name}/{path.name} is damaged.",
        "Download the model again.",
        f"{path}: {error}",
    )


@dataclass(frozen=True, eq=False, slots=True)
class _Source:
    """Some rows of a tensor in the file, still packed."""

    tensor: PackedTensor
    piece: Piece

    @property
    def shape(self) -> tuple[int, ...]:
        rows = self.piece.last - self.piece.first
        return (rows, *self.tensor.shape[1:])

    def packed(self) -> Tensor:
        """(rows, bytes per row) uint8, a view of the file. A 1-D tensor's "rows" are its values."""
        packed = torch.from_numpy(self.tensor.packed)
        if len(self.tensor.shape) == 1:
            packed = packed.reshape(self.tensor.shape[0], -1)
        return packed[self.piece.first : self.piece.last]


def _check_architecture(file: WeightFile, names: set[str]) -> None:
    architecture = file.metadata.get("general.architecture", "flux")
    if architecture != "flux":
        _unsupported(file, f'holds a model of the kind "{architecture}", not FLUX.1')
    is_diffusers = any(name.startswith("single_transformer_blocks.0.") for name in names)
    if not is_bfl(names) and not is_diffusers:
        _unsupported(file, "holds none of FLUX.1's layers")


def _pieces_by_target(
    file: WeightFile, names: dict[str, str], model: FluxTransformer2DModel
) -> dict[str, list[_Source]]:
    """The parameter's name in diffusers -> what it is made of."""
    by_bfl_name = is_bfl(names)
    found: dict[str, list[_Source]] = {}
    for name, in_file in names.items():
        tensor = file.tensors[in_file]
        rows = tensor.shape[0]
        pieces = list(bfl_pieces(name, rows, model.inner_dim)) if by_bfl_name else [Piece(name, 0, rows, name)]
        if not pieces:
            _unsupported(file, f"holds {in_file!r}, which FLUX.1 does not have")
        for piece in pieces:
            found.setdefault(piece.target, []).append(_Source(tensor, piece))
    return found


def _check_complete(file: WeightFile, model: FluxTransformer2DModel, pieces: dict[str, list[_Source]]) -> None:
    wanted = dict(model.named_parameters())
    missing = sorted(set(wanted) - set(pieces))
    extra = sorted(set(pieces) - set(wanted))
    if missing:
        _unsupported(file, f"lacks {len(missing)} of the model's weights, {missing[0]!r} among them")
    if extra:
        _unsupported(file, f"holds {len(extra)} weights that the model does not have, {extra[0]!r} among them")
    for name, parameter in wanted.items():
        sources = pieces[name]
        shape = (sum(source.shape[0] for source in sources), *sources[0].shape[1:])
        if shape != tuple(parameter.shape):
            _unsupported(file, f"holds {name!r} with the shape {shape} where {tuple(parameter.shape)} belongs")
        kind = sources[0].tensor.type
        if len(shape) == 1 and kind.name not in FLOAT_DTYPES and (len(sources) > 1 or sources[0].piece.first):
            _unsupported(file, f"holds {name!r} packed as {kind.name}, which cannot be divided")


def _place_linear(
    model: nn.Module,
    name: str,
    layer: nn.Linear,
    pieces: dict[str, list[_Source]],
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
    parent_name, _, child = name.rpartition(".")
    quantised = QuantisedLinear(packed.to(device), type_name, layer.in_features, bias)
    setattr(model.get_submodule(parent_name), child, quantised)
    return type_name


def _joined(sources: list[_Source], dtype: torch.dtype) -> Tensor:
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


def _unsupported(file: WeightFile, what: str) -> NoReturn:
    raise FailureError.of(
        FailureKind.MODEL_UNSUPPORTED,
        f"The model file {file.path.name} {what}.",
        "Choose a file of FLUX.1 that belongs to this model.",
        str(file.path),
    )
