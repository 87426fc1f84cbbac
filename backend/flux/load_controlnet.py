"""ControlNets, from safetensors or GGUF; their weights stay packed, or are packed when they are loaded.

They come as bf16 files of 1.5 to 6.6 GB. In Q8_0 a net takes 53 per cent of that, in Q4_0 28.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from gguf import GGMLQuantizationType

from .dequantise import FLOAT_DTYPES, dequantise
from .gguf_file import TENSOR_TYPES, read_gguf
from .load_parts import broken, load_part, only_gguf, require, without_deprecations
from .net_family import check_net_family
from .pack_weights import pack_weights
from .place_weights import Check, Source, no_check, place_weights
from .safetensors_file import INDEX_ENDING, read_safetensors
from .transformer_names import Piece
from .weight_file import PackedTensor, WeightFile
from .write_gguf import tensor_type

KEPT = "controlnet_"
"""Layers that are a net's own, beside the blocks: what goes in, and what comes out as residuals. They are few, and an
error in them meets no other layer, so they stay as they are."""


def load_controlnet(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    weights: str = "",
    check: Check = no_check,
    pack_on: torch.device | None = None,
) -> FluxControlNetModel:
    """The net from config.json and one GGUF file or safetensors in `folder`, in evaluation mode.

    weights: a number format of GGUF to pack the blocks' weights in; "" for as they are. A GGUF file stays as it is.
    check: called between tensors that are packed or placed; ends the loading by raising. pack_on: the device to pack
    on, if not the one that the net is loaded to. Raises `FailureError`.
    """
    check_net_family(folder)
    found = only_gguf(folder)
    if found is None and not weights:
        return load_part(FluxControlNetModel, folder, device, dtype)
    require(folder, "config.json")
    model = _empty_net(folder)
    file = read_gguf(found) if found else read_safetensors(_safetensors(folder))
    tensors = file.tensors if found else _all_packed(file.tensors, weights, pack_on or device, check)
    pieces = {name: [Source(one, Piece(name, 0, one.shape[0], name))] for name, one in tensors.items()}
    place_weights(WeightFile(file.path, file.metadata, tensors), model, pieces, device, dtype, check)
    return model.eval()


def _empty_net(folder: Path) -> FluxControlNetModel:
    try:
        with without_deprecations(), torch.device("meta"):
            config: Any = FluxControlNetModel.load_config(folder, local_files_only=True)
            net: Any = FluxControlNetModel.from_config(config)
            return net
    except (OSError, ValueError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise broken(folder, error) from error


def _safetensors(folder: Path) -> Path:
    """The list of shards where there is one, else the file."""
    require(folder, "*.safetensors")
    return next(iter([*sorted(folder.glob(f"*{INDEX_ENDING}")), *sorted(folder.glob("*.safetensors"))]))


def _all_packed(
    tensors: dict[str, PackedTensor], weights: str, device: torch.device, check: Check
) -> dict[str, PackedTensor]:
    packed = {}
    for name, one in tensors.items():
        check()
        packed[name] = _packed(one, weights, device)
    return packed


def _packed(tensor: PackedTensor, weights: str, device: torch.device) -> PackedTensor:
    kind = tensor_type(tensor.name, tensor.shape, GGMLQuantizationType[weights])
    if len(tensor.shape) != 2 or kind.name != weights or tensor.name.startswith(KEPT):
        return tensor
    if tensor.type.name not in FLOAT_DTYPES:
        return tensor
    # On the device, where it takes a moment; one layer at a time.
    values = dequantise(torch.from_numpy(tensor.packed).to(device), tensor.type.name, torch.float32)
    packed = pack_weights(values.reshape(tensor.shape), weights)
    return PackedTensor(tensor.name, tensor.shape, TENSOR_TYPES[int(kind)], packed.cpu().numpy())
