"""The VAE: trained on crops of pictures and of control pictures, so that both survive the way through it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, l1_loss, mse_loss

from .dataset import GROUPS, read_shard, shard_path
from .nets import VAE
from .training import Stage, generator_of, run_stage

CROPS = ((64, 9), (96, 4), (128, 2))
"""Side in pixels and batch; the first twice as often."""
LINE_WEIGHT = 4.0
KL_WEIGHT = 1e-4
LOG_VARIANCE = -6.0
"""Of the latents at the start: at 0, noise would drown them."""
OFFSET = 4.0
SHARDS = (12, 3, 3, 2, 0, 0, 0)
"""Of each group, the shards that the VAE learns from."""
KINDS_SHARE = {"picture": 0.66, "normal": 0.12, "depth": 0.08, "line": 0.14}


def make_vae(device: torch.device) -> AutoencoderKL:
    """An untrained VAE that passes a small, soft picture from the start."""
    torch.manual_seed(3)
    vae = AutoencoderKL(**VAE)
    for name, module in vae.named_modules():
        # Residual blocks begin as nothing: deeper nets do not start otherwise.
        if name.endswith(("conv2", "to_out.0")) and isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.zeros_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    pass_colours(vae)
    return moved(vae, device)


def moved(vae: AutoencoderKL, device: torch.device) -> AutoencoderKL:
    # diffusers' `to` is typed by its decorator, without what it takes.
    module: Any = vae
    return module.to(device)


@torch.no_grad()
def pass_colours(vae: AutoencoderKL) -> None:
    """Sets weights so that the first three latents are the picture's colours, an eighth of its size, and come back out.

    Group norms hide a level colour, and a VAE takes thousands of steps to find a way around them. Here three channels
    go through all convolutions as they are. Before each of the two last norms they stand beside their negatives, all
    moved far from 0, so that the norm divides by nearly a constant; SiLU(x) - SiLU(-x) is x.
    """
    # Their blocks are typed as plain modules.
    encoder: Any = vae.encoder
    decoder: Any = vae.decoder
    rgb, average = (0, 1, 2), torch.zeros(3, 3)
    average[:2, :2] = 0.25
    tent = torch.tensor([1.0, 2.0, 1.0]) / 4
    tent = tent[:, None] * tent[None, :]
    _connect(encoder.conv_in, rgb, rgb)
    _connect(decoder.conv_in, rgb, rgb)
    for block in (*encoder.down_blocks, *decoder.up_blocks):
        for resnet in block.resnets:
            if resnet.conv_shortcut is not None:
                _connect(resnet.conv_shortcut, rgb, rgb)
    for block in encoder.down_blocks:
        for sampler in block.downsamplers or ():
            _connect(sampler.conv, rgb, rgb, average)
    for block in decoder.up_blocks:
        for sampler in block.upsamplers or ():
            _connect(sampler.conv, rgb, rgb, tent)
    _open_norm(encoder.down_blocks[-1].resnets[-1].conv_shortcut, encoder.conv_norm_out, encoder.conv_out)
    _open_norm(decoder.up_blocks[-1].resnets[0].conv_shortcut, decoder.conv_norm_out, decoder.conv_out)
    spread = encoder.conv_out.out_channels // 2
    encoder.conv_out.weight[spread:] *= 0.1
    encoder.conv_out.bias[spread:] = LOG_VARIANCE


def _connect(conv: nn.Conv2d, rows: Sequence[int], sources: Sequence[int], kernel: Tensor | None = None) -> None:
    """Makes output channels `rows` copies of input channels `sources`, through a kernel or unchanged."""
    for row, source in zip(rows, sources, strict=True):
        conv.weight[row] = 0
        if kernel is None:
            conv.weight[row, source, conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] = 1
        else:
            conv.weight[row, source] = kernel
        assert conv.bias is not None
        conv.bias[row] = 0


def _open_norm(before: nn.Conv2d, norm: nn.GroupNorm, after: nn.Conv2d) -> None:
    """Leads colours through a norm and SiLU: channels 0, 2, 4 and their negatives 1, 3, 5."""
    colours, negatives = (0, 2, 4), (1, 3, 5)
    _connect(before, colours, (0, 1, 2))
    _connect(before, negatives, (0, 1, 2))
    before.weight[list(negatives)] *= -1
    width = max(6, norm.num_channels // norm.num_groups)
    sign = torch.tensor([1.0, -1.0] * (width // 2))
    assert before.bias is not None
    before.bias[:width] = OFFSET * sign
    norm.weight[:width] = OFFSET
    norm.bias[:width] = -OFFSET * sign
    _connect(after, (0, 1, 2), colours)
    for row, negative in enumerate(negatives):
        after.weight[row, negative, 1, 1] = -1


def load_pictures(folder: Path) -> dict[str, list[Tensor]]:
    """By kind (picture, depth, normal, line): (3, height, width) uint8 of the first shards of each group."""
    found: dict[str, list[Tensor]] = {kind: [] for kind in KINDS_SHARE}
    for group, count in zip(GROUPS, SHARDS, strict=True):
        for shard in range(count):
            path = shard_path(folder, group, shard)
            for sample in read_shard(path) if path.exists() else ():
                found["picture"] += [
                    torch.from_numpy(picture).permute(2, 0, 1).contiguous() for picture in sample.pictures
                ]
                for kind, picture in sample.controls.items():
                    plain = picture if kind == "normal" else picture[..., :1]
                    found[kind].append(torch.from_numpy(plain.copy()).permute(2, 0, 1).contiguous())
    return found


def random_crops(pictures: dict[str, list[Tensor]], step: int, times: int) -> tuple[Tensor, Tensor]:
    """(batch, 3, side, side) in -1..1, and (batch, 1, 1, 1): 1 where it is a line picture."""
    chance = generator_of(3, step)

    def draw(limit: int) -> int:
        return int(torch.randint(limit, (1,), generator=chance))

    side, batch = (CROPS[0], *CROPS)[draw(len(CROPS) + 1)]
    crops, lines = [], []
    for _ in range(batch * times):
        at, kind = float(torch.rand(1, generator=chance)), "picture"
        for name, share in KINDS_SHARE.items():
            kind = name
            at -= share
            if at < 0:
                break
        source = pictures[kind][draw(len(pictures[kind]))]
        top, left = draw(source.shape[1] - side + 1), draw(source.shape[2] - side + 1)
        crop = source[:, top : top + side, left : left + side].expand(3, side, side)
        crops.append(crop.flip(2) if draw(2) and kind != "normal" else crop)
        lines.append(kind == "line")
    image = torch.stack(crops).float() / 127.5 - 1.0
    return image, torch.tensor(lines).view(-1, 1, 1, 1)


def train_vae(
    folder: Path,
    vae: AutoencoderKL,
    stage: Stage,
    batch: int,
    pictures: dict[str, list[Tensor]],
    show: Callable[[int], None],
) -> None:
    """Trains on `batch` times the crops in CROPS a step."""
    device = next(vae.parameters()).device
    optimizer = torch.optim.AdamW(vae.parameters(), lr=stage.rate, betas=(0.9, 0.98), weight_decay=1e-5)

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        image, is_line = random_crops(pictures, step, batch)
        image = image.to(device)
        with torch.autocast(device.type, torch.bfloat16):
            posterior = vae.encode(image, return_dict=False)[0]
            spread = torch.randn(posterior.mean.shape, generator=generator_of(4, step)).to(device)
            latents: Any = posterior.mean + posterior.std * spread
            out = vae.decode(latents, return_dict=False)[0].float()
        weight = 1.0 + (LINE_WEIGHT - 1.0) * (is_line.to(device) & (image > -0.5))
        loss = (weight * (out - image).abs()).mean() + 0.5 * (weight * (out - image) ** 2).mean()
        loss = loss + 0.5 * _slopes_loss(out, image) + avg_pool2d(out - image, 8).abs().mean()
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        is_picture = ~is_line.flatten().to(device)
        figures = {"loss": loss.item(), "kl": kl.item()}
        if is_picture.any():
            error = mse_loss(out[is_picture], image[is_picture]).item()
            figures["psnr"] = -10 * math.log10(max(error, 1e-9) / 4)
        return loss + KL_WEIGHT * kl, figures

    run_stage(stage, folder, {"vae": vae}, [optimizer], step_loss, show=show)
    vae.eval().requires_grad_(False)


def _slopes_loss(out: Tensor, image: Tensor) -> Tensor:
    """How far the differences between neighbouring pixels are off: edges count."""
    across = l1_loss(out[..., 1:] - out[..., :-1], image[..., 1:] - image[..., :-1])
    return across + l1_loss(out[..., 1:, :] - out[..., :-1, :], image[..., 1:, :] - image[..., :-1, :])


@torch.no_grad()
def fit_scale(vae: AutoencoderKL, pictures: dict[str, list[Tensor]], count: int = 120) -> None:
    """Sets the shift and the factor that give the latents of pictures mean 0 and unit size, as FLUX's VAE has them."""
    square = [picture for picture in pictures["picture"] if picture.shape[1:] == (256, 256)]
    chosen = square[:: max(1, len(square) // count)]
    means = [vae.encode(p[None].to(vae.device).float() / 127.5 - 1, return_dict=False)[0].mean for p in chosen]
    latents = torch.cat(means)
    shift, scale = float(latents.mean()), 1.0 / float(latents.std())
    vae.register_to_config(shift_factor=round(shift, 4), scaling_factor=round(scale, 4))
