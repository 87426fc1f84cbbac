"""Writes the trained nets as a model folder."""

from __future__ import annotations

from pathlib import Path

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from gguf import GGMLQuantizationType

from ..flux.text import TextEncoders
from . import NAME
from .flow import Painter
from .model_files import Nets, model_description, write_model
from .nets import CONTROL_MODES, CONTROL_RECIPES, CONTROLNET, SCHEDULER, TEXT_TOKENS, TITLE, TRANSFORMER, VAE
from .text import write_tokenizers


def export_model(
    folder: Path,
    painter: Painter,
    vae: AutoencoderKL,
    encoders: TextEncoders,
    matrices: GGMLQuantizationType = GGMLQuantizationType.Q8_0,
) -> Path:
    """Writes <folder>/sample/, whole or not at all, and returns it. matrices: the type of the transformer's."""
    scale = {name: vae.config[name] for name in ("scaling_factor", "shift_factor")}
    nets = Nets(
        transformer=painter.transformer,
        transformer_config=TRANSFORMER,
        controlnet=painter.controlnet,
        controlnet_config=CONTROLNET,
        vae=vae,
        vae_config={**VAE, **scale},
        clip=encoders.clip,
        clip_config=encoders.clip.config.to_dict(),
        t5=encoders.t5,
        t5_config=encoders.t5.config.to_dict(),
        scheduler=SCHEDULER,
    )
    kinds = {kind: {"mode": CONTROL_MODES[kind], "picture": recipe} for kind, recipe in CONTROL_RECIPES.items()}
    description = model_description(TITLE, TEXT_TOKENS, kinds, steps=12)
    return write_model(folder, NAME, description, nets, write_tokenizers, matrices)
