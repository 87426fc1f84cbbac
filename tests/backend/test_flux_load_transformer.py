"""GGUF files of several kinds into diffusers' transformer, and files that are not what they should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize

from backend.flux.forward import Conditions, prepare, transformer_velocity
from backend.flux.load_transformer import LoadedTransformer, load_transformer
from backend.flux.products import use_best_products
from backend.flux.quantised_linear import QuantisedLinear
from backend.flux.write_gguf import bfl_tensors
from backend.wire import Failure, FailureError, FailureKind
from tests.backend.samples import CONFIG, random_packed

CPU = torch.device("cpu")
Packed = dict[str, tuple[np.ndarray, GGMLQuantizationType]]


def pack_all(tensors: dict[str, torch.Tensor], types: list[str]) -> tuple[Packed, dict[str, torch.Tensor]]:
    """Each matrix in the next of the types, vectors F32; and what the file then says the weights are."""
    packed: Packed = {}
    meant: dict[str, torch.Tensor] = {}
    for index, (name, tensor) in enumerate(sorted(tensors.items())):
        if tensor.ndim == 1:
            packed[name] = (tensor.detach().numpy().astype(np.float32), GGMLQuantizationType.F32)
            meant[name] = tensor.detach()
            continue
        type_name = types[index % len(types)]
        if tensor.shape[1] % gguf.GGML_QUANT_SIZES[GGMLQuantizationType[type_name]][0]:
            type_name = "Q8_0"
        kind = GGMLQuantizationType[type_name]
        scale = 2e-5 if type_name == "Q6_K" else 2e-4 if type_name == "Q4_K" else 5e-4
        data = random_packed(type_name, *tensor.shape, seed=index, scale=scale)
        packed[name] = (data, kind)
        meant[name] = torch.from_numpy(np.array(dequantize(data, kind))).reshape(tensor.shape)
    return packed, meant


def write(path: Path, packed: Packed, architecture: str = "flux", prefix: str = "") -> Path:
    writer = GGUFWriter(path, architecture)
    for name, (data, kind) in packed.items():
        if kind in (GGMLQuantizationType.F16, GGMLQuantizationType.F32):
            data = data.view(np.float16 if kind == GGMLQuantizationType.F16 else np.float32)
        writer.add_tensor(prefix + name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def inputs(config: dict[str, Any] = CONFIG) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        "hidden_states": torch.randn(1, 24, 64, generator=generator),
        "encoder_hidden_states": torch.randn(1, 8, config["joint_attention_dim"], generator=generator),
        "pooled_projections": torch.randn(1, config["pooled_projection_dim"], generator=generator),
        "timestep": torch.tensor([0.6]),
        "guidance": torch.tensor([3.5]),
        "img_ids": torch.randint(0, 6, (24, 3), generator=generator).float(),
        "txt_ids": torch.zeros(8, 3),
        "return_dict": False,
    }


def load(path: Path, config_path: Path, dtype: torch.dtype = torch.float32) -> LoadedTransformer:
    return load_transformer(path, config_path, CPU, dtype)


def from_bfl(
    tensors: dict[str, torch.Tensor], plain: FluxTransformer2DModel, config: dict[str, Any] = CONFIG
) -> dict[str, torch.Tensor]:
    """The reference's weights under diffusers' names: where `bfl_tensors` takes each number from, taken backwards.

    Found by sending row numbers through it, so that a fault in our own name table cannot hide.
    """
    state = plain.state_dict()
    offset, starts = 0, {}
    numbered = {}
    for name, tensor in state.items():
        numbered[name] = torch.arange(offset, offset + len(tensor), dtype=torch.float64)
        starts[name] = offset
        offset += len(tensor)
    found = {name: torch.empty_like(tensor) for name, tensor in state.items()}
    owner = {start + index: (name, index) for name, start in starts.items() for index in range(len(state[name]))}
    for target, numbers in bfl_tensors(numbered, config).items():
        for place, number in enumerate(numbers.tolist()):
            name, index = owner[int(number)]
            found[name][index] = tensors[target][place]
    return found


def assert_computes_as(
    loaded: LoadedTransformer, state: dict[str, torch.Tensor], plain: FluxTransformer2DModel
) -> None:
    reference = FluxTransformer2DModel(**CONFIG).eval()
    reference.load_state_dict(state)
    use_best_products(reference)  # sums in one order, so that what is left to differ is the weights
    with torch.no_grad():
        wanted = reference(**inputs())[0]
        assert torch.isfinite(wanted).all() and wanted.std() > 1e-3
        torch.testing.assert_close(loaded.model(**inputs())[0], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "types", [["Q6_K"], ["Q4_K"], ["Q4_0"], ["Q8_0", "Q4_K", "Q6_K", "F16", "BF16", "Q4_0", "F32"]]
)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_bfl_names(
    tmp_path: Path, config_path: Path, plain: FluxTransformer2DModel, types: list[str], prefix: str
) -> None:
    packed, meant = pack_all(bfl_tensors(plain.state_dict(), CONFIG), types)
    loaded = load(write(tmp_path / "a.gguf", packed, prefix=prefix), config_path)
    assert set(types) <= set(loaded.types)
    assert_computes_as(loaded, from_bfl(meant, plain), plain)


def test_diffusers_names(tmp_path: Path, config_path: Path, plain: FluxTransformer2DModel) -> None:
    packed, meant = pack_all(plain.state_dict(), ["Q8_0", "Q6_K", "BF16"])
    loaded = load(write(tmp_path / "a.gguf", packed), config_path)
    assert_computes_as(loaded, meant, plain)


def test_vectors_of_any_type(tmp_path: Path, config_path: Path, plain: FluxTransformer2DModel) -> None:
    """Some converters write biases and norms as BF16 or F16, or even pack them."""
    packed, meant = pack_all(plain.state_dict(), ["Q8_0"])
    for index, name in enumerate(sorted(name for name, tensor in meant.items() if tensor.ndim == 1)):
        type_name = ("BF16", "F16", "Q8_0")[index % 3]
        if meant[name].shape[0] % 32:
            type_name = "BF16"
        kind = GGMLQuantizationType[type_name]
        data = gguf.quants.quantize(meant[name].numpy(), kind).view(np.uint8)
        packed[name] = (data, kind)
        meant[name] = torch.from_numpy(np.array(dequantize(data, kind)))
    assert_computes_as(load(write(tmp_path / "a.gguf", packed), config_path), meant, plain)


def test_weights_stay_packed_and_in_the_file(tmp_path: Path, config_path: Path, plain: FluxTransformer2DModel) -> None:
    packed, _ = pack_all(bfl_tensors(plain.state_dict(), CONFIG), ["Q8_0"])
    loaded = load(write(tmp_path / "a.gguf", packed), config_path)
    layers = [layer for layer in loaded.model.modules() if isinstance(layer, QuantisedLinear)]
    assert len(layers) == loaded.types["Q8_0"] > 20
    assert all(type(layer.packed) is torch.Tensor and layer.packed.dtype == torch.uint8 for layer in layers)
    query = loaded.model.get_submodule("transformer_blocks.0.attn.to_q")
    key = loaded.model.get_submodule("transformer_blocks.0.attn.to_k")
    assert isinstance(query, QuantisedLinear) and isinstance(key, QuantisedLinear)
    # The three parts of a fused layer are views of one piece of the mapped file, not copies.
    assert key.packed.data_ptr() - query.packed.data_ptr() == query.packed.numel()
    assert not any(tensor.is_meta for tensor in (*loaded.model.parameters(), *loaded.model.buffers()))


def test_computes_in_bfloat16(tmp_path: Path, config_path: Path, plain: FluxTransformer2DModel) -> None:
    packed, _ = pack_all(bfl_tensors(plain.state_dict(), CONFIG), ["Q8_0", "BF16", "F16"])
    path = write(tmp_path / "a.gguf", packed)
    small, exact = load(path, config_path, torch.bfloat16).model, load(path, config_path).model
    assert {parameter.dtype for parameter in small.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        wanted, rounded = our_velocity(exact, torch.float32), our_velocity(small, torch.bfloat16)
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - wanted).norm() < 0.05 * wanted.norm()


def our_velocity(net: FluxTransformer2DModel, dtype: torch.dtype) -> torch.Tensor:
    """Through our own pass, which keeps noise levels and guidance in float32 where diffusers rounds them."""
    given = inputs()
    text, pooled = given["encoder_hidden_states"].to(dtype), given["pooled_projections"].to(dtype)
    prepared = prepare(net, Conditions(text, pooled, given["img_ids"], torch.tensor([0.6]), 3.5))
    return transformer_velocity(net, given["hidden_states"].to(dtype), prepared, 0, [])


def refused(path: Path, config_path: Path) -> Failure:
    with pytest.raises(FailureError) as caught:
        load(path, config_path)
    return caught.value.failure


def test_other_architectures(tmp_path: Path, config_path: Path) -> None:
    data = (np.zeros((4, 4), np.float32), GGMLQuantizationType.F32)
    llama = refused(write(tmp_path / "a.gguf", {"blk.0.attn_q.weight": data}, "llama"), config_path)
    assert llama.kind == FailureKind.MODEL_UNSUPPORTED
    assert '"llama"' in llama.message
    unnamed = refused(write(tmp_path / "b.gguf", {"input_blocks.0.0.weight": data}), config_path)
    assert unnamed.kind == FailureKind.MODEL_UNSUPPORTED
    assert "none of FLUX.1's layers" in unnamed.message


def test_names_what_is_missing_extra_or_of_another_shape(
    tmp_path: Path, config_path: Path, plain: FluxTransformer2DModel
) -> None:
    packed, _ = pack_all(bfl_tensors(plain.state_dict(), CONFIG), ["Q8_0"])
    path = tmp_path / "a.gguf"
    without = {name: value for name, value in packed.items() if name != "single_blocks.0.linear2.weight"}
    failure = refused(write(path, without), config_path)
    assert failure.kind == FailureKind.MODEL_UNSUPPORTED
    assert "'single_transformer_blocks.0.proj_out.weight'" in failure.message
    failure = refused(
        write(path, {**packed, "distilled_guidance_layer.in.weight": packed["img_in.weight"]}), config_path
    )
    assert "'distilled_guidance_layer.in.weight'" in failure.message
    failure = refused(write(path, {**packed, "img_in.weight": packed["txt_in.weight"]}), config_path)
    assert "'x_embedder.weight'" in failure.message and "(256, 256)" in failure.message


def test_a_config_of_another_model(tmp_path: Path, config_path: Path, plain: FluxTransformer2DModel) -> None:
    packed, _ = pack_all(bfl_tensors(plain.state_dict(), CONFIG), ["Q8_0"])
    path = write(tmp_path / "a.gguf", packed)
    config_path.write_text(json.dumps({**CONFIG, "num_layers": 2}))
    assert refused(path, config_path).kind == FailureKind.MODEL_UNSUPPORTED
    config_path.write_text(json.dumps({**CONFIG, "attention_head_dim": "many"}))
    assert refused(path, config_path).kind == FailureKind.MODEL_BROKEN
    config_path.write_text("{")
    assert refused(path, config_path).kind == FailureKind.MODEL_BROKEN
    config_path.unlink()
    assert refused(path, config_path).kind == FailureKind.MODEL_MISSING
