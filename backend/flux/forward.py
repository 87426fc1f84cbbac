"""One pass through FLUX's transformer or a ControlNet, with what does not depend on the latents made beforehand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True, eq=False, slots=True)
class Conditions:
    """What both nets are told about the picture.

    text: (1, text tokens, T5 width). pooled: (1, CLIP width). positions: (tokens, 3) float32 of the image's tokens.
    levels: (calls,) float32, the noise level of each call. guidance: FLUX's distilled guidance.
    """

    text: Tensor
    pooled: Tensor
    positions: Tensor
    levels: Tensor
    guidance: float


@dataclass(frozen=True, eq=False, slots=True)
class Prepared:
    """One net's view of the Conditions.

    text: (1, text tokens, width). rotary: cos and sin, (text + image tokens, head size). modulation: (calls, width).
    """

    text: Tensor
    rotary: tuple[Tensor, Tensor]
    modulation: Tensor


@dataclass(frozen=True, eq=False, slots=True)
class Residuals:
    """What ControlNets add after the transformer's blocks: lists of (1, tokens, width), one for some blocks each."""

    double: list[Tensor]
    single: list[Tensor]

    def __add__(self, other: Residuals) -> Residuals:
        return Residuals(_summed(self.double, other.double), _summed(self.single, other.single))


def _summed(left: list[Tensor], right: list[Tensor]) -> list[Tensor]:
    if not left or not right:
        return left or right
    return [a + b for a, b in zip(left, right, strict=True)]


def prepare(
    net: FluxTransformer2DModel | FluxControlNetModel, conditions: Conditions, mode: int | None = None
) -> Prepared:
    """Embeds text, places and noise levels for all calls. mode: a union ControlNet's mode, one more text token."""
    text = net.context_embedder(conditions.text)
    if mode is not None:
        index = torch.tensor([[mode]], device=text.device)
        text = torch.cat((net.controlnet_mode_embedder(index).to(text.dtype), text), dim=1)
    text_positions = torch.zeros(text.shape[1], 3, device=text.device)
    rotary = net.pos_embed(torch.cat((text_positions, conditions.positions)))
    levels = conditions.levels.to(text.device)
    pooled = conditions.pooled.expand(len(levels), -1)
    if net.config["guidance_embeds"]:
        guidance = torch.full_like(levels, conditions.guidance * 1000.0)
        modulation = net.time_text_embed(levels * 1000.0, guidance, pooled)
    else:
        modulation = net.time_text_embed(levels * 1000.0, pooled)
    return Prepared(text, rotary, modulation)


def transformer_velocity(
    net: FluxTransformer2DModel, latents: Tensor, prepared: Prepared, call: int, residuals: Residuals | None
) -> Tensor:
    """(1, tokens, channels in) latents of the text's dtype -> the velocity there, (1, tokens, channels out)."""
    image, text = net.x_embedder(latents), prepared.text
    modulation = prepared.modulation[call : call + 1]
    double, single = (residuals.double, residuals.single) if residuals else ([], [])
    for index, block in enumerate(net.transformer_blocks):
        text, image = block(
            hidden_states=image, encoder_hidden_states=text, temb=modulation, image_rotary_emb=prepared.rotary
        )
        image = _with_residual(image, double, index, len(net.transformer_blocks))
    for index, block in enumerate(net.single_transformer_blocks):
        text, image = block(
            hidden_states=image, encoder_hidden_states=text, temb=modulation, image_rotary_emb=prepared.rotary
        )
        image = _with_residual(image, single, index, len(net.single_transformer_blocks))
    return net.proj_out(net.norm_out(image, modulation))


def _with_residual(image: Tensor, residuals: list[Tensor], index: int, blocks: int) -> Tensor:
    """A ControlNet has fewer blocks than the transformer: each residual serves a run of neighbouring blocks.

    It knows the picture's own tokens, which come first; those of a picture beside it are left as they are.
    """
    if not residuals:
        return image
    residual = residuals[index // math.ceil(blocks / len(residuals))]
    unsteered = image.shape[1] - residual.shape[1]
    return image + (pad(residual, (0, 0, 0, unsteered)) if unsteered else residual)


def controlnet_residuals(
    net: FluxControlNetModel, latents: Tensor, condition: Tensor, prepared: Prepared, call: int, weight: float
) -> Residuals:
    """condition: (1, tokens, width), the control picture as `net.controlnet_x_embedder` embeds it."""
    image, text = net.x_embedder(latents) + condition, prepared.text
    modulation = prepared.modulation[call : call + 1]
    double: list[Tensor] = []
    single: list[Tensor] = []
    for block, output in zip(net.transformer_blocks, net.controlnet_blocks, strict=True):
        text, image = block(
            hidden_states=image, encoder_hidden_states=text, temb=modulation, image_rotary_emb=prepared.rotary
        )
        double.append(output(image) * weight)
    for block, output in zip(net.single_transformer_blocks, net.controlnet_single_blocks, strict=True):
        text, image = block(
            hidden_states=image, encoder_hidden_states=text, temb=modulation, image_rotary_emb=prepared.rotary
        )
        single.append(output(image) * weight)
    return Residuals(double, single)
