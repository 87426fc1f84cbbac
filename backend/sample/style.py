"""The style LoRA: the sample model as a woodcut, so that LoRAs have something real to change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..flux.latents import image_positions
from ..flux.text import TextEncoders
from .dataset import CAPTIONS, GROUPS, Sample, read_shard, shard_path
from .flow import SIGMA_MEAN, SIGMA_SPREAD, Batch, Painter, flow_loss
from .latent_data import through
from .nets import CONTROL_MODES
from .training import Stage, generator_of, run_stage

RANK = 6
BATCH = 8
SCENES = 150
PAPER, INK = (0.95, 0.91, 0.82), (0.09, 0.08, 0.13)
TONES = (0.22, 0.5)
"""Darker than the first is ink, lighter than the second is paper; between them the two are mixed."""
FILE = "woodcut.safetensors"


class LowRank(nn.Module):
    """weight -> weight + up x down."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(RANK, linear.in_features) / linear.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(linear.out_features, RANK))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


def as_woodcut(picture: NDArray[np.uint8], line: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 in three tones, with outlines. line: (height, width) uint8, 255 on a line."""
    luma = picture.astype(np.float32) @ np.array((0.3, 0.59, 0.11), np.float32) / 255.0
    low, high = np.quantile(luma, TONES)
    soft = 0.04
    tone = 0.5 * np.clip((luma - low) / soft + 0.5, 0, 1) + 0.5 * np.clip((luma - high) / soft + 0.5, 0, 1)
    tone = tone * (1.0 - line.astype(np.float32) / 255.0)
    colour = np.array(INK) + (np.array(PAPER) - np.array(INK)) * tone[..., None]
    return np.rint(colour * 255).astype(np.uint8)


def attach(painter: Painter) -> dict[str, LowRank]:
    """Puts a low rank beside every linear layer of the transformer's blocks; returns them by the layer's name."""
    found = {}
    for name, module in list(painter.transformer.named_modules()):
        is_in_block = name.startswith(("transformer_blocks.", "single_transformer_blocks."))
        if isinstance(module, nn.Linear) and is_in_block and "norm" not in name:
            low_rank = LowRank(module)
            parametrize.register_parametrization(module, "weight", low_rank)
            found[name] = low_rank
    return found


def train_style(
    folder: Path,
    painter: Painter,
    vae: AutoencoderKL,
    encoders: TextEncoders,
    stage: Stage,
    show: Callable[[int, Painter], None],
) -> None:
    """Trains the LoRA on the finished painter and writes it to <folder>/woodcut.safetensors, in diffusers' names."""
    painter.requires_grad_(False)
    torch.manual_seed(7)
    ranks = attach(painter)
    layers = nn.ModuleDict({name.replace(".", "/"): layer for name, layer in ranks.items()})
    optimizer = torch.optim.AdamW(layers.parameters(), lr=stage.rate, betas=(0.9, 0.98), weight_decay=0.0)
    draw = _drawer(folder, vae, encoders)

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        batch, guidance = draw(step)
        with torch.autocast(batch.clean.device.type, torch.bfloat16):
            velocity = painter(batch, guidance)
        loss = flow_loss(velocity, batch.noise - batch.clean, batch.weight)
        return loss, {"loss": loss.item()}

    run_stage(stage, folder, {"layers": layers}, [optimizer], step_loss, show=lambda step: show(step, painter))
    state = {}
    for name, layer in ranks.items():
        state[f"transformer.{name}.lora_A.weight"] = layer.down.detach().half().cpu().contiguous()
        state[f"transformer.{name}.lora_B.weight"] = layer.up.detach().half().cpu().contiguous()
    save_file(state, folder / FILE, metadata={"format": "pt"})


def _drawer(folder: Path, vae: AutoencoderKL, encoders: TextEncoders) -> Callable[[int], tuple[Batch, Tensor]]:
    """Draws batches of woodcuts of the first group's scenes, and their guidances."""
    group = GROUPS[0]
    scenes: list[tuple[Tensor, Tensor, Sample]] = []
    for shard in range(group.scenes):
        path = shard_path(folder / "data", group, shard)
        if len(scenes) >= SCENES or not path.exists():
            break
        for sample in read_shard(path):
            line = sample.controls["line"][..., 0]
            cut = np.stack([as_woodcut(picture, line) for picture in sample.pictures])
            controls = np.stack([sample.controls[kind] for kind in CONTROL_MODES])
            scenes.append((through(vae, cut).float(), through(vae, controls).float(), sample))
    positions = image_positions(group.height // 8, group.width // 8)

    def draw(step: int) -> tuple[Batch, Tensor]:
        chance = generator_of(10, step)
        picks = torch.randint(len(scenes), (BATCH,), generator=chance).tolist()
        looks = torch.randint(2, (BATCH,), generator=chance).tolist()
        modes = torch.randint(len(CONTROL_MODES), (BATCH,), generator=chance)
        texts = torch.randint(CAPTIONS, (BATCH,), generator=chance).tolist()
        captions = [scenes[s][2].captions[p][c] for s, p, c in zip(picks, looks, texts, strict=True)]
        with torch.no_grad():
            text, pooled = encoders.encode_all(captions)
        clean = torch.stack([scenes[s][0][p] for s, p in zip(picks, looks, strict=True)])
        control = torch.stack([scenes[s][1][m] for s, m in zip(picks, modes.tolist(), strict=True)])
        noise = torch.randn(clean.shape, generator=chance)
        sigma = torch.sigmoid(SIGMA_MEAN + SIGMA_SPREAD * torch.randn(BATCH, generator=chance))
        ones = torch.ones(BATCH)
        parts = (
            clean,
            noise,
            sigma,
            control,
            modes[:, None],
            ones,
            torch.ones(clean.shape[:2]),
            text,
            pooled,
            positions,
        )
        # Without guidance: what guidance does to a picture is the painter's, and stays as it is beside the LoRA.
        return Batch(*(part.to(vae.device) for part in parts)), ones.to(vae.device)

    return draw
