"""Pictures from the nets in training, several at once, and contact sheets of them to look at."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..flux.latents import image_positions, noise, pack, unpack
from ..flux.schedules import Shift, simple
from ..flux.text import TextEncoders
from ..flux.vae import decode
from .dataset import Sample, make_sample
from .flow import Batch, Painter
from .latent_data import through
from .nets import CONTROL_MODES, LATENT_CHANNELS, SHIFT
from .world.captions import plain_caption
from .world.looks import COLOURS, LIGHTS, MATERIALS, Appearance, Look
from .world.shapes import HELD_OUT

Picture = NDArray[np.uint8]
STEPS = 12
SHEET_SEED = 90_000
SHEET_ROWS = 6


@torch.no_grad()
def paint(
    painter: Painter,
    vae: AutoencoderKL,
    encoders: TextEncoders,
    controls: list[tuple[str, Picture]],
    prompts: list[str],
    seeds: list[int],
    guidance: float = 1.0,
    strength: float = 1.0,
    steps: int = STEPS,
) -> NDArray[np.uint8]:
    """(n, height, width, 3) uint8. controls: kind and (height, width, 3) picture of each, all of one size."""
    device = next(painter.parameters()).device
    height, width = controls[0][1].shape[:2]
    rows, columns = height // 8, width // 8
    text, pooled = encoders.encode_all(prompts)
    control = through(vae, np.stack([picture for _, picture in controls])).float()
    mode = torch.tensor([[CONTROL_MODES[kind]] for kind, _ in controls])
    latents = torch.cat([pack(noise(seed, LATENT_CHANNELS, rows, columns)) for seed in seeds]).to(device)
    given = torch.full((len(seeds),), strength, device=device)
    fixed = [part.to(device) for part in (control, mode)]
    rest = [part.to(device) for part in (text, pooled, image_positions(rows, columns))]
    scale = torch.full((len(seeds),), guidance, device=device)
    levels = simple(steps, rows * columns // 4, Shift(is_dynamic=False, fixed=SHIFT)).tolist()
    for level, following in pairwise(levels):
        sigma = torch.full((len(seeds),), level, device=device)
        # At its own noise level the batch mixes nothing in: clean stands for the latents as they are.
        batch = Batch(latents, latents, sigma, fixed[0], fixed[1], given, given, *rest)
        with torch.autocast(device.type, torch.bfloat16):
            velocity = painter(batch, scale).float()
        latents = latents + (following - level) * velocity
    image = torch.cat([decode(vae, unpack(one[None], rows, columns)) for one in latents])
    pixels = ((image / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


def sheet_looks() -> list[Appearance]:
    """The same looks for every sheet, one a row."""
    colours, materials, lights = list(COLOURS), list(MATERIALS), list(LIGHTS)
    found = []
    for row in range(SHEET_ROWS):
        subject = Look(colours[(row * 5) % 8], materials[(row * 3) % 8])
        ground = Look(
            ("white", "green", "grey", "brown", "blue", "yellow")[row],
            ("matte", "matte", "wood", "checker", "marble", "matte")[row],
        )
        background = ("wall", "sky", "plain")[row % 3]
        found.append(
            Appearance(
                subject, ground, background, ("blue", "yellow", "white", "pink")[row % 4], lights[row % 5], "left"
            )
        )
    return found


def draw_sheet(
    path: Path, painter: Painter, vae: AutoencoderKL, encoders: TextEncoders, guidance: float = 1.0, size: int = 256
) -> None:
    """Held-out things by each kind of control: control and picture, side by side, captions below."""
    tiles, texts = [], []
    for row, look in enumerate(sheet_looks()):
        sample = sheet_sample(row, size)
        prompt = plain_caption(look)
        controls = [(kind, sample.controls[kind]) for kind in CONTROL_MODES]
        pictures = paint(painter, vae, encoders, controls, [prompt] * 3, [row] * 3, guidance)
        tiles.append(
            [tile for (_, control), picture in zip(controls, pictures, strict=True) for tile in (control, picture)]
        )
        texts.append(prompt)
    save_sheet(path, tiles, texts)


def sheet_sample(row: int, size: int) -> Sample:
    return make_sample((SHEET_SEED, row), size, size, HELD_OUT)


def save_sheet(path: Path, rows: list[list[Picture]], texts: list[str]) -> None:
    """Tiles of one size in rows, with a line of text under each row; written whole or not at all."""
    height, width = rows[0][0].shape[:2]
    line = 22
    sheet = Image.new("RGB", (width * len(rows[0]), (height + line) * len(rows)), (24, 24, 26))
    draw = ImageDraw.Draw(sheet)
    for index, (tiles, text) in enumerate(zip(rows, texts, strict=True)):
        for column, tile in enumerate(tiles):
            sheet.paste(Image.fromarray(tile), (column * width, index * (height + line)))
        draw.text((6, index * (height + line) + height + 4), text, (232, 230, 226))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part.png")
    sheet.save(partial)
    partial.replace(path)
