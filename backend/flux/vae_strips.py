"""The VAE layer by layer in strips: the same picture as in one piece, in the memory of a tile.

Decoding tiles by themselves shows where they meet: the norms see one tile's mean and spread, and a convolution at a
tile's edge sees zeros where the picture goes on. Blending hides the edge, not the difference in colour. Here each
convolution goes over the picture in strips of rows that reach one row into their neighbours, and its output is
collected before the next one begins, so that the norms take mean and spread from the whole picture. Nothing is
computed twice and nothing is blended. What is too large for the device is collected in main memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, silu


@dataclass(eq=False, slots=True)
class FeatureMap:
    """What a layer made. values: (rows, columns, channels), on the device or in main memory.

    moments: of each strip its number of values in a channel, and their variance and mean by channel, float64.
    """

    values: Tensor
    moments: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)

    @classmethod
    def of(cls, image: Tensor) -> FeatureMap:
        """(1, channels, rows, columns), all there."""
        made = cls(image[0].permute(1, 2, 0).contiguous())
        made.note(made.values)
        return made

    def note(self, strip: Tensor) -> None:
        variance, mean = torch.var_mean(strip.float(), dim=(0, 1), correction=0)
        self.moments.append((strip.shape[0] * strip.shape[1], variance.double(), mean.double()))

    def normalising(self, norm: nn.GroupNorm) -> tuple[Tensor, Tensor]:
        """By channel, float32: what to multiply with and what to add, so that the groups are as the norm wants them."""
        counts = torch.tensor([count for count, _, _ in self.moments], dtype=torch.float64)
        shares = (counts / counts.sum()).to(self.moments[0][1].device)[:, None]
        variances = torch.stack([variance for _, variance, _ in self.moments])
        means = torch.stack([mean for _, _, mean in self.moments])
        mean = (shares * means).sum(0)
        spread = (shares * (variances + (means - mean) ** 2)).sum(0)
        grouped = mean.reshape(norm.num_groups, -1)
        group_mean = grouped.mean(1, keepdim=True)
        variance = (spread.reshape(grouped.shape) + (grouped - group_mean) ** 2).mean(1, keepdim=True)
        inverse = (variance + norm.eps).rsqrt().expand_as(grouped).flatten()
        scale = norm.weight.double() * inverse
        return scale.float(), (norm.bias.double() - group_mean.expand_as(grouped).flatten() * scale).float()


Beside = tuple[FeatureMap, nn.Module | None]
"""A map that is added to a layer's output, and a convolution of single pixels that it goes through before."""


@dataclass(frozen=True, eq=False, slots=True)
class Layer:
    """A convolution over strips. norm: applied before it, with SiLU. grows: whether it reads its input twice as large.

    stride: 2 for the encoder's halving, which pads below and to the right alone.
    """

    conv: nn.Conv2d
    norm: nn.GroupNorm | None = None
    grows: bool = False
    stride: int = 1

    def size(self, rows: int, columns: int) -> tuple[int, int]:
        """Of its output, by that of its input."""
        if self.grows:
            return 2 * rows, 2 * columns
        return rows // self.stride, columns // self.stride


