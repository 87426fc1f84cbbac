"""The VAE in a tile's memory: the picture of one piece, with no seams, and memory that does not grow with it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor
from torch.nn import Module
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from backend.flux.load_parts import load_part
from backend.flux.model import FluxModel
from backend.flux.placement import Placement
from backend.flux.vae import decode, encode, scale_factor
from backend.flux.vae_strips import Strips, decode_strips, encode_strips, in_strips
from backend.sample import model_folder
from tests.backend.diffusers_reference import MASK, REQUEST, ours
from tools.random_model import VAE

CPU = torch.device("cpu")
SHEET = Path(__file__).resolve().parents[2] / "docs" / "contact_sheet.jpg"
FLUX_VAE: dict[str, Any] = {
    **VAE, "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "norm_num_groups": 32,
}  # fmt: skip
"""The shape of FLUX.1's own."""
TILE = 64
SIZES = [(128, 128), (264, 72), (72, 328), (136, 200), (64, 72)]
"""Square, portrait, wide, odd in tiles, and one that is barely larger than a tile."""


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    """The sample model's."""
    with torch.inference_mode():
        return load_part(AutoencoderKL, model_folder() / "vae", CPU, torch.float32)


def photograph(height: int, width: int, seed: int = 0) -> Tensor:
    """(1, 3, height, width), -1..1: a part of the contact sheet, with shaded surfaces, edges and skies."""
    with Image.open(SHEET) as sheet:
        rng = np.random.default_rng(seed)
        left, top = int(rng.integers(0, sheet.width - width)), int(rng.integers(0, sheet.height - height))
        part = np.array(sheet.convert("RGB").crop((left, top, left + width, top + height)))
    return torch.from_numpy(part).permute(2, 0, 1)[None].float() / 127.5 - 1.0


@pytest.mark.parametrize(("height", "width"), SIZES)
@torch.inference_mode()
def test_tiles_are_the_whole_picture(vae: AutoencoderKL, height: int, width: int) -> None:
    image = photograph(height, width)
    latents = encode(vae, image)
    assert torch.allclose(encode(vae, image, tile=TILE), latents, atol=1e-4)
    assert torch.allclose(decode(vae, latents, TILE), decode(vae, latents), atol=1e-4)


@torch.inference_mode()
def test_a_picture_of_a_tile_or_less_is_made_in_one_piece(vae: AutoencoderKL) -> None:
    for height, width in ((64, 64), (32, 128), (8, 16)):
        image = photograph(height, width)
        assert torch.equal(encode(vae, image, tile=TILE), encode(vae, image))
        assert torch.equal(decode(vae, encode(vae, image), TILE), decode(vae, encode(vae, image)))


@torch.inference_mode()
def test_in_bfloat16_no_further_from_the_truth_than_one_piece() -> None:
    exact = load_part(AutoencoderKL, model_folder() / "vae", CPU, torch.float32)
    coarse = load_part(AutoencoderKL, model_folder() / "vae", CPU, torch.bfloat16)
    latents = encode(exact, photograph(136, 200))
    wanted = decode(exact, latents)
    whole, tiled = ((decode(coarse, latents, tile) - wanted).abs() for tile in (0, TILE))
    assert tiled.mean() < 1.1 * whole.mean() and tiled.max() < 1.5 * whole.max()


def one_by_one(code: Callable[[Tensor], Tensor], values: Tensor, side: int) -> Tensor:
    """Each tile by itself, put side by side: what is not to be."""
    rows = [torch.cat([code(tile) for tile in row.split(side, 3)], 3) for row in values.split(side, 2)]
    return torch.cat(rows, 2)


