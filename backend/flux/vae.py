"""Pictures <-> latents through the VAE, in the scale the transformer works in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor
from torch.nn import Module

from .vae_strips import decode_strips, encode_strips, in_strips


def scale_factor(vae: AutoencoderKL) -> int:
    """Pixels to a latent along a side: 8 in FLUX."""
    return 2 ** (len(vae.config["block_out_channels"]) - 1)


def encode(vae: AutoencoderKL, image: Tensor, generator: torch.Generator | None = None, tile: int = 0) -> Tensor:
    """(1, 3, height, width), -1..1 -> latents (1, channels, height / 8, width / 8).

    The latents' most likely values; a sample around them where a generator is given. tile: of `Placement.vae_tile`.
    """
    if _is_larger(image.shape, tile):
        moments = encode_strips(vae, image, in_strips(vae, tile))
        posterior = DiagonalGaussianDistribution(moments)
    else:
        posterior = vae.encode(image.to(vae.device, vae.dtype), return_dict=False)[0]
    latents = posterior.mode() if generator is None else posterior.sample(generator)
    return (latents - vae.config["shift_factor"]) * vae.config["scaling_factor"]


def decode(vae: AutoencoderKL, latents: Tensor, tile: int = 0) -> Tensor:
    """(1, channels, rows, columns) latents -> (1, 3, height, width), about -1..1, float32.

    tile: of `Placement.vae_tile`.
    """
    unscaled = (latents / vae.config["scaling_factor"] + vae.config["shift_factor"]).to(vae.device, vae.dtype)
    if _is_larger(latents.shape, tile // scale_factor(vae)):
        return decode_strips(vae, unscaled, in_strips(vae, tile)).float()
    return vae.decode(unscaled, return_dict=False)[0].float()


def _is_larger(shape: torch.Size, side: int) -> bool:
    """Whether a picture has more pixels than a tile of this side; never for the side 0, which is no tile."""
    return side > 0 and shape[-2] * shape[-1] > side * side


@contextmanager
def computing_in_float32(vae: AutoencoderKL) -> Iterator[None]:
    """Has the VAE compute in float32 inside: bfloat16 tells no more than 8 bits of a pixel apart.

    Its weights come back exactly as they were.
    """
    dtype = vae.dtype
    Module.to(vae, torch.float32)
    try:
        yield
    finally:
        Module.to(vae, dtype)
