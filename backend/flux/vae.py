"""Pictures <-> latents through the VAE, in the scale the transformer works in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor
from torch.nn import Module


def scale_factor(vae: AutoencoderKL) -> int:
    """Pixels to a latent along a side: 8 in FLUX."""
    return 2 ** (len(vae.config["block_out_channels"]) - 1)


def encode(vae: AutoencoderKL, image: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """(1, 3, height, width), -1..1 -> latents (1, channels, height / 8, width / 8).

    The latents' most likely values; a sample around them where a generator is given.
    """
    posterior = vae.encode(image.to(vae.device, vae.dtype), return_dict=False)[0]
    latents = posterior.mode() if generator is None else posterior.sample(generator)
    return (latents - vae.config["shift_factor"]) * vae.config["scaling_factor"]


def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """(1, channels, rows, columns) latents -> (1, 3, height, width), about -1..1, float32."""
    unscaled = latents / vae.config["scaling_factor"] + vae.config["shift_factor"]
    return vae.decode(unscaled.to(vae.device, vae.dtype), return_dict=False)[0].float()


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
