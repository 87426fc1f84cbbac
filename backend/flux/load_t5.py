"""The T5 encoder, from safetensors or from a GGUF file with llama.cpp's names; from GGUF it stays packed.

transformers unpacks a T5 in GGUF whole: 9.5 GB for FLUX's where 5 or less would do.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from transformers import T5Config, T5EncoderModel

from .gguf_file import read_gguf
from .load_parts import broken, load_part, only_gguf, require
from .place_weights import Check, Source, no_check, place_weights, unsupported
from .transformer_names import Piece
from .weight_file import WeightFile

ARCHITECTURES = ("t5encoder", "t5")
SIMPLE_NAMES = {"token_embd.weight": "shared.weight", "enc.output_norm.weight": "encoder.final_layer_norm.weight"}
BLOCK_NAMES = {
    "attn_q": "layer.0.SelfAttention.q",
    "attn_k": "layer.0.SelfAttention.k",
    "attn_v": "layer.0.SelfAttention.v",
    "attn_o": "layer.0.SelfAttention.o",
    "attn_rel_b": "layer.0.SelfAttention.relative_attention_bias",
    "attn_norm": "layer.0.layer_norm",
    "ffn_gate": "layer.1.DenseReluDense.wi_0",
    "ffn_up": "layer.1.DenseReluDense.wi_1",
    "ffn_down": "layer.1.DenseReluDense.wo",
    "ffn_norm": "layer.1.layer_norm",
}
BLOCK = re.compile(r"enc\.blk\.(\d+)\.(\w+)\.weight")


def load_t5(folder: Path, device: torch.device, dtype: torch.dtype, check: Check = no_check) -> T5EncoderModel:
    """The encoder from config.json and either a GGUF file or safetensors in `folder`. Raises `FailureError`.

    check: called between the layers of a GGUF file; ends the loading by raising.
    """
    packed = only_gguf(folder)
    if packed is None:
        return load_part(T5EncoderModel, folder, device, dtype)
    require(folder, "config.json")
    file = read_gguf(packed)
    model = _empty_model(folder)
    # The encoder reads the same table, under a name of its own: one layer before the weights come, and one after.
    model.set_input_embeddings(model.shared)
    place_weights(file, model, _pieces(file), device, dtype, check)
    model.set_input_embeddings(model.shared)
    return model.eval()


def _empty_model(folder: Path) -> T5EncoderModel:
    try:
        config = T5Config.from_json_file(str(folder / "config.json"))
        with torch.device("meta"):
            return T5EncoderModel(config)
    except (OSError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise broken(folder, error) from error


def _pieces(file: WeightFile) -> dict[str, list[Source]]:
    architecture = file.metadata.get("general.architecture", ARCHITECTURES[0])
    if architecture not in ARCHITECTURES:
        unsupported(file, f'holds a model of the kind "{architecture}", not a T5 encoder')
    found = {}
    for name, tensor in file.tensors.items():
        if name.startswith("dec."):
            continue
        target = _target(name)
        if target is None:
            unsupported(file, f"holds {name!r}, which a T5 encoder does not have")
        # Some writers repeat the first block's table of distances in every block.
        if "relative_attention_bias" in target and not target.startswith("encoder.block.0."):
            continue
        found[target] = [Source(tensor, Piece(name, 0, tensor.shape[0], target))]
    return found


def _target(name: str) -> str | None:
    """llama.cpp's name -> transformers'."""
    if name in SIMPLE_NAMES:
        return SIMPLE_NAMES[name]
    match = BLOCK.fullmatch(name)
    if match is None or match[2] not in BLOCK_NAMES:
        return None
    return f"encoder.block.{match[1]}.{BLOCK_NAMES[match[2]]}.weight"
