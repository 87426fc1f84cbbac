"""How a model is run on a machine for one picture: where its parts are and when, and what that is expected to take."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..flux.placement import Placement
from ..models import ModelFolder
from ..models.sizes import ModelSizes
from . import ladder
from .estimate import STAGES, beside_weights, host_bytes, peaks
from .machine import GB, Machine
from .work import Work

STAGE_WORDS = {
    "loading": "while it is loaded",
    "text": "while the prompt is read",
    "control": "while the controls are read",
    "denoising": "while it paints",
    "decoding": "while the picture is decoded",
    "enhancing": "while it is enhanced",
}
UNKNOWN_TIME = "How long it takes is not known yet."


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """A pure function of its first four fields made the placement; see `make_plan`.

    title: of the model. peaks: bytes on the device at the most, by stage, as they are expected. seconds: of the whole
    picture, None where nothing like it ran on this machine. stepped_down: the stages in which memory ran out, each
    of which took the plan down a rung.
    """

    machine: Machine
    sizes: ModelSizes = field(repr=False)
    work: Work
    title: str
    placement: Placement
    peaks: dict[str, int]
    seconds: float | None = None
    stepped_down: tuple[str, ...] = ()

    @property
    def most(self) -> int:
        """Bytes on the device at the most."""
        return max(self.peaks.values())

    @property
    def fullest(self) -> str:
        """The stage in which it is most."""
        return max(self.peaks, key=lambda stage: self.peaks[stage])

    @property
    def fits(self) -> bool:
        """Whether it is expected to fit what is free; True where that is not known."""
        return not self.machine.usable or self.most <= self.machine.usable

    @property
    def fits_host(self) -> bool:
        """Whether main memory holds what is streamed in each step. What leaves once a picture may be read again."""
        is_streamed = self.placement.transformer == "streamed"
        return not is_streamed or not self.machine.host_free or self.host_bytes <= self.machine.host_usable

    @property
    def host_bytes(self) -> int:
        """What waits in main memory while it is not on the device."""
        return host_bytes(self.machine, self.sizes, self.work, self.placement)

    @property
    def rooms(self) -> dict[str, int]:
        """What all weights together may take on the device, by stage; {} where that is not known.

        The plan's own are less where it fits; the rest is for what other pictures used, a ControlNet, say.
        """
        if not self.machine.usable or not self.machine.has_own_memory:
            return {}
        beside = beside_weights(self.machine, self.sizes, self.work, self.placement)
        # A network that enhances is itself a part, with what it takes beside its weights.
        return {stage: max(0, self.machine.usable - size) for stage, size in {**beside, "enhancing": 0}.items()}

    @property
    def lines(self) -> tuple[str, str]:
        """What a user reads before it runs: what goes where and how full that gets, and how long it takes."""
        return _memory_line(self), _time_line(self)

    def decides(self) -> dict[str, Any]:
        """What of it may decide pixels: for the cache, before it runs.

        `compiled` here is what was asked for: whether programs are there by then is not known, and a picture that was
        painted while they were made is to be found by the next one alike, which would run by them. `as_run` tells.
        CUDA graphs run the same kernels, and decide nothing.
        """
        return {name: value for name, value in asdict(self.placement).items() if name != "graphs"}

    def as_run(self, is_compiled: bool) -> dict[str, Any]:
        """`decides`, for provenance: with what became of it."""
        return {**self.decides(), "compiled": is_compiled}

    def to_json(self) -> dict[str, Any]:
        """All of it, for people and programs."""
        return {
            "model": self.title,
            "format": self.sizes.number_format,
            "device": self.machine.kind,
            "free": self.machine.free,
            "usable": self.machine.usable,
            "placement": asdict(self.placement),
            "peaks": self.peaks,
            "most": self.most,
            "fits": self.fits,
            "host": self.host_bytes,
            "seconds": self.seconds,
            "lines": list(self.lines),
        }


def make_plan(machine: Machine, folder: ModelFolder, sizes: ModelSizes, work: Work) -> MemoryPlan:
    """The fastest way to paint it that fits the machine; where none fits, the one that takes least.

    Pure: the same arguments give the same plan, and nothing is read or asked.
    """
    placement = ladder.place(machine, sizes, work)
    return MemoryPlan(machine, sizes, work, folder.title, placement, peaks(machine, sizes, work, placement))


def step_down(plan: MemoryPlan, stage: str = "") -> MemoryPlan | None:
    """The plan one rung down: what takes less in the stage where memory ran out, for the same model and picture.

    stage: one of STAGES, "" for the fullest. None on the last rung.
    """
    wanted = stage if stage in STAGES else plan.fullest
    placement = ladder.step_down(plan.machine, plan.sizes, plan.work, plan.placement, wanted)
    if placement is None:
        return None
    found = peaks(plan.machine, plan.sizes, plan.work, placement)
    return replace(plan, placement=placement, peaks=found, stepped_down=(*plan.stepped_down, wanted))


def _memory_line(plan: MemoryPlan) -> str:
    name = plan.title
    if plan.sizes.number_format and plan.sizes.number_format not in name:
        name = f"{name} {plan.sizes.number_format}"
    words = f"{name}, {plan.placement.transformer}"
    if plan.work.eight_bit and not plan.placement.eight_bit:
        words += ", in full and not in 8 bits"
    most, free = plan.most / GB, plan.machine.free / GB
    if not plan.machine.free:
        return f"{words}: {most:.1f} GB at the most."
    if not plan.fits:
        return f"{words}: {most:.1f} GB {STAGE_WORDS[plan.fullest]}, of {free:.1f} GB free: it may not fit."
    return f"{words}: {most:.1f} of {free:.1f} GB free at the most, {STAGE_WORDS[plan.fullest]}."


def _time_line(plan: MemoryPlan) -> str:
    said = []
    if plan.placement.encoders_streamed:
        said.append("The text encoder comes block by block, and leaves before it paints.")
    elif plan.placement.encoders_leave:
        said.append("The text encoders leave before it paints.")
    if plan.machine.has_own_memory and plan.peaks.get("enhancing") == plan.machine.usable:
        said.append("Parts of the model leave while the picture is enhanced.")
    if plan.placement.vae_tile:
        said.append(f"The picture is decoded in tiles of {plan.placement.vae_tile} pixels.")
    said.append(f"About {duration(plan.seconds)}." if plan.seconds is not None else UNKNOWN_TIME)
    return " ".join(said)


def duration(seconds: float) -> str:
    """ "40 s", "3 min"."""
    return f"{max(1, round(seconds))} s" if seconds < 100.0 else f"{round(seconds / 60.0)} min"
