"""The training data as latents: each scene through the VAE once, at its own size and at half of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ..flux.latents import pack
from ..flux.vae import encode
from .dataset import Sample, read_shard
from .nets import CONTROL_MODES
from .world.scenes import SECOND, SUBJECT

TOKEN = 16
"""Pixels to a token along a side."""


@dataclass(frozen=True, eq=False)
class LatentGroup:
    """All scenes of one size. pictures: (n, looks, tokens, 64). controls: (n, kinds, tokens, 64), in the order of
    CONTROL_MODES. subject: (n, tokens) 0..1, how much of a token is a thing. captions: n x looks x CAPTIONS."""

    width: int
    height: int
    pictures: Tensor
    controls: Tensor
    subject: Tensor
    captions: list[list[list[str]]]

    @property
    def tokens(self) -> int:
        return self.pictures.shape[2]

    @property
    def latent_size(self) -> tuple[int, int]:
        """rows, columns."""
        return self.height // 8, self.width // 8


def encode_dataset(data: Path, folder: Path, vae: AutoencoderKL) -> None:
    """Writes a file of latents beside each shard's name, where it is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [path for path in sorted(data.glob("*.npz")) if not (folder / f"{path.stem}.pt").exists()]
    for path in tqdm(paths, desc="encoding", unit="shard"):
        rows: dict[str, list[dict[str, Any]]] = {}
        for sample in read_shard(path):
            halves = (
                [sample, sample.halved()]
                if min(sample.parts.shape) % 32 == 0 and sample.parts.size > 65000
                else [sample]
            )
            for one in halves:
                height, width = one.parts.shape
                rows.setdefault(f"{width}x{height}", []).append(_encoded(one, vae))
        partial = folder / f"{path.stem}.part"
        torch.save({size: _stacked(found) for size, found in rows.items()}, partial)
        partial.replace(folder / f"{path.stem}.pt")


def _encoded(sample: Sample, vae: AutoencoderKL) -> dict[str, Any]:
    return {
        "pictures": through(vae, sample.pictures),
        "controls": through(vae, np.stack([sample.controls[kind] for kind in CONTROL_MODES])),
        "subject": subject_share(sample.parts),
        "captions": sample.captions,
    }


def _stacked(rows: list[dict[str, Any]]) -> dict[str, Any]:
    tensors = {name: torch.stack([row[name] for row in rows]) for name in ("pictures", "controls", "subject")}
    return {**tensors, "captions": [row["captions"] for row in rows]}


@torch.no_grad()
def through(vae: AutoencoderKL, pictures: NDArray[np.uint8]) -> Tensor:
    """(n, height, width, 3) uint8 -> (n, tokens, 64) bfloat16, the VAE's latents, packed."""
    image = torch.from_numpy(pictures).to(vae.device).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    with torch.autocast(vae.device.type, torch.bfloat16):
        return pack(encode(vae, image)).bfloat16().cpu()


def subject_share(parts: NDArray[np.int8]) -> Tensor:
    """(tokens,) bfloat16: the part of each token's pixels that show a thing."""
    rows, columns = parts.shape[0] // TOKEN, parts.shape[1] // TOKEN
    is_thing = np.isin(parts, (SUBJECT, SECOND)).astype(np.float32)
    shares = is_thing.reshape(rows, TOKEN, columns, TOKEN).mean((1, 3))
    return torch.from_numpy(shares.reshape(-1)).bfloat16()


def load_latents(folder: Path, keep: Callable[[str], bool] = lambda size: True) -> list[LatentGroup]:
    """All there are, by size, in the order of the sizes' names."""
    by_size: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.pt")):
        for size, found in torch.load(path, weights_only=True).items():
            if keep(size):
                by_size.setdefault(size, []).append(found)
    return list(_groups(by_size))


def _groups(by_size: dict[str, list[dict[str, Any]]]) -> Iterator[LatentGroup]:
    for size, parts in sorted(by_size.items()):
        width, height = map(int, size.split("x"))
        pictures, controls, subject = (
            torch.cat([part[name] for part in parts]) for name in ("pictures", "controls", "subject")
        )
        captions = [caption for part in parts for caption in part["captions"]]
        yield LatentGroup(width, height, pictures, controls, subject, captions)
