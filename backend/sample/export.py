"""Writes the trained nets as a model folder, in the product's own files and formats."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor, nn

from ..flux.text import TextEncoders
from ..flux.write_gguf import bfl_tensors, write_gguf
from . import NAME
from .flow import Painter
from .nets import CONTROL_MODES, CONTROL_RECIPES, CONTROLNET, SCHEDULER, TEXT_TOKENS, TITLE, TRANSFORMER, VAE
from .text import write_tokenizers


def export_model(folder: Path, painter: Painter, vae: AutoencoderKL, encoders: TextEncoders) -> Path:
    """Writes <folder>/sample/, whole or not at all, and returns it."""
    target, partial = folder / NAME, folder / f".{NAME}.part"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _write_json(partial / "model.json", description())
    _write_json(partial / "transformer" / "config.json", TRANSFORMER)
    write_gguf(partial / "transformer.gguf", bfl_tensors(painter.transformer.state_dict(), TRANSFORMER))
    write_part(partial / "controlnet", "diffusion_pytorch_model", painter.controlnet, CONTROLNET)
    scale = {name: vae.config[name] for name in ("scaling_factor", "shift_factor")}
    write_part(partial / "vae", "diffusion_pytorch_model", vae, {**VAE, **scale})
    write_tokenizers(partial)
    write_part(partial / "text_encoder", "model", encoders.clip, encoders.clip.config.to_dict())
    write_part(partial / "text_encoder_2", "model", encoders.t5, encoders.t5.config.to_dict())
    _write_json(partial / "scheduler" / "scheduler_config.json", SCHEDULER)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return target


def description() -> dict[str, Any]:
    """The model.json."""
    kinds = {kind: {"mode": CONTROL_MODES[kind], "picture": recipe} for kind, recipe in CONTROL_RECIPES.items()}
    return {
        "format": 1,
        "title": TITLE,
        "transformer": {"file": "transformer.gguf", "config": "transformer/config.json"},
        **{part: part for part in ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")},
        "max_text_tokens": TEXT_TOKENS,
        "controlnets": [{"folder": "controlnet", "kinds": kinds}],
        "defaults": {"steps": 12, "guidance": 3.5},
    }


def write_part(folder: Path, stem: str, module: nn.Module, config: dict[str, Any]) -> None:
    """config.json and safetensors in float16."""
    _write_json(folder / "config.json", config)
    state: dict[str, Tensor] = {
        name: value.to(torch.float16).contiguous()
        for name, value in module.state_dict().items()
        if name != "encoder.embed_tokens.weight"
    }
    save_file(state, folder / f"{stem}.safetensors", metadata={"format": "pt"})


def _write_json(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1, sort_keys=True, default=str) + "\n", encoding="utf-8")
