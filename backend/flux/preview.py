"""A small picture of where the denoising is, without the VAE: one linear map from latent to colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d

from .latents import unpack
from .vae import encode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PREVIEW_SIDE = 128
CARD_CELLS = 6
CARD_CELL_PIXELS = 32


def fit_latent_colours(vae: AutoencoderKL) -> Tensor:
    """(channels + 1, 3) float32: the map from a latent, and 1, to colour that suits this VAE best (least squares).

    Fitted on a card of 6 x 6 colour patches with a gradient in each, so no table of factors has to be shipped.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    side = CARD_CELLS * CARD_CELL_PIXELS
    colours = torch.rand((1, 3, CARD_CELLS, CARD_CELLS), generator=generator)
    card = colours.repeat_interleave(CARD_CELL_PIXELS, 2).repeat_interleave(CARD_CELL_PIXELS, 3)
    shade = torch.linspace(-0.25, 0.25, CARD_CELL_PIXELS).repeat(CARD_CELLS)
    card = (card + shade[:, None]).clamp(0.0, 1.0)
    latents = encode(vae, card * 2.0 - 1.0).float().cpu()
    cells = avg_pool2d(card, side // latents.shape[2])
    features = latents[0].flatten(1).T
    features = torch.cat((features, torch.ones(len(features), 1)), dim=1).double()
    wanted = cells[0].flatten(1).T.double()
    ridge = 1e-3 * len(features) * torch.eye(features.shape[1], dtype=torch.float64)
    return torch.linalg.solve(features.T @ features + ridge, features.T @ wanted).float()


def preview(tokens: Tensor, rows: int, columns: int, colours: Tensor) -> NDArray[np.uint8]:
    """(1, tokens, channels) latents -> (height, width, 3) uint8 with sides of 128 pixels at most."""
    latents = unpack(tokens.float().cpu(), rows, columns)
    shrink = max(1.0, max(rows, columns) / PREVIEW_SIDE)
    if shrink > 1.0:
        latents = adaptive_avg_pool2d(latents, (max(1, int(rows / shrink)), max(1, int(columns / shrink))))
    image = torch.einsum("chw,cd->hwd", latents[0], colours[:-1]) + colours[-1]
    return image.nan_to_num(0.0).clamp(0.0, 1.0).mul(255.0).round().to(torch.uint8).numpy()
