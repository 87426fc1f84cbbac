"""One pass through FLUX's transformer or a ControlNet, with what does not depend on the latents made beforehand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
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

    text: (1, text tokens, width). rotary: cos and sin, (text + image tokens, head size). modulation: (calls, width), or
    (calls,) whole numbers while the net looks them up (`modulation.looked_up`).
    """

    text: Tensor
    rotary: tuple[Tensor, Tensor]
    modulation: Tensor


@dataclass(frozen=True, eq=False, slots=True)
class Residuals:
    """What ControlNets add after the transformer's blocks: lists of (1, tokens, width), each for some of the blocks.

    A net has fewer blocks than the transformer: each of its residuals serves a run of neighbouring blocks, or, where
    `double_repeats` (XLabs' nets), those of the double blocks take turns.
    """

    double: list[Tensor]
    single: list[Tensor]
    double_repeats: bool = False

    def fits(self, other: Residuals) -> bool:
        """Whether both are for the same blocks, and can be added up before any block runs."""
        mine = (len(self.double), len(self.single), self.double_repeats)
        return mine == (len(other.double), len(other.single), other.double_repeats)

    def __add__(self, other: Residuals) -> Residuals:
        """Raises `ValueError` where the two do not fit."""
        double = [a + b for a, b in zip(self.double, other.double, strict=True)]
        single = [a + b for a, b in zip(self.single, other.single, strict=True)]
        return Residuals(double, single, self.double_repeats)

    def after_double(self, index: int, blocks: int) -> Tensor | None:
        """What to add after this one of so many double blocks."""
        if self.double_repeats and self.double:
            return self.double[index % len(self.double)]
        return _of_its_run(self.double, index, blocks)

    def after_single(self, index: int, blocks: int) -> Tensor | None:
        return _of_its_run(self.single, index, blocks)


def _of_its_run(residuals: list[Tensor], index: int, blocks: int) -> Tensor | None:
    return residuals[index // math.ceil(blocks / len(residuals))] if residuals else None


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
    net: FluxTransformer2DModel, latents: Tensor, prepared: Prepared, call: int, residuals: Sequence[Residuals]
) -> Tensor:
    """(1, tokens, channels in) latents of the text's dtype -> the velocity there, (1, tokens, channels out).

    residuals: of ControlNets, all of which are added. They know the picture's own tokens, which come first; those of a
    picture beside it are left as they are.
    """
    image, text = net.x_embedder(latents), prepared.text
    modulation = prepared.modulation[call : call + 1]
    for index, block in enumerate(net.transformer_blocks):
        text, image = block(
            hidden_states=image, encoder_hidden_states=text, temb=modulation, image_rotary_emb=prepared.rotary
        )
        image = _added(image, (part.after_double(index, len(net.transformer_blocks)) for part in residuals))
    for index, block in enumerate(net.single_transformer_blocks):
        text, image = block(
            hidden_states=image, encoder_hidden_states=text, temb=modulation, image_rotary_emb=prepared.rotary
        )
        image = _added(image, (part.after_single(index, len(net.single_transformer_blocks)) for part in residuals))
    return net.proj_out(net.norm_out(image, modulation))


def _added(image: Tensor, parts: Iterable[Tensor | None]) -> Tensor:
    for part in parts:
        if part is not None:
            unsteered = image.shape[1] - part.shape[1]
            image = image + (pad(part, (0, 0, 0, unsteered)) if unsteered else part)
    return image


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
    return Residuals(double, single, double_repeats(net))


def double_repeats(net: FluxControlNetModel) -> bool:
    """Whether a net's residuals take turns: those of nets that read pixels by themselves do."""
    return net.input_hint_block is not None
