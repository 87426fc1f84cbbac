"""Resampling as two small matrix products, at exact places: tiles that are resampled one by one fit together."""

from __future__ import annotations

import torch
from torch import Tensor

LOBES = 3
"""Of Lanczos' kernel, as in Pillow's LANCZOS."""


def resample_matrix(
    out_start: int, out_stop: int, out_length: int, start: int, stop: int, length: int, *, ring: bool = False
) -> Tensor:
    """(out_stop - out_start, stop - start) float32: what each pixel of the result takes of the pixels that are there.

    The whole axis has `length` pixels and becomes `out_length`, pixel centres at half; of it, `start` to `stop` are
    there. Smaller results are averaged over, so that nothing fine turns into patterns. Rows add up to 1; at the ends of
    the axis, but for a ring's, the kernel is cut off.
    """
    step = length / out_length
    width = max(step, 1.0)
    places = (torch.arange(out_start, out_stop, dtype=torch.float64)[:, None] + 0.5) * step - 0.5
    pixels = torch.arange(start, stop, dtype=torch.float64)[None]
    weights = _lanczos((pixels - places) / width)
    if not ring:
        weights = weights * ((pixels >= 0) & (pixels < length))
    return (weights / weights.sum(1, keepdim=True)).float()


def resample(image: Tensor, rows: Tensor | slice, columns: Tensor | slice) -> Tensor:
    """(1, c, h, w) -> (1, c, H, W): by matrices of `resample_matrix`, or cut out where an axis keeps its pixels."""
    image = image[..., columns] if isinstance(columns, slice) else image @ columns.to(image.device).T
    return image[..., rows, :] if isinstance(rows, slice) else rows.to(image.device) @ image


def taken(
    out_start: int, out_stop: int, out_length: int, start: int, stop: int, length: int, *, ring: bool = False
) -> Tensor | slice:
    """What `resample` needs to get `out_start` to `out_stop` of an axis; see `resample_matrix`."""
    if length == out_length:
        return slice(out_start - start, out_stop - start)
    return resample_matrix(out_start, out_stop, out_length, start, stop, length, ring=ring)


def _lanczos(x: Tensor) -> Tensor:
    return torch.where(x.abs() < LOBES, torch.sinc(x) * torch.sinc(x / LOBES), 0.0)
