"""Faster ways to a picture that change its pixels a little: which there are, and by how much, as data."""

from __future__ import annotations

from dataclasses import dataclass

EXACT = "exact"
NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Speed:
    """error: how far pictures are from exact ones, as measured. gain: how much faster it is.

    cache: how far the velocity may move before the model is asked again, as a share of it; 0 to ask in each call.
    eight_bit: whether the blocks' products are of 8-bit numbers. cfg_whole: in which share of the steps, the first
    ones, true CFG takes its second pass in each; after them it does in one of `cfg_every`.
    """

    title: str
    description: str
    error: str
    gain: str
    cache: float = 0.0
    eight_bit: bool = False
    cfg_whole: float = 1.0
    cfg_every: int = 1


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
        "8-bit products, cached steps and fewer true-CFG passes together",
        "PSNR 41 to 46 dB in fp8; with true CFG that of short_cfg",
        NOT_MEASURED,
        cache=0.12,
        eight_bit=True,
        cfg_whole=0.25,
        cfg_every=3,
    ),
    "short_cfg": Speed(
        "Fewer True-CFG Passes",
        "Takes the negative prompt's pass in the first quarter of the steps, then in every third one",
        "PSNR 49 to 54 dB at a scale of 2, 43 to 52 dB at 4",
        "a quarter of the transformer's passes fewer",
        cfg_whole=0.25,
        cfg_every=3,
    ),
}
"""By the name that a Request has.

The errors are those of six pictures by the sample model, 256 x 256 pixels in 28 steps with a depth control, against the
exact ones; on FLUX.1-dev they are not measured. True CFG's second pass is taken in 14 of those 28 steps. The first half
of them alone, with nothing instead in the others, is further off: 36 to 46 dB at a scale of 2, 28 to 37 at 4. So is
every other step, with what the passes last differed by in the steps between (39 to 55, 32 to 51) or with nothing (27 to
33, 21 to 31)."""


def note(speed: str, sampler: str) -> str:
    """What a user should know of a speed that does nothing beside the sampler; "" where it does something."""
    if SPEEDS[speed].cache and sampler == "adaptive":
        return "The adaptive sampler leaves out steps by itself; beside it, Cached Steps leaves out no more."
    return ""
