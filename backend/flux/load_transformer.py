"""A file of weights -> diffusers' FluxTransformer2DModel, its weights still packed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

from ..wire import FailureError, FailureKind
from .gguf_file import read_gguf
from .place_weights import Check, Source, no_check, place_weights, unsupported
from .safetensors_file import INDEX_ENDING, read_safetensors
from .transformer_names import Piece, bfl_pieces, is_bfl, without_prefix
from .weight_file import WeightFile

CONFIG_FIELDS = {
    "patch_size", "in_channels", "out_channels", "num_layers", "num_single_layers", "attention_head_dim",
    "num_attention_heads", "joint_attention_dim", "pooled_projection_dim", "guidance_embeds", "axes_dims_rope",
}  # fmt: skip


@dataclass(frozen=True, eq=False, slots=True)
class LoadedTransformer:
    """model: in evaluation mode. types: how many of its linear layers are packed in which number format."""

    model: FluxTransformer2DModel
    types: dict[str, int]


def load_transformer(
    path: Path, config_path: Path, device: torch.device, dtype: torch.dtype, check: Check = no_check
) -> LoadedTransformer:
    """Builds the transformer that `config_path` describes and puts the weights of the file into it.

    path: GGUF, or safetensors (or the index of its shards), with the names of Black Forest Labs or of diffusers.

    dtype: what is computed in, and what biases, norms and unpacked weights are kept in. check: called between the
    layers; ends the loading by raising. Raises `FailureError`.
    """
    file = read_weights(path)
    config = read_config(config_path)
    names = without_prefix(file.tensors)
    _check_architecture(file, set(names))
    model = _empty_model(config, config_path)
    pieces = _pieces_by_target(file, names, model)
    return LoadedTransformer(model.eval(), place_weights(file, model, pieces, device, dtype, check))


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


def _check_architecture(file: WeightFile, names: set[str]) -> None:
    architecture = file.metadata.get("general.architecture", "flux")
    if architecture != "flux":
        unsupported(file, f'holds a model of the kind "{architecture}", not FLUX.1')
    is_diffusers = any(name.startswith("single_transformer_blocks.0.") for name in names)
    if not is_bfl(names) and not is_diffusers:
        unsupported(file, "holds none of FLUX.1's layers")


def _pieces_by_target(
    file: WeightFile, names: dict[str, str], model: FluxTransformer2DModel
) -> dict[str, list[Source]]:
    """The parameter's name in diffusers -> what it is made of."""
    by_bfl_name = is_bfl(names)
    found: dict[str, list[Source]] = {}
    for name, in_file in names.items():
        tensor = file.tensors[in_file]
        rows = tensor.shape[0]
        pieces = list(bfl_pieces(name, rows, model.inner_dim)) if by_bfl_name else [Piece(name, 0, rows, name)]
        if not pieces:
            unsupported(file, f"holds {in_file!r}, which FLUX.1 does not have")
        for piece in pieces:
            found.setdefault(piece.target, []).append(Source(tensor, piece))
    return found
