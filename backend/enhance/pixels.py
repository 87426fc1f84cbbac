"""Pictures between the number formats that they come in and what a network reads, with what is transparent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["colour", "data", "normal"]
"""What a picture's values mean. "colour": as a screen shows them. "data": each channel for itself, such as roughness or
height. "normal": directions, -1..1 as 0..1 in red, green and blue."""
SHORTEST = 0.25
"""A direction shorter than this is none: where a normal map is empty it holds the neutral grey."""


def as_float(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """uint8 and uint16 -> 0..1; floats as they are."""
    if pixels.dtype.kind == "f":
        return pixels.astype(np.float32)
    return pixels.astype(np.float32) * np.float32(1.0 / np.iinfo(pixels.dtype).max)


def from_float(values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The inverse of `as_float`, to the nearest; what lies outside 0..1 is cut off for whole numbers alone."""
    if dtype.kind == "f":
        return values.astype(dtype)
    most = np.iinfo(dtype).max
    scaled = np.clip(values, 0.0, 1.0)
    scaled *= np.float32(most)
    return np.rint(scaled, out=scaled).astype(dtype)


def unit_normals(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., 3 or more) float32 with directions in the first three channels, -1..1 as 0..1: each made one long."""
    direction = values[..., :3] * 2.0 - 1.0
    length = np.sqrt((direction * direction).sum(-1, keepdims=True))
    unit = np.where(length < SHORTEST, 0.0, direction / np.maximum(length, SHORTEST))
    return np.concatenate([unit * 0.5 + 0.5, values[..., 3:]], axis=-1).astype(np.float32)


def fill_hidden(colours: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """(h, w, c), (h, w, 1) -> the colours, with those that cannot be seen taken from the nearest that can.

    So no network mixes the black of an empty background into an edge. By halves and back, as in Gortler et al., "The
    Lumigraph" (SIGGRAPH 1996), section 3.4.
    """
    if not (alpha < 1.0).any() or not (alpha > 0.0).any():
        return colours
    weighed = colours * alpha
    return (weighed + _pulled(weighed, alpha) * (1.0 - alpha)).astype(np.float32)


def _pulled(weighed: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours times weights, and weights -> colours everywhere, from as near as there are any."""
    height, width = weight.shape[:2]
    safe = np.maximum(weight, 1e-6)
    if max(height, width) == 1:
        return (weighed / safe).astype(np.float32)
    coarse = _pulled(_halved(weighed), _halved(weight))
    wide = coarse.repeat(2, 0)[:height].repeat(2, 1)[:, :width]
    sure = np.minimum(weight, 1.0)
    return (weighed / safe * sure + wide * (1.0 - sure)).astype(np.float32)


def _halved(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums of 2 x 2; beyond an odd edge there is nothing."""
    padded = np.pad(values, ((0, values.shape[0] % 2), (0, values.shape[1] % 2), (0, 0)))
    return (padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]).astype(np.float32)


def surroundings(plane: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(h, w, 1) -> the least and the most of each pixel's 3 x 3."""
    padded = np.pad(plane, ((1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = plane.shape[:2]
    shifted = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.minimum.reduce(shifted), np.maximum.reduce(shifted)