class Strips:
    """Computes on `device` with no more than `most` values of a map at once."""

    def __init__(self, device: torch.device, dtype: torch.dtype, most: int) -> None:
        self.device, self.dtype, self.most = device, dtype, most

    def new_map(self, rows: int, columns: int, channels: int) -> FeatureMap:
        fits = rows * columns * channels <= self.most
        return FeatureMap(
            self._kept_here(rows, columns, channels) if fits else self._kept_away(rows, columns, channels)
        )

    def _kept_here(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self.dtype, device=self.device)

    def _kept_away(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self.dtype, device="cpu", pin_memory=self.device.type == "cuda")

    def run(
        self, layer: Layer, source: FeatureMap, beside: tuple[FeatureMap, nn.Module | None] | None = None
    ) -> FeatureMap:
        """The layer's output, with what is added to it."""
        rows, columns = layer.size(*source.values.shape[:2])
        made = self.new_map(rows, columns, layer.conv.out_channels)
        affine = None if layer.norm is None else source.normalising(layer.norm)
        for first, last in self._strips(rows, columns, max(layer.conv.in_channels, layer.conv.out_channels)):
            strip = self._computed(layer, source, affine, first, last)
            if beside is not None:
                added = self._image(beside[0].values[first:last])
                strip = strip + (added if beside[1] is None else beside[1](added))
            done = strip[0].permute(1, 2, 0)
            made.note(done)
            made.values[first:last].copy_(done, non_blocking=True)
        return made

    def _strips(self, rows: int, columns: int, channels: int) -> Iterator[tuple[int, int]]:
        height = max(1, self.most // (columns * channels))
        for first in range(0, rows, height):
            yield first, min(rows, first + height)

    def _computed(
        self, layer: Layer, source: FeatureMap, affine: tuple[Tensor, Tensor] | None, first: int, last: int
    ) -> Tensor:
        """(1, channels, last - first, columns): these rows of the layer's output."""
        before = 1 if layer.stride == 1 else 0
        low, high = first * layer.stride - before, (last - 1) * layer.stride - before + 3
        height = source.values.shape[0] * (2 if layer.grows else 1)
        within = max(low, 0), min(high, height)
        strip = self._rows(source, *within, grows=layer.grows)
        if affine is not None:
            scale, shift = (one[:, None, None] for one in affine)  # in float32, and so is what they make
            strip = silu((strip * scale).add_(shift), inplace=True).to(self.dtype)
        strip = pad(strip, (before, 1, within[0] - low, high - within[1]))
        return conv2d(strip, layer.conv.weight, layer.conv.bias, stride=layer.stride)

    def _rows(self, source: FeatureMap, low: int, high: int, *, grows: bool) -> Tensor:
        """(1, channels, high - low, columns) of a map, or of the map with each pixel as four."""
        if not grows:
            return self._image(source.values[low:high])
        strip = self._image(source.values[low // 2 : -(-high // 2)])
        grown = strip.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return grown[:, :, low % 2 : low % 2 + high - low]

    def _image(self, values: Tensor) -> Tensor:
        return values.to(self.device, self.dtype, non_blocking=True).permute(2, 0, 1)[None]

    def resnet(self, block: Any, source: FeatureMap) -> FeatureMap:
        """diffusers' ResnetBlock2D as the VAE has it: without a time, and without a scale of its output."""
        inner = self.run(Layer(block.conv1, block.norm1), source)
        return self.run(Layer(block.conv2, block.norm2), inner, (source, block.conv_shortcut))

    def whole(self, source: FeatureMap) -> Tensor:
        return self._image(source.values)


def in_strips(vae: AutoencoderKL, side: int) -> Strips:
    """side: of the square in pixels whose largest map may be on the device at once."""
    return Strips(vae.device, vae.dtype, side * side * vae.config["block_out_channels"][0])


def decode_strips(vae: AutoencoderKL, latents: Tensor, strips: Strips) -> Tensor:
    """As `vae.decode`: (1, channels, rows, columns) -> (1, 3, 8 x rows, 8 x columns)."""
    decoder: Any = vae.decoder
    if vae.post_quant_conv is not None:
        latents = vae.post_quant_conv(latents)
    found = FeatureMap.of(decoder.mid_block(decoder.conv_in(latents)))
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            found = strips.resnet(resnet, found)
        for larger in block.upsamplers or ():
            found = strips.run(Layer(larger.conv, grows=True), found)
    return strips.whole(strips.run(Layer(decoder.conv_out, decoder.conv_norm_out), found))


def encode_strips(vae: AutoencoderKL, image: Tensor, strips: Strips) -> Tensor:
    """What `vae.encode` makes its distribution of: (1, 3, height, width) -> (1, 2 x channels, rows, columns)."""
    encoder: Any = vae.encoder
    found = strips.run(Layer(encoder.conv_in), FeatureMap(image[0].permute(1, 2, 0)))
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            found = strips.resnet(resnet, found)
        for smaller in block.downsamplers or ():
            found = strips.run(Layer(smaller.conv, stride=2), found)
    deep = encoder.mid_block(strips.whole(found))
    moments = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(deep)))
    return moments if vae.quant_conv is None else vae.quant_conv(moments)
