"""Any picture, larger: a network run tile by tile, so that memory is bounded and no border between tiles shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch

from ..wire import FailureError, FailureKind
from .networks import Network
from .one_pass import Pass
from .one_tile import TileWork
from .pixels import Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

FACTOR_MIN, FACTOR_MAX = 1.5, 8.0
AREA_MAX = 16384**2
SIDE_MAX = 65_535
"""Pixels of a result: 16K square, and no side longer than most formats can say."""
TILES = {"cpu": 384, "cuda": 640}
"""Pixels on a side of a tile, by what computes."""
TILE_MIN = 64
OVERLAPS = {"RealESRGAN Compact": 48}
OVERLAP = 144
"""Pixels that neighbours both read, by the architecture. Compact networks see 18 pixels far. What the largest RRDBNet
makes of a pixel still changes by 0.001 with what is 56 away."""


def upscale(
    picture: NDArray[Any],
    factor: float,
    network: Network | None,
    *,
    kind: Kind = "colour",
    fidelity: float = 1.0,
    tileable: bool = False,
    tile: int | None = None,
    overlap: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    check: Callable[[], None] = lambda: None,
) -> NDArray[Any]:
    """A picture -> one `factor` times as large, of the same number format and channels.

    picture: (h, w) or (h, w, c) uint8, uint16 or float32, row 0 at the top; c is 1 (grey), 2 (grey and alpha), 3 (RGB)
    or 4 (RGB and straight alpha). Values are those that a screen shows, floats 0..1; what a float has beyond that is
    kept, resampled. factor: 1.5..8, and 1 for a network that restores; each side becomes the nearest whole number of
    pixels. network: one for upscaling; None to resample only. kind: see `Kind`. fidelity: 1 where the result, made
    small again, is to be the picture (`back_projection`), 0 for what the network makes of it, which may clean noise and
    JPEG's blocks away, and shift colours. tileable: the picture's borders fit together, and those of the result will.
    tile: pixels on a side that the network reads at once; None for what the device takes; halved when its memory does
    not suffice. overlap: pixels that neighbouring tiles both read; None for as many as the network needs to make of a
    tile what it would make of the whole. progress: told (tiles done, tiles in all). check: called before each tile;
    what it raises ends the work.

    A network is run once, or as often as it takes: before the last time the picture is brought to the size that makes
    that one end at the factor. The same picture gives the same bytes on the same machine.

    Raises `FailureError`: bad_request (a picture or a factor that cannot be), model_unsupported (a network that is not
    for this), model_broken, out_of_memory.
    """
    pixels = picture[..., None] if picture.ndim == 2 else picture
    _check(pixels, factor, network)
    sizes = _sizes(pixels.shape[:2], factor, network)
    if overlap is None:
        overlap = 16 if network is None else OVERLAPS.get(network.architecture, OVERLAP)
    side = tile or TILES.get("cpu" if network is None else network.device.type, TILES["cpu"])
    works = _works(TileWork(network, kind, tileable, pixels.shape[:2], sizes[-1], fidelity), sizes)
    while True:
        passes = [Pass.of(work, side, min(overlap, side // 2)) for work in works]
        try:
            with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
                found = _run(pixels, passes, progress, check)
            return found[..., 0] if picture.ndim == 2 else found
        except torch.OutOfMemoryError as error:
            if side // 2 < TILE_MIN:
                raise _no_memory(error) from error
        # Not in the handler: there the exception still holds what it had taken.
        side //= 2
        torch.cuda.empty_cache()


def _works(work: TileWork, sizes: list[tuple[int, int]]) -> list[TileWork]:
    """One for each run of the network."""
    before = [(work.size[0], work.size[1]), *sizes[:-1]]
    return [replace(work, size=size, out_size=out) for size, out in zip(before, sizes, strict=True)]


def _run(
    pixels: NDArray[Any],
    passes: list[Pass],
    progress: Callable[[int, int], None],
    check: Callable[[], None],
) -> NDArray[Any]:
    """In between 8 bits become 16, so that nothing is rounded twice."""
    dtype, done, total = pixels.dtype, 0, sum(one.tiles for one in passes)
    for one in passes:
        is_last = one is passes[-1]

        def tell(count: int, before: int = done) -> None:
            progress(before + count, total)

        between = np.dtype(np.uint16) if dtype == np.uint8 else dtype
        pixels = one.run(pixels, dtype if is_last else between, tell, check)
        done += one.tiles
    return pixels


def _sizes(size: tuple[int, ...], factor: float, network: Network | None) -> list[tuple[int, int]]:
    """(height, width) after each run of the network."""
    wanted = _scaled(size, factor)
    if network is None or network.scale == 1 or factor <= network.scale:
        return [wanted]
    before = -(-wanted[0] // network.scale), -(-wanted[1] // network.scale)
    return [*_sizes(size, factor / network.scale, network)[:-1], before, wanted]


def _scaled(size: tuple[int, ...], factor: float) -> tuple[int, int]:
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _check(pixels: NDArray[Any], factor: float, network: Network | None) -> None:
    if pixels.ndim != 3 or not 1 <= pixels.shape[2] <= 4 or 0 in pixels.shape:
        _bad(f"A picture of the shape {pixels.shape} cannot be enlarged.", "Use one with one to four channels.")
    if pixels.dtype not in (np.uint8, np.uint16, np.float32):
        _bad(f"A picture of {pixels.dtype} cannot be enlarged.", "Use one of 8 or 16 bits a channel, or of float32.")
    if pixels.dtype == np.float32 and not all(np.isfinite(row).all() for row in pixels):
        _bad("The picture holds values that are no numbers.", "Render it again, or fill them before enlarging it.")
    if network is not None and network.purpose == "face":
        raise FailureError.of(
            FailureKind.MODEL_UNSUPPORTED,
            f"The network {network.name} is for faces, not for whole pictures.",
            "Choose one for upscaling, such as Real-ESRGAN, and switch faces on beside it.",
        )
    _check_size(pixels.shape[:2], factor, network)


def _check_size(size: tuple[int, ...], factor: float, network: Network | None) -> None:
    if network is not None and network.scale == 1:
        if factor != 1.0:
            _bad(f"The network {network.name} keeps a picture's size.", "Choose one for upscaling, or a factor of 1.")
    elif network is not None and factor == 1.0:
        _bad(f"The network {network.name} makes pictures larger.", f"Choose {FACTOR_MIN:g} to {FACTOR_MAX:g} times.")
    elif not FACTOR_MIN <= factor <= FACTOR_MAX:
        _bad(f"A picture cannot be enlarged by {factor:g}.", f"Choose {FACTOR_MIN:g} to {FACTOR_MAX:g}.")
    height, width = _scaled(size, factor)
    if height * width > AREA_MAX or max(height, width) > SIDE_MAX:
        _bad(
            f"The enlarged picture would have {width} x {height} pixels, which is too many.",
            "Choose a smaller factor: 16384 x 16384 is the largest that can be.",
        )


def _no_memory(error: BaseException) -> FailureError:
    return FailureError.of(
        FailureKind.OUT_OF_MEMORY,
        "The graphics card has too little free memory to enlarge the picture.",
        "Close what else uses it, or choose a smaller network, such as realesr-general-x4v3.",
        str(error),
    )


def _bad(message: str, hint: str) -> NoReturn:
    raise FailureError.of(FailureKind.BAD_REQUEST, message, hint)
