"""A finished model's folder -> the nets that trained it, to go on from where their checkpoints are gone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from ..flux.dequantise import dequantise
from ..flux.gguf_file import read_gguf
from ..flux.load_parts import load_part
from ..flux.text import TextEncoders
from ..flux.tokenizers import load_tokenizer
from ..flux.transformer_names import bfl_pieces
from .flow import Painter
from .nets import TEXT_TOKENS


@dataclass(frozen=True, eq=False)
class Trained:
    """painter: without its guess heads, which no file keeps, and its transformer as exact as Q8_0 left it."""

    painter: Painter
    vae: AutoencoderKL
    encoders: TextEncoders


def load_trained(folder: Path, device: torch.device) -> Trained:
    """The nets of the model that `export_model` wrote. Raises `FailureError` where it is not whole."""
    painter = Painter()
    painter.transformer.load_state_dict(_transformer_state(folder / "transformer.gguf", painter))
    controlnet = load_part(FluxControlNetModel, folder / "controlnet", device, torch.float32)
    painter.controlnet.load_state_dict(controlnet.state_dict())
    cpu = torch.device("cpu")
    clip = load_part(CLIPTextModel, folder / "text_encoder", cpu, torch.float32)
    t5 = load_part(T5EncoderModel, folder / "text_encoder_2", cpu, torch.float32)
    clip_tokenizer = load_tokenizer(CLIPTokenizer, folder / "tokenizer", clip.config.vocab_size)
    t5_tokenizer = load_tokenizer(T5Tokenizer, folder / "tokenizer_2", t5.config.vocab_size)
    encoders = TextEncoders(clip, clip_tokenizer, t5, t5_tokenizer, TEXT_TOKENS)
    return Trained(painter.to(device), load_part(AutoencoderKL, folder / "vae", device, torch.float32), encoders)


def _transformer_state(path: Path, painter: Painter) -> dict[str, Tensor]:
    """The transformer's weights in float32, by diffusers' names."""
    parts: dict[str, list[Tensor]] = {}
    for name, tensor in read_gguf(path).tensors.items():
        values = dequantise(torch.from_numpy(tensor.packed.copy()), tensor.type.name).reshape(tensor.shape)
        for piece in bfl_pieces(name, tensor.shape[0], painter.transformer.inner_dim):
            parts.setdefault(piece.target, []).append(values[piece.first : piece.last].float())
    return {name: torch.cat(values) for name, values in parts.items()}
