"""Reads safetensors files, whole or in shards: memory-mapped, checked by the library that defines the format."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NoReturn

import torch
from safetensors import SafetensorError, safe_open

from ..wire import FailureError, FailureKind
from ..wire.request import is_plain_name
from .weight_file import PackedTensor, TensorType, WeightFile

INDEX_ENDING = ".safetensors.index.json"
"""How the list of a model in shards ends, as diffusers writes it."""
TENSOR_TYPES = {
    "F32": TensorType("F32", 1, 4),
    "F16": TensorType("F16", 1, 2),
    "BF16": TensorType("BF16", 1, 2),
    "F8_E4M3": TensorType("F8_E4M3", 1, 1),
    "F8_E5M2": TensorType("F8_E5M2", 1, 1),
}


def read_safetensors(path: Path) -> WeightFile:
    """Maps a .safetensors file, or all that a .safetensors.index.json names; no weight is read or copied.

    Raises `FailureError`: model_missing, model_broken (damaged, truncated, a shard that lacks what it should hold) or
    model_unsupported (another number format).
    """
    if not path.is_file():
        _missing(path)
    if not path.name.endswith(INDEX_ENDING):
        return WeightFile(path, {}, _tensors(path))
    tensors: dict[str, PackedTensor] = {}
    places = read_index(path)
    for shard in sorted(set(places.values())):
        if not (path.parent / shard).is_file():
            _missing(path.parent / shard)
        tensors |= _tensors(path.parent / shard)
    lost = sorted(name for name in places if name not in tensors)
    if lost:
        _broken(path, f"names {len(lost)} weights that its files do not hold, {lost[0]!r} among them")
    return WeightFile(path, {}, {name: tensors[name] for name in places})


def read_index(path: Path) -> dict[str, str]:
    """Each weight's name -> the name of the file beside the index that holds it."""
    try:
        places = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = {str(name): str(shard) for name, shard in places.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _broken(path, "is not a list of a model's files", str(error))
    if not all(is_plain_name(shard) and shard.endswith(".safetensors") for shard in names.values()):
        _broken(path, "names files outside of its folder")
    return names


def _tensors(path: Path) -> dict[str, PackedTensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: _tensor(path, name, file) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except (SafetensorError, OSError, ValueError) as error:
        _broken(path, "is damaged, or is not a safetensors file", str(error))


def _tensor(path: Path, name: str, file: safe_open) -> PackedTensor:
    type_name = file.get_slice(name).get_dtype()
    kind = TENSOR_TYPES.get(type_name)
    if kind is None:
        raise FailureError.of(
            FailureKind.MODEL_UNSUPPORTED,
            f"The model file {path.name} uses the number format {type_name}, which this version cannot read.",
            f"Choose a FLUX.1 file in one of {', '.join(TENSOR_TYPES)}.",
            f"{path}: {name}",
        )
    # The library's tensors lie in the mapped file.
    tensor = file.get_tensor(name)
    shape = tuple(tensor.shape) or (1,)
    rows = math.prod(shape[:-1])
    packed = tensor.reshape(rows, shape[-1]).view(torch.uint8).numpy()
    return PackedTensor(name, shape, kind, packed)


def _missing(path: Path) -> NoReturn:
    raise FailureError.of(
        FailureKind.MODEL_MISSING,
        f"The model file {path.name} is not there.",
        "Download the model again, or choose another one.",
        str(path),
    )


def _broken(path: Path, what: str, detail: str = "") -> NoReturn:
    raise FailureError.of(
        FailureKind.MODEL_BROKEN,
        f"The model file {path.name} {what}.",
        "Download it again; the file is damaged or not what its name says.",
        f"{path} {detail}".strip(),
    )
