"""The rungs that a model may be placed on, the fastest first, and the way down them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from ..flux.placement import Placement, TransformerForm
from ..models.sizes import ModelSizes
from .estimate import is_in_format, peaks, unpacked_bytes
from .machine import Machine
from .work import Work

TILES = (0, 1024, 768, 512, 384, 256)
"""Sides of the VAE's tiles, 0 for the whole picture."""
COMING = ((False, False, False), (True, False, False), (True, False, True), (True, True, False), (True, True, True))
"""encoders_leave, nets_leave and encoders_streamed. T5 streams once a prompt, a net comes again in each picture."""
COMPILED_FROM = 1_000_000_000
"""Weights: a smaller net paints faster than it compiles."""
UNPACKED_SHARE = 0.25
"""Of main memory, where the device shares it: as much may be filled with weights that would also do packed."""


def rungs(machine: Machine, sizes: ModelSizes, work: Work) -> Iterator[Placement]:
    """All placements for a picture, from the fastest to the smallest, each smaller than those before in some stage."""
    for form, eight_bit in forms(machine, sizes, work):
        is_compiled = machine.kind == "cuda" and form != "streamed" and _is_large(sizes)
        for encoders, nets, t5 in COMING if machine.has_own_memory else COMING[:1]:
            if nets and not work.nets:
                continue
            for tile, graphs in product(tiles(work), (True, False) if is_compiled else (False,)):
                yield Placement(form, encoders, t5, nets, tile, "auto", eight_bit, is_compiled, graphs)


def forms(machine: Machine, sizes: ModelSizes, work: Work) -> list[tuple[TransformerForm, bool]]:
    """Those that make sense, each with whether it may have 8-bit products.

    A file in the device's format is unpacked as it is, and shared memory streams nothing. 8-bit products are made of
    packed weights as well as of unpacked ones; where a byte a weight has no room, packed ones compute in full.
    """
    found = _forms(machine, sizes)
    if not work.eight_bit:
        return [(form, True) for form in found]
    resident: list[TransformerForm] = [form for form in found if form != "streamed"]
    streamed: list[TransformerForm] = [form for form in found if form == "streamed"]
    return [(resident[-1], True), *((form, False) for form in (resident[-1], *streamed))]


def _forms(machine: Machine, sizes: ModelSizes) -> tuple[TransformerForm, ...]:
    if machine.has_own_memory:
        return ("unpacked", "streamed") if is_in_format(sizes, machine.itemsize) else ("unpacked", "packed", "streamed")
    if is_in_format(sizes, machine.itemsize):
        return ("unpacked",)
    is_small = sizes.shape is not None and unpacked_bytes(sizes, machine.itemsize) <= machine.total * UNPACKED_SHARE
    return ("unpacked", "packed") if is_small else ("packed",)


def tiles(work: Work) -> list[int]:
    """Sides that divide the picture at all, and 0."""
    return [tile for tile in TILES if tile < max(work.width, work.height)]


def place(machine: Machine, sizes: ModelSizes, work: Work) -> Placement:
    """The fastest rung that fits what is free; the last where none does. Where that is unknown, all of it packed."""
    found = list(rungs(machine, sizes, work))
    if not machine.usable:
        return next((one for one in found if one.transformer == "packed"), found[0])
    return next((one for one in found if fits(machine, sizes, work, one)), found[-1])


def fits(machine: Machine, sizes: ModelSizes, work: Work, placement: Placement) -> bool:
    return not machine.usable or max(peaks(machine, sizes, work, placement).values()) <= machine.usable


def step_down(
    machine: Machine, sizes: ModelSizes, work: Work, placement: Placement, stage: str = ""
) -> Placement | None:
    """The next rung that should take less in the stage where memory ran out; where none should, the next one at all.

    What was given up on the way down stays given up. stage: "" for the fullest. None on the last rung.
    """

    def needed(one: Placement) -> int:
        found = peaks(machine, sizes, work, one)
        return found.get(stage, max(found.values()))

    found = [one for one in rungs(machine, sizes, work) if one != placement and is_below(one, placement, work)]
    now = needed(placement)
    return next((one for one in found if needed(one) < now), found[0] if found else None)


def is_below(one: Placement, other: Placement, work: Work) -> bool:
    """Whether a rung gives up all that another one does, and maybe more."""
    forms = ("unpacked", "packed", "streamed")
    whole = work.width + work.height
    return (
        forms.index(one.transformer) >= forms.index(other.transformer)
        and one.eight_bit <= other.eight_bit
        and one.encoders_leave >= other.encoders_leave
        and one.encoders_streamed >= other.encoders_streamed
        and one.nets_leave >= other.nets_leave
        and one.graphs <= other.graphs
        and (one.vae_tile or whole) <= (other.vae_tile or whole)
    )


def _is_large(sizes: ModelSizes) -> bool:
    return sizes.shape is not None and sizes.shape.weights >= COMPILED_FROM
