"""Faster ways to a picture that change its pixels a little: which there are, and by how much, as data."""

from __future__ import annotations

from dataclasses import dataclass

EXACT = "exact"
NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Speed:
    """error: how far pictures are from exact ones, as measured. gain: how much faster it is.

    cache: how far the velocity may move before the model is asked again, as a share of it; 0 to ask in each call.
    eight_bit: whether the blocks' products are of 8-bit numbers. cfg_end: up to which share of the steps true CFG takes
    its second pass.
    """

    title: str
    description: str
    error: str
    gain: str
    cache: float = 0.0
    eight_bit: bool = False
    cfg_end: float = 1.0


SPEEDS = {
    EXACT: Speed("Exact", "Every step in full: nothing is rounded or left out", "none", "none"),
    "cached": Speed(
        "Cached Steps",
        "Leaves out steps in which the picture hardly changes; from 12 steps on",
        "PSNR 45 to 51 dB",
        NOT_MEASURED,
        cache=0.08,
    ),
    "eight_bit": Speed(
        "8-Bit Products",
        "Multiplies in 8 bits on the graphics card; the transformer has to fit on it",
        "PSNR 50 to 52 dB in fp8, 55 to 56 dB in int8",
        NOT_MEASURED,
        eight_bit=True,
    ),
    "fast": Speed(
        "Fast",
        "8-bit products, cached steps and short true CFG together",
        "PSNR 41 to 46 dB in fp8; with true CFG that of short_cfg",
        NOT_MEASURED,
        cache=0.12,
        eight_bit=True,
        cfg_end=0.5,
    ),
    "short_cfg": Speed(
        "Short True CFG",
        "Takes the negative prompt's pass in the first half of the steps alone, which decide the forms",
        "PSNR 27 to 35 dB",
        "a quarter of the transformer's passes fewer",
        cfg_end=0.5,
    ),
}
"""By the name that a Request has.

The errors are those of six pictures by the sample model, 256 x 256 pixels in 28 steps with a depth control, against the
exact ones; on FLUX.1-dev they are not measured."""
