"""What is done to a picture's pixels last: colours towards a reference, local contrast, sharpening, grain.

The picture is gone over in strips of rows, so that memory beside it does not grow with it; only what is wide (local
contrast, the colours' spread) is measured on a small copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import conv2d, interpolate, pad

from ..wire.finishes import Finish
from .pixels import as_float, from_float

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Of display values, Rec. 709."""
STRIP = 512
SMALL = 1024
"""Pixels on the longer side of the copy that wide things are measured on."""
WIDE = 0.03
"""The standard deviation of local contrast's blur, of the shorter side."""
OVERSHOOT = 0.12
"""How far sharpening moves a value at most, of the whole range: an edge gets no halo."""
SHADOWS, LIGHTS = 0.25, 0.1
"""Below so much brightness, and so far from white, a balance fades out."""
SPREAD_MIN, SPREAD_MAX = 0.5, 2.0
"""How much colours may be pulled together or apart."""


def finish(
    picture: NDArray[Any],
    look: Finish,
    *,
    reference: NDArray[np.uint8] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    check: Callable[[], None] = lambda: None,
) -> NDArray[Any]:
    """The picture as the finish asks, of the same type and size; nothing that it does not ask for is done.

    picture: (h, w, 1 to 4) uint8, uint16 or float32 0..1, display values; alpha stays. reference: (rows, columns, 3),
    where the colours are to go. seed: of the grain. The same picture gives the same bytes.
    """
    small = _small(picture)
    balance = _balance(small, reference, look.balance) if reference is not None and picture.shape[2] >= 3 else None
    wide = _wide_blur(small) if look.local_contrast > 0.0 else None
    sigma = look.sharpen_radius * min(picture.shape[:2]) / 1000.0 if look.sharpen > 0.0 else 0.0
    if balance is None and wide is None and sigma == 0.0 and look.grain == 0.0:
        return picture
    out = np.empty_like(picture)
    count = 1 if picture.shape[2] < 3 else 3
    out[..., count:] = picture[..., count:]
    strips = list(_strips(picture.shape[0]))
    for index, (top, bottom) in enumerate(strips):
        check()
        halo = int(np.ceil(3.0 * sigma))
        first, last = max(0, top - halo), min(picture.shape[0], bottom + halo)
        values = as_float(picture[first:last, :, :count])
        if balance is not None:
            values = _through(values, *balance)
        luma = _luma(values)
        change = np.zeros_like(luma)
        if wide is not None:
            change += look.local_contrast * (luma - _rows_of(wide, picture.shape, first, last)) * _midtones(luma)
        if sigma > 0.0:
            change += _held(look.sharpen * (luma - _blurred(luma, sigma)))
        kept = slice(top - first, bottom - first)
        change = change[kept]
        if look.grain > 0.0:
            change = change + look.grain * _grain(change.shape, look.grain_size, seed, index) * _midtones(luma[kept])
        out[top:bottom, :, :count] = from_float(values[kept] + change[..., None], picture.dtype)
        progress(index + 1, len(strips))
    return out


def _strips(height: int) -> Iterator[tuple[int, int]]:
    for top in range(0, height, STRIP):
        yield top, min(height, top + STRIP)


def _luma(values: Floats) -> Floats:
    """(h, w, 1 or 3) -> (h, w)."""
    return values[..., 0] if values.shape[2] == 1 else np.asarray(values @ LUMA, np.float32)


def _midtones(luma: Floats) -> Floats:
    """1 in the middle, 0 in black and white, where there is no room for more."""
    inside = luma.clip(0.0, 1.0)
    return np.asarray(4.0 * inside * (1.0 - inside), np.float32)


def _held(change: Floats) -> Floats:
    """Small changes as they are, none beyond `OVERSHOOT`."""
    return (OVERSHOOT * np.tanh(change / OVERSHOOT)).astype(np.float32)


