"""Safetensors files into the transformer: both namings, every float type, shards; and files that are damaged."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file

from backend.flux.dequantise import dequantise
from backend.flux.load_transformer import load_transformer
from backend.flux.quantised_linear import QuantisedLinear
from backend.flux.safetensors_file import read_safetensors
from backend.flux.write_gguf import bfl_tensors
from backend.wire import FailureError, FailureKind
from tests.backend.samples import CONFIG
from tests.backend.test_flux_load_transformer import CPU

TYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


def loaded_weights(path: Path, config: Path) -> dict[str, torch.Tensor]:
    """Every weight of the loaded transformer, unpacked, by diffusers' names."""
    model = load_transformer(path, config, CPU, torch.float32).model
    found: dict[str, torch.Tensor] = dict(model.named_parameters())
    for name, layer in model.named_modules():
        if isinstance(layer, QuantisedLinear):
            found[f"{name}.weight"] = dequantise(layer.packed, layer.type_name)
            if layer.bias is not None:
                found[f"{name}.bias"] = layer.bias
    return found


@pytest.mark.parametrize("naming", ["bfl", "diffusers", "prefixed"])
@pytest.mark.parametrize("type_name", TYPES)
def test_every_float_type_in_every_naming(
    plain: FluxTransformer2DModel, config_path: Path, tmp_path: Path, naming: str, type_name: str
) -> None:  # fmt: skip
    state = plain.state_dict()
    tensors = state if naming == "diffusers" else bfl_tensors(state, CONFIG)
    prefix = "model.diffusion_model." if naming == "prefixed" else ""
    written = {f"{prefix}{name}": tensor.to(TYPES[type_name]).contiguous() for name, tensor in tensors.items()}
    if prefix:
        written["vae.encoder.conv_in.weight"] = torch.zeros(4, 4)
    path = tmp_path / "flux.safetensors"
    save_file(written, path)
    weights = loaded_weights(path, config_path)
    assert weights.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(weights[name], tensor.to(TYPES[type_name]).float()), name


def test_a_model_in_shards(plain: FluxTransformer2DModel, config_path: Path, tmp_path: Path) -> None:
    index = write_shards(plain, tmp_path)
    weights = loaded_weights(index, config_path)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(weights[name], tensor.half().float()), name


def write_shards(model: FluxTransformer2DModel, folder: Path) -> Path:
    """Three files and their index, as diffusers saves a large model."""
    places: dict[str, str] = {}
    names = sorted(model.state_dict())
    for number in range(3):
        shard = f"diffusion_pytorch_model-{number + 1:05d}-of-00003.safetensors"
        part = {name: model.state_dict()[name].half().contiguous() for name in names[number::3]}
        save_file(part, folder / shard)
        places |= dict.fromkeys(part, shard)
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


def test_nothing_is_copied(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.arange(64, dtype=torch.float32).reshape(4, 16)}, path)
    tensor = read_safetensors(path).tensors["a"]
    assert tensor.packed.shape == (4, 64) and not tensor.packed.flags.owndata
    assert (tensor.packed.view(np.float32) == np.arange(64).reshape(4, 16)).all()


def refusal(path: Path) -> FailureError:
    with pytest.raises(FailureError) as caught:
        read_safetensors(path)
    return caught.value


@pytest.mark.parametrize("kept", [0, 4, 8, 60, -1])
def test_a_file_that_is_cut_off_is_broken(tmp_path: Path, kept: int) -> None:
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    save_file({"a": torch.ones(8, 8), "b": torch.ones(3)}, whole)
    cut.write_bytes(whole.read_bytes()[:kept])
    failure = refusal(cut).failure
    assert failure.kind == FailureKind.MODEL_BROKEN and "cut.safetensors" in failure.message


HOSTILE: dict[str, Any] = {
    "no json": b"{nonsense",
    "a list": b"[]",
    "an offset past the end": {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 1 << 60]}},
    "offsets the wrong way round": {"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}},
    "a shape that is not the bytes": {"a": {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 16]}},
    "a negative shape": {"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}},
    "bytes that two share": {
        "a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
        "b": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
    },
    "an unknown type": {"a": {"dtype": "Q9", "shape": [4], "data_offsets": [0, 16]}},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_header_is_refused(tmp_path: Path, what: str) -> None:
    header = HOSTILE[what] if isinstance(HOSTILE[what], bytes) else json.dumps(HOSTILE[what]).encode()
    path = tmp_path / "bad.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    assert refusal(path).failure.kind == FailureKind.MODEL_BROKEN


def test_a_header_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    assert refusal(path).failure.kind == FailureKind.MODEL_BROKEN


def test_a_number_format_that_is_no_weight_s_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ints.safetensors"
    save_file({"a": torch.ones(4, dtype=torch.int64)}, path)
    failure = refusal(path).failure
    assert failure.kind == FailureKind.MODEL_UNSUPPORTED and "I64" in failure.message and "BF16" in failure.hint


def test_an_index_says_what_is_wrong_with_it(plain: FluxTransformer2DModel, tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.safetensors.index.json").failure.kind == FailureKind.MODEL_MISSING
    index = write_shards(plain, tmp_path)
    table = json.loads(index.read_text())
    table["weight_map"]["made.up"] = "diffusion_pytorch_model-00001-of-00003.safetensors"
    index.write_text(json.dumps(table))
    assert "'made.up'" in refusal(index).failure.message
    table["weight_map"]["made.up"] = "../../elsewhere.safetensors"
    index.write_text(json.dumps(table))
    assert "outside" in refusal(index).failure.message
    index.write_text("[]")
    assert refusal(index).failure.kind == FailureKind.MODEL_BROKEN
    index = write_shards(plain, tmp_path)
    (tmp_path / "diffusion_pytorch_model-00002-of-00003.safetensors").unlink()
    failure = refusal(index).failure
    assert failure.kind == FailureKind.MODEL_MISSING and "00002" in failure.message
