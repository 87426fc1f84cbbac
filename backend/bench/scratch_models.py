"""Model folders with random weights in a scratch folder, in the product's own files, each made once."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from ..flux.load_parts import without_deprecations
from ..flux.load_t5 import BLOCK_NAMES, SIMPLE_NAMES
from ..flux.write_gguf import bfl_tensors
from ..models import ModelFolder, find_model
from ..sample.model_files import (
    SPECIAL_PIECES,
    TIED,
    clip_config,
    clip_vocabulary,
    model_description,
    t5_config,
    vae_config,
    write_clip_tokenizer,
    write_json,
    write_t5_tokenizer,
)
from .random_weights import write_random_gguf
from .sizes import BenchSize

Say = Callable[[str], None]
TRANSFORMER = "transformer.gguf"
SCHEDULER = {
    "base_image_seq_len": 256, "base_shift": 0.5, "max_image_seq_len": 4096, "max_shift": 1.15, "shift": 3.0,
    "num_train_timesteps": 1000, "use_dynamic_shifting": True,
}  # fmt: skip
KINDS: dict[str, Any] = {"depth": {"picture": "depth_near_white"}}
PARTS = "parts"


def bench_model(scratch: Path, size: BenchSize, type_name: str, say: Say) -> ModelFolder:
    """The folder of a model whose matrices are of a number format; made now where it is not there yet.

    All share their other parts, by hard links. say: told what is being written.
    """
    folder = scratch / "models" / f"{size.name}-{type_name}"
    if not (folder / "model.json").is_file():
        parts = shared_parts(scratch, size, say)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(parts, folder, copy_function=os.link)
        write_json(folder / "transformer" / "config.json", size.transformer)
        shapes = transformer_shapes(size)
        write_random_gguf(folder / TRANSFORMER, shapes, type_name, "flux", _teller(say, f"transformer in {type_name}"))
        title = "Random weights: the picture is noise"
        write_json(folder / "model.json", model_description(title, size.text_tokens, KINDS, size.steps))
    return find_model(folder.parent, folder.name)


def transformer_shapes(size: BenchSize) -> dict[str, tuple[int, ...]]:
    """The tensors of a file. Black Forest Labs' names at FLUX's width; diffusers reads others of no other width."""
    with torch.device("meta"):
        state: dict[str, Tensor] = FluxTransformer2DModel(**size.transformer).state_dict()
    named = bfl_tensors(state, size.transformer) if size.name == "real" else state
    return {name: tuple(tensor.shape) for name, tensor in named.items()}


def shared_parts(scratch: Path, size: BenchSize, say: Say) -> Path:
    """ControlNet, VAE, text encoders and tokenizers, whole or not at all."""
    target, partial = scratch / PARTS / size.name, scratch / PARTS / f".{size.name}.part"
    if target.is_dir():
        return target
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    words = write_clip_tokenizer(partial / "tokenizer")
    pieces = [(chr(code), -4.0) for code in range(0x21, 0x7F)]
    write_t5_tokenizer(partial / "tokenizer_2", pieces, size.text_tokens)
    say("writing the ControlNet, the VAE and the text encoders")
    joint, pooled = size.transformer["joint_attention_dim"], size.transformer["pooled_projection_dim"]
    inner, layers, heads = size.clip
    clip = clip_config(max(words, len(clip_vocabulary())), pooled, inner, layers, heads)
    vae = {**vae_config(size.vae_widths, 0.3611, 0.1159), "layers_per_block": size.vae_layers}
    with torch.device("meta"), without_deprecations():
        nets: dict[str, tuple[str, nn.Module, dict[str, Any]]] = {
            "controlnet": ("diffusion_pytorch_model", FluxControlNetModel(**size.controlnet), size.controlnet),
            "vae": ("diffusion_pytorch_model", AutoencoderKL(**vae), vae),
            "text_encoder": ("model", CLIPTextModel(CLIPTextConfig(**clip)), clip),
        }
    for name, (stem, net, config) in nets.items():
        write_json(partial / name / "config.json", config)
        save_file(random_state(net), partial / name / f"{stem}.safetensors", metadata={"format": "pt"})
    inner, layers, heads = size.t5
    t5 = t5_config(SPECIAL_PIECES + len(pieces), joint, inner, layers, heads)
    write_json(partial / "text_encoder_2" / "config.json", t5)
    shapes = t5_shapes(t5)
    write_random_gguf(partial / "text_encoder_2" / "t5.gguf", shapes, "Q8_0", "t5encoder", _teller(say, "T5"))
    write_json(partial / "scheduler" / "scheduler_config.json", SCHEDULER)
    partial.rename(target)
    return target


def t5_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The tensors of a T5 encoder's file, with llama.cpp's names."""
    with torch.device("meta"):
        state: dict[str, Tensor] = T5EncoderModel(T5Config(**config)).state_dict()
    simple = {ours: theirs for theirs, ours in SIMPLE_NAMES.items()}
    blocks = {ours: theirs for theirs, ours in BLOCK_NAMES.items()}
    found = {}
    for name, tensor in state.items():
        if name == TIED:
            continue
        _, _, rest = name.partition("block.")
        index, _, layer = rest.partition(".")
        kind = blocks.get(layer.removesuffix(".weight"))
        found[simple[name] if kind is None else f"enc.blk.{index}.{kind}.weight"] = tuple(tensor.shape)
    return found


def random_state(net: nn.Module, seed: int = 1) -> dict[str, Tensor]:
    """bf16 weights for a net on the meta device, that neither fade nor explode on the way through."""
    chance = torch.Generator().manual_seed(seed)
    found = {}
    for name, tensor in net.state_dict().items():
        values = torch.randn(tensor.shape, generator=chance)
        if tensor.ndim >= 2:
            values /= math.sqrt(math.prod(tensor.shape[1:]))
        else:
            values = values * 0.1 + (0.0 if name.endswith("bias") else 1.0)
        found[name] = values.to(torch.bfloat16)
    return found


def _teller(say: Say, what: str) -> Callable[[int, int], None]:
    def tell(number: int, count: int) -> None:
        if number == count or number % 100 == 1:
            say(f"writing the {what}: {number} of {count} tensors")

    return tell