def strips_by_themselves(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Our own strips, but that each strip is normalised by its own numbers."""
    strips = in_strips(vae, TILE)
    run = strips.run

    def forgetful(layer: Any, source: Any, beside: Any = None) -> Any:
        height = max(1, strips.most // (source.values.shape[1] * source.values.shape[2]))
        parts = []
        for part in source.values.split(height, 0):
            alone = type(source)(part)
            alone.note(part)
            parts.append(run(replace(layer), alone).values)
        made = type(source)(torch.cat(parts))
        if beside is not None:
            added = beside[0].values.permute(2, 0, 1)[None]
            made.values += (added if beside[1] is None else beside[1](added))[0].permute(1, 2, 0)
        made.note(made.values)
        return made

    strips.run = forgetful  # type: ignore[method-assign]
    return decode_strips(vae, latents / vae.config["scaling_factor"] + vae.config["shift_factor"], strips).float()


def seam(image: Tensor, truth: Tensor, every: int) -> float:
    """How much more the picture jumps across the borders of tiles than elsewhere, beside what it has of itself.

    The mean jump between neighbouring rows and columns of what the tiling changed, at the borders and between them,
    as a share of the picture's own mean jump: 0 where nothing tells the borders from the rest.
    """
    found = []
    for axis in (2, 3):
        jumps = (image - truth).diff(dim=axis).abs().mean(dim=tuple(one for one in range(4) if one != axis))
        own = truth.diff(dim=axis).abs().mean()
        at = torch.zeros(len(jumps), dtype=torch.bool)
        at[every - 1 :: every] = True
        found.append(float((jumps[at].mean() - jumps[~at].mean()) / own))
    return max(found)


VISIBLE = 0.02
"""A fiftieth of what neighbouring pixels differ anyway."""


@pytest.mark.parametrize("seed", range(3))
@torch.inference_mode()
def test_no_seams(vae: AutoencoderKL, seed: int) -> None:
    image = photograph(256, 256, seed)
    latents = encode(vae, image)
    truth = decode(vae, latents)
    assert abs(seam(decode(vae, latents, TILE), truth, TILE)) < 1e-3
    naive = one_by_one(lambda tile: decode(vae, tile), latents, TILE // scale_factor(vae))
    assert seam(naive, truth, TILE) > 10 * VISIBLE
    blended = diffusers_tiles(vae, latents)
    assert (blended - truth).abs().mean() > 100 * (decode(vae, latents, TILE) - truth).abs().mean(), (
        "blending hides the edges, not that each tile is normalised by itself"
    )


@torch.inference_mode()
def test_no_seams_in_latents(vae: AutoencoderKL) -> None:
    image = photograph(256, 256)
    truth = encode(vae, image)
    every = TILE // scale_factor(vae)
    assert abs(seam(encode(vae, image, tile=TILE), truth, every)) < 1e-3
    assert seam(one_by_one(lambda tile: encode(vae, tile), image, TILE), truth, every) > VISIBLE


@torch.inference_mode()
def test_strips_that_forget_their_neighbours_are_seen(vae: AutoencoderKL) -> None:
    """What the statistic and the comparison are worth: the same strips, each padded and normalised by itself."""
    latents = encode(vae, photograph(256, 256))
    truth = decode(vae, latents)
    assert (strips_by_themselves(vae, latents) - truth).abs().max() > 0.05


def diffusers_tiles(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """diffusers' own tiling, with tiles of the same size, a quarter of which overlap."""
    vae.enable_tiling()
    vae.tile_sample_min_size, vae.tile_latent_min_size = TILE, TILE // scale_factor(vae)
    try:
        return decode(vae, latents)
    finally:
        vae.disable_tiling()


class Allocations(TorchDispatchMode):
    """Counts the bytes of what is made meanwhile and is there at once. left_out: what is not the device's."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.left_out: list[Tensor] = []
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, Tensor):
                self._count(one)
        return made

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self._known or any(
            storage._cdata == one.untyped_storage()._cdata for one in self.left_out
        ):
            return
        self._known.add(storage._cdata)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def peak(work: Callable[[], object], monkeypatch: pytest.MonkeyPatch, device: str = "cpu") -> int:
    """Bytes that it takes on the device at once, without the maps that are kept in main memory."""
    counted = Allocations()

    def kept_away(self: Strips, *shape: int) -> Tensor:
        with _disable_current_modes():
            made = torch.empty(shape, dtype=self.dtype, device=device)
        counted.left_out.append(made)
        return made

    with monkeypatch.context() as patch, torch.inference_mode(), counted:
        patch.setattr(Strips, "_kept_away", kept_away)
        work()
    return counted.peak


def test_memory_is_that_of_a_tile(vae: AutoencoderKL, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted on the sample model's VAE, by what torch allocates."""
    factor = scale_factor(vae)

    def decoding(side: int, tile: int) -> int:
        latents = torch.randn(1, vae.config["latent_channels"], side // factor, side // factor)
        return peak(lambda: decode(vae, latents, tile), monkeypatch)

    def encoding(side: int, tile: int) -> int:
        return peak(lambda: encode(vae, torch.zeros(1, 3, side, side), tile=tile), monkeypatch)

    for work in (decoding, encoding):
        tile, whole, tiled = work(64, 0), work(256, 0), work(256, 64)
        assert whole > 14 * tile, "else it shows nothing"
        # What is left is the attention in the middle, which sees the whole picture.
        assert tiled < whole / 3, (work, tile, whole, tiled)


def test_memory_at_the_real_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """FLUX.1's VAE on the meta device, in bfloat16: 1024 and 2048 pixels in tiles of 512."""
    with torch.device("meta"):
        real: Any = Module.to(AutoencoderKL(**FLUX_VAE), torch.bfloat16).requires_grad_(False)
    strips = Strips(torch.device("meta"), torch.bfloat16, 512 * 512 * 128)

    def latents(side: int) -> Tensor:
        return torch.empty(1, 16, side // 8, side // 8, dtype=torch.bfloat16, device="meta")

    def image(side: int) -> Tensor:
        return torch.empty(1, 3, side, side, dtype=torch.bfloat16, device="meta")

    whole = {side: peak(lambda: real.decoder(latents(side)), monkeypatch, "meta") for side in (512, 1024)}  # noqa: B023
    tiled = {
        side: peak(lambda: decode_strips(real, latents(side), strips), monkeypatch, "meta")  # noqa: B023
        for side in (1024, 2048)
    }
    assert tiled[1024] < 1.1 * whole[512] < 0.3 * whole[1024], (tiled, whole)
    assert tiled[2048] < 1.5 * whole[512], (tiled, whole)
    encoded = peak(lambda: encode_strips(real, image(1024), strips), monkeypatch, "meta")
    assert encoded < 1.1 * whole[512], (encoded, whole)


def test_a_placement_s_tile_is_used(model: FluxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """By all that goes through the VAE, and the picture stays the same to the last values."""
    request = replace(REQUEST, task="inpaint", strength=0.8)
    tokens, wanted = ours(model, request, [], MASK)
    used: list[str] = []
    for name in ("decode_strips", "encode_strips"):
        real = getattr(__import__("backend.flux.vae_strips", fromlist=[name]), name)
        monkeypatch.setattr(
            f"backend.flux.vae.{name}", lambda *args, name=name, real=real: used.append(name) or real(*args)
        )
    try:
        with torch.inference_mode():
            model.place(Placement(vae_tile=32))
        got, image = ours(model, request, [], MASK)
    finally:
        with torch.inference_mode():
            model.place(Placement())
    assert used == ["encode_strips", "decode_strips"]
    assert (got - tokens).norm() < 1e-4 * tokens.norm() and np.abs(image - wanted).max() <= 1.01 / 255.0
