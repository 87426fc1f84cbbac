"""A T5 encoder from GGUF, in llama.cpp's names and in the number formats that it comes in, against transformers'."""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize, quantize
from torch import nn
from transformers import T5Config, T5EncoderModel

from backend.flux.load_t5 import BLOCK_NAMES, load_t5
from backend.flux.quantised_linear import QuantisedEmbedding, QuantisedLinear
from backend.production import Production
from backend.wire import FailureError, FailureKind, GenerationRequest
from tests.backend.samples import made, pixels, random_packed, run
from tools.random_model import randomised

CPU = torch.device("cpu")
CONFIG = T5Config(
    vocab_size=40, d_model=256, d_kv=32, d_ff=512, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"
)
NAMES = {value: key for key, value in BLOCK_NAMES.items()}
TYPES = ["Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q4_0", "BF16", "F16"]


def llama_name(name: str) -> str:
    """transformers' name -> llama.cpp's."""
    if name == "shared.weight":
        return "token_embd.weight"
    if name == "encoder.final_layer_norm.weight":
        return "enc.output_norm.weight"
    _, _, block, rest = name.removesuffix(".weight").split(".", 3)
    return f"enc.blk.{block}.{NAMES[rest]}.weight"


def write_gguf_t5(
    folder: Path,
    model: T5EncoderModel,
    types: list[str],
    architecture: str = "t5encoder",
    skip: str = "",
    more: str = "",
) -> dict[str, torch.Tensor]:
    """Writes config.json and t5.gguf, each matrix in the next of the types; returns what the weights then are."""
    folder.mkdir(exist_ok=True)
    model.config.to_json_file(str(folder / "config.json"))
    writer, meant = GGUFWriter(folder / "t5.gguf", architecture), {}
    for index, (name, parameter) in enumerate(model.named_parameters()):
        type_name = "F32" if parameter.ndim == 1 or "bias" in name else types[index % len(types)]
        if parameter.shape[-1] % gguf.GGML_QUANT_SIZES[GGMLQuantizationType[type_name]][0]:
            type_name = "Q8_0"
        kind = GGMLQuantizationType[type_name]
        values = parameter.detach().numpy()
        if type_name.endswith("_K"):  # gguf-py reads these and does not write them
            data = random_packed(type_name, *values.shape, seed=index, scale=3e-4)
        else:
            data = quantize(values, kind)
        meant[name] = torch.from_numpy(np.array(dequantize(data, kind))).reshape(values.shape)
        if llama_name(name) != skip:
            writer.add_tensor(llama_name(name), data, raw_dtype=kind)
    if more:
        writer.add_tensor(more, np.zeros((32, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return meant


@pytest.fixture(scope="module")
def plain() -> T5EncoderModel:
    return randomised(T5EncoderModel(CONFIG), 3)


@pytest.mark.parametrize("types", [TYPES, ["Q8_0"], ["F16"]], ids=["mixed", "Q8_0", "F16"])
def test_it_says_what_transformers_says(plain: T5EncoderModel, tmp_path: Path, types: list[str]) -> None:
    meant = write_gguf_t5(tmp_path / "t5", plain, types, more="enc.blk.1.attn_rel_b.weight")
    reference = T5EncoderModel(CONFIG).eval()
    reference.load_state_dict({**meant, "encoder.embed_tokens.weight": meant["shared.weight"]})
    words = torch.randint(0, 40, (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours = load_t5(tmp_path / "t5", CPU, torch.float32)
        said, wanted = (net(words).last_hidden_state for net in (ours, reference))
    assert (said - wanted).norm() <= 1e-4 * wanted.norm() and wanted.std() > 0.1


def test_it_stays_packed(plain: T5EncoderModel, tmp_path: Path) -> None:
    write_gguf_t5(tmp_path / "t5", plain, ["Q8_0"])
    with torch.inference_mode():
        ours = load_t5(tmp_path / "t5", CPU, torch.bfloat16)
        assert ours(torch.tensor([[1, 2]])).last_hidden_state.dtype == torch.bfloat16
    linears = [layer for layer in ours.modules() if isinstance(layer, nn.Linear | QuantisedLinear)]
    assert linears and all(isinstance(layer, QuantisedLinear) for layer in linears)
    assert isinstance(ours.shared, QuantisedEmbedding) and ours.encoder.embed_tokens is ours.shared
    size = sum(value.numel() * value.element_size() for value in (*ours.parameters(), *ours.buffers()))
    whole = sum(value.numel() * 2 for value in plain.parameters())
    assert size < 0.55 * whole


def test_a_picture_from_it(own_models_folder: Path) -> None:
    """In place of the safetensors in a model's folder."""
    folder = own_models_folder / "random-weights" / "text_encoder_2"
    request = GenerationRequest("a red cube", 64, 64, steps=1, model="random-weights")
    before = made(run(Production(own_models_folder, "cpu"), request))
    net = T5EncoderModel.from_pretrained(str(folder), dtype=torch.float32)
    write_gguf_t5(folder, net, ["F16"])
    (folder / "model.safetensors").unlink()
    same = made(run(Production(own_models_folder, "cpu"), request))
    write_gguf_t5(folder, net, ["Q4_0"])
    other = made(run(Production(own_models_folder, "cpu"), request))
    first, again, changed = (pixels(result.png) for result in (before, same, other))
    assert (first == again).all() and (first != changed).any()


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"architecture": "llama"}, FailureKind.MODEL_UNSUPPORTED, '"llama", not a T5 encoder'),
        ({"skip": "enc.blk.1.ffn_up.weight"}, FailureKind.MODEL_UNSUPPORTED, "lacks 1 of the model's weights"),
        ({"more": "enc.blk.0.cross.weight"}, FailureKind.MODEL_UNSUPPORTED, "which a T5 encoder does not have"),
        ({"more": "enc.blk.7.attn_q.weight"}, FailureKind.MODEL_UNSUPPORTED, "weights that the model does not have"),
    ],
)
def test_another_file_is_refused(
    plain: T5EncoderModel, tmp_path: Path, change: dict[str, str], kind: FailureKind, sentence: str
) -> None:
    write_gguf_t5(tmp_path / "t5", plain, ["Q8_0"], **change)
    with pytest.raises(FailureError) as caught:
        load_t5(tmp_path / "t5", CPU, torch.float32)
    assert caught.value.failure.kind == kind and sentence in caught.value.failure.message


def test_a_decoder_beside_it_is_passed_over(plain: T5EncoderModel, tmp_path: Path) -> None:
    write_gguf_t5(tmp_path / "t5", plain, ["Q8_0"], architecture="t5", more="dec.blk.0.attn_q.weight")
    load_t5(tmp_path / "t5", CPU, torch.float32)


def test_two_files_and_damaged_ones_are_refused(plain: T5EncoderModel, tmp_path: Path) -> None:
    folder = tmp_path / "t5"
    write_gguf_t5(folder, plain, ["Q8_0"])
    shutil.copy(folder / "t5.gguf", folder / "other.gguf")
    with pytest.raises(FailureError, match="holds 2 GGUF files"):
        load_t5(folder, CPU, torch.float32)
    (folder / "other.gguf").unlink()
    whole = (folder / "t5.gguf").read_bytes()
    (folder / "t5.gguf").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FailureError) as caught:
        load_t5(folder, CPU, torch.float32)
    assert caught.value.failure.kind == FailureKind.MODEL_BROKEN
    (folder / "t5.gguf").write_bytes(whole)
    (folder / "config.json").write_text("{")
    with pytest.raises(FailureError, match="damaged"):
        load_t5(folder, CPU, torch.float32)
    (folder / "config.json").unlink()
    with pytest.raises(FailureError, match=r"config\.json is not there"):
        load_t5(folder, CPU, torch.float32)
