"""Writes nets and tokenizers as a model folder, in the product's own files and formats."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from gguf import GGMLQuantizationType
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor, nn

from ..flux.write_gguf import bfl_tensors, write_gguf

Config = dict[str, Any]
SPECIAL_PIECES = 3
"""Those that a T5 vocabulary begins with: padding, end, unknown."""
TIED = "encoder.embed_tokens.weight"
"""T5 names its embedding twice; files hold it once."""


@dataclass(frozen=True, eq=False)
class Part:
    """One more folder of a model. stem: its weights' file without the ending."""

    stem: str
    net: nn.Module
    config: Config


@dataclass(frozen=True, eq=False)
class Nets:
    """A model's networks and what their config.json say. more: by the folder's name."""

    transformer: nn.Module
    transformer_config: Config
    controlnet: nn.Module
    controlnet_config: Config
    vae: nn.Module
    vae_config: Config
    clip: nn.Module
    clip_config: Config
    t5: nn.Module
    t5_config: Config
    scheduler: Config
    more: dict[str, Part] = field(default_factory=dict)


def write_model(
    folder: Path,
    name: str,
    description: Config,
    nets: Nets,
    write_tokenizers: Callable[[Path], object],
    matrices: GGMLQuantizationType = GGMLQuantizationType.Q8_0,
) -> Path:
    """Writes <folder>/<name>/, whole or not at all, and returns it. matrices: the type of the transformer's."""
    target, partial = folder / name, folder / f".{name}.part"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_json(partial / "model.json", description)
    write_json(partial / "transformer" / "config.json", nets.transformer_config)
    tensors = bfl_tensors(nets.transformer.state_dict(), nets.transformer_config)
    write_gguf(partial / "transformer.gguf", tensors, matrices=matrices)
    _write_part(partial / "controlnet", "diffusion_pytorch_model", nets.controlnet, nets.controlnet_config)
    _write_part(partial / "vae", "diffusion_pytorch_model", nets.vae, nets.vae_config)
    write_tokenizers(partial)
    _write_part(partial / "text_encoder", "model", nets.clip, nets.clip_config)
    _write_part(partial / "text_encoder_2", "model", nets.t5, nets.t5_config)
    for name, part in nets.more.items():
        _write_part(partial / name, part.stem, part.net, part.config)
    write_json(partial / "scheduler" / "scheduler_config.json", nets.scheduler)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return target


def model_description(title: str, text_tokens: int, kinds: Config, steps: int) -> Config:
    """The model.json. kinds: of the union ControlNet: each kind's mode, and which picture of its map it was taught."""
    return {
        "format": 1,
        "title": title,
        "transformer": {"file": "transformer.gguf", "config": "transformer/config.json"},
        **{part: part for part in ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")},
        "max_text_tokens": text_tokens,
        "controlnets": [{"folder": "controlnet", "kinds": kinds}],
        "defaults": {"steps": steps, "guidance": 3.5},
    }


def vae_config(widths: Sequence[int], scaling_factor: float, shift_factor: float) -> Config:
    """FLUX's layout: 16 latent channels, an eighth of the picture's size. widths: of the four levels."""
    return {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "block_out_channels": list(widths),
        "layers_per_block": 1,
        "latent_channels": 16,
        "norm_num_groups": 8,
        "sample_size": 256,
        "scaling_factor": scaling_factor,
        "shift_factor": shift_factor,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "mid_block_add_attention": True,
    }


def clip_vocabulary(merges: Sequence[tuple[str, str]] = ()) -> list[str]:
    """Bytes as letters, what the merges make of them, and the two ends, which come last."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = [*letters, *(f"{letter}</w>" for letter in letters), *(first + second for first, second in merges)]
    return list(dict.fromkeys([*known, "<|startoftext|>", "<|endoftext|>"]))


def write_clip_tokenizer(folder: Path, merges: Sequence[tuple[str, str]] = ()) -> int:
    """A byte-level tokenizer in CLIP's files. Returns the vocabulary's size."""
    vocabulary = clip_vocabulary(merges)
    write_json(folder / "vocab.json", {word: index for index, word in enumerate(vocabulary)})
    lines = ["#version: 0.2", *(f"{first} {second}" for first, second in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "<|endoftext|>", **special}
    write_json(folder / "tokenizer_config.json", config)
    return len(vocabulary)


def write_t5_tokenizer(folder: Path, pieces: Sequence[tuple[str, float]], text_tokens: int) -> int:
    """A tokenizer in T5's file. pieces: with their scores, after the three special ones; bytes as <0x00> to <0xFF>,
    all of them or none, are what unknown characters fall back to. Returns the vocabulary's size.
    """
    known = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces]
    has_bytes = any(piece == "<0x00>" for piece, _ in pieces)
    tokenizer = Tokenizer(models.Unigram(known, unk_id=2, byte_fallback=has_bytes))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "extra_ids": 0}
    config = {"tokenizer_class": "T5TokenizerFast", "model_max_length": text_tokens, **special}
    write_json(folder / "tokenizer_config.json", config)
    return len(known)


def clip_config(vocabulary: int, width: int, inner: int, layers: int, heads: int) -> Config:
    """CLIPTextConfig's arguments. vocabulary: its size; its last two words are the ends."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": 77,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
        "architectures": ["CLIPTextModel"],
    }


def t5_config(vocabulary: int, width: int, inner: int, layers: int, heads: int) -> Config:
    """T5Config's arguments."""
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": 32,
        "d_ff": inner,
        "num_layers": layers,
        "num_heads": heads,
        "dropout_rate": 0.0,
        "feed_forward_proj": "gated-gelu",
        "architectures": ["T5EncoderModel"],
    }


def write_json(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1, sort_keys=True, default=str) + "\n", encoding="utf-8")


def _write_part(folder: Path, stem: str, module: nn.Module, config: Config) -> None:
    """config.json and safetensors in float16."""
    write_json(folder / "config.json", config)
    state: dict[str, Tensor] = {
        name: value.to(torch.float16).contiguous() for name, value in module.state_dict().items() if name != TIED
    }
    save_file(state, folder / f"{stem}.safetensors", metadata={"format": "pt"})
