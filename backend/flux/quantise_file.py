"""Turns a transformer's file into GGUF of another number format, one tensor at a time."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

from ..wire import FailureError, FailureKind
from ..wire.disk import disk_failures
from .dequantise import dequantise
from .load_transformer import read_weights
from .transformer_names import without_prefix
from .weight_file import PackedTensor
from .write_gguf import tensor_type

WRITABLE = ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "BF16", "F16", "F32")
"""What gguf-py packs; the K formats need llama.cpp's own quantiser."""


def quantise_file(source: Path, target: Path, type_name: str, on_tensor: Callable[[int, int], None]) -> None:
    """Writes `source` (safetensors or GGUF) as GGUF to `target`, whole or not at all.

    type_name: one of WRITABLE, for the matrices of the blocks; the outer layers stay 16 bits and vectors 32, as in the
    files that others make. The names are kept, without the prefix of whole checkpoints. on_tensor: called with how many
    tensors are written, and of how many. Never more than one tensor is in memory beside the mapped file.
    Raises `FailureError`: bad_request (type, or a target that is there), what reading raises, disk_full, not_writable.
    """
    if type_name not in WRITABLE:
        hint = f"Use one of {', '.join(WRITABLE)}; for the K formats use llama.cpp's quantiser on the F16 file."
        raise FailureError.of(FailureKind.BAD_REQUEST, f"Weights cannot be packed as {type_name} here.", hint)
    if target.exists():
        raise FailureError.of(
            FailureKind.BAD_REQUEST, f"The file {target.name} is there already.", "Choose another name, or remove it."
        )
    file = read_weights(source)
    names = without_prefix(file.tensors)
    tensors = {name: file.tensors[names[name]] for name in sorted(names)}
    kinds = {name: tensor_type(name, one.shape, GGMLQuantizationType[type_name]) for name, one in tensors.items()}
    _check_room(target.parent, sum(math.prod(packed_shape(one, kinds[name])) for name, one in tensors.items()))
    partial = target.with_name(f".{target.name}.part")
    try:
        with disk_failures(target.parent), closing(GGUFWriter(partial, "flux")) as writer:
            _write_tensors(writer, tensors, kinds, on_tensor)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def packed_shape(tensor: PackedTensor, kind: GGMLQuantizationType) -> tuple[int, ...]:
    """The tensor's shape in bytes when it is packed as `kind`."""
    block_size, block_bytes = GGML_QUANT_SIZES[kind]
    return (*tensor.shape[:-1], tensor.shape[-1] // block_size * block_bytes)


def _check_room(folder: Path, needed: int) -> None:
    with disk_failures(folder):
        free = shutil.disk_usage(folder).free
    # The file's tables take a little more than its weights.
    if free < 1.01 * needed + 2**20:
        raise FailureError.of(
            FailureKind.DISK_FULL,
            f"The new file has {needed / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free in {folder}.",
            "Make room there, or choose a smaller type or another folder.",
        )


def _write_tensors(
    writer: GGUFWriter,
    tensors: dict[str, PackedTensor],
    kinds: dict[str, GGMLQuantizationType],
    on_tensor: Callable[[int, int], None],
) -> None:
    for name, tensor in tensors.items():
        shape = packed_shape(tensor, kinds[name])
        writer.add_tensor_info(name, shape, np.dtype(np.uint8), math.prod(shape), raw_dtype=kinds[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for number, (name, tensor) in enumerate(tensors.items()):
        values = dequantise(torch.from_numpy(tensor.packed), tensor.type.name).reshape(tensor.shape).numpy()
        writer.write_tensor_data(quantize(values, kinds[name]))
        on_tensor(number + 1, len(tensors))