def _small(picture: NDArray[Any]) -> Floats:
    """(rows, columns, 1 or 3): the picture's colours, no side longer than `SMALL`, each pixel the mean of its place."""
    count = 1 if picture.shape[2] < 3 else 3
    step = max(1, int(np.ceil(max(picture.shape[:2]) / SMALL)))
    if step == 1:
        return as_float(picture[..., :count])
    rows = []
    for top in range(0, picture.shape[0], step):
        mean = as_float(picture[top : top + step, :, :count]).mean(0)
        starts = np.arange(0, mean.shape[0], step)
        lengths = np.diff([*starts, mean.shape[0]])[:, None]
        rows.append(np.add.reduceat(mean, starts, axis=0) / lengths)
    return np.stack(rows).astype(np.float32)


def _wide_blur(small: Floats) -> Floats:
    luma = _luma(small)
    return _blurred(luma, max(1.0, WIDE * min(luma.shape)))


def _rows_of(small: Floats, shape: tuple[int, ...], first: int, last: int) -> Floats:
    """Rows first..last of a small plane brought to the size of a picture, linear."""
    height, width = shape[:2]
    places = ((np.arange(first, last) + 0.5) * small.shape[0] / height - 0.5).clip(0.0, small.shape[0] - 1.0)
    low = np.floor(places).astype(np.intp)
    part = (places - low)[:, None].astype(np.float32)
    rows = small[low] * (1.0 - part) + small[np.minimum(low + 1, small.shape[0] - 1)] * part
    tensor = torch.from_numpy(np.ascontiguousarray(rows, np.float32))[:, None]
    return interpolate(tensor, width, mode="linear", align_corners=False)[:, 0].numpy()


def _blurred(plane: Floats, sigma: float) -> Floats:
    """(h, w) through a Gaussian; the borders are repeated."""
    reach = max(1, int(np.ceil(3.0 * sigma)))
    places = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (places / sigma) ** 2)
    kernel = kernel / kernel.sum()
    tensor = torch.from_numpy(np.ascontiguousarray(plane, np.float32))[None, None]
    tensor = conv2d(pad(tensor, (reach, reach, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    tensor = conv2d(pad(tensor, (0, 0, reach, reach), mode="replicate"), kernel.view(1, 1, -1, 1))
    return tensor[0, 0].numpy()


def _grain(shape: tuple[int, ...], size: float, seed: int, strip: int) -> Floats:
    """(h, w) noise with a standard deviation of 1, its grains `size` pixels; by seed and strip alone."""
    noise = np.random.default_rng((seed, strip)).standard_normal(shape, np.float32)
    noise = _blurred(noise, max(size, 0.1))
    return noise / max(float(noise.std()), 1e-6)


def _balance(small: Floats, reference: NDArray[np.uint8], share: float) -> tuple[Floats, Floats] | None:
    """(3, 3) and (3,): what brings the colours' means and spreads towards those of the reference; brightness stays.

    After Reinhard et al., "Color Transfer between Images" (IEEE CG&A 21, 2001), on the differences of red and of blue
    to brightness.
    """
    if share == 0.0:
        return None
    own, wanted = _differences(small), _differences(_small(reference))
    spread = wanted.std(0) / np.maximum(own.std(0), 1e-3)
    spread = 1.0 + share * (spread.clip(SPREAD_MIN, SPREAD_MAX) - 1.0)
    shift = own.mean(0) + share * (wanted.mean(0) - own.mean(0)) - spread * own.mean(0)
    to_differences = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]) - LUMA[None]
    to_colours = np.array([[1.0, 0.0], [-LUMA[0] / LUMA[1], -LUMA[2] / LUMA[1]], [0.0, 1.0]])
    matrix = np.outer(np.ones(3), LUMA) + to_colours @ (spread[:, None] * to_differences)
    return matrix.astype(np.float32), (to_colours @ shift).astype(np.float32)


def _differences(values: Floats) -> NDArray[np.float64]:
    """(h, w, 3) -> (pixels, 2): red and blue less brightness."""
    flat = values.reshape(-1, values.shape[2]).astype(np.float64)
    return flat[:, [0, 2]] - (flat @ LUMA)[:, None]


def _through(values: Floats, matrix: Floats, shift: Floats) -> Floats:
    """The balanced colours; black and white stay without a tint."""
    luma = _luma(values)
    share = (luma / SHADOWS).clip(0.0, 1.0) * ((1.0 - luma) / LIGHTS).clip(0.0, 1.0)
    return np.asarray(values + (values @ matrix.T + shift - values) * share[..., None], np.float32)
