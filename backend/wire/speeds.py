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
        "on the sample model at 28 steps, half of them left out, a PSNR of 43 dB or more",
        NOT_MEASURED,
        cache=0.08,
    ),
    "short_cfg": Speed(
        "Short True CFG",
        "Takes the negative prompt's pass in the first half of the steps alone, which decide the forms",
        NOT_MEASURED,
        "a quarter of all passes of the transformer fewer",
        cfg_end=0.5,
    ),
}
"""By the name that a Request has. The errors are those of the sample model's pictures."""
