"""Turns a transformer's file into GGUF of another number format, one tensor at a time."""

from __future__ import annotations

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
    partial = target.with_name(f".{target.name}.part")
    try:
        with disk_failures(target.parent):
            _write(partial, {name: file.tensors[names[name]] for name in sorted(names)}, type_name, on_tensor)
            partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _write(path: Path, tensors: dict[str, PackedTensor], type_name: str, on_tensor: Callable[[int, int], None]) -> None:
    with closing(GGUFWriter(path, "flux")) as writer:
        _write_tensors(writer, tensors, type_name, on_tensor)


def _write_tensors(
    writer: GGUFWriter, tensors: dict[str, PackedTensor], type_name: str, on_tensor: Callable[[int, int], None]
) -> None:
    kinds = {name: tensor_type(name, one.shape, GGMLQuantizationType[type_name]) for name, one in tensors.items()}
    for name, tensor in tensors.items():
        block_size, block_bytes = GGML_QUANT_SIZES[kinds[name]]
        shape = (*tensor.shape[:-1], tensor.shape[-1] // block_size * block_bytes)
        writer.add_tensor_info(name, shape, np.dtype(np.uint8), int(np.prod(shape)), raw_dtype=kinds[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for number, (name, tensor) in enumerate(tensors.items()):
        values = dequantise(torch.from_numpy(tensor.packed), tensor.type.name).reshape(tensor.shape).numpy()
        writer.write_tensor_data(quantize(values, kinds[name]))
        on_tensor(number + 1, len(tensors))
