"""What each stage took on this machine, kept from run to run, so that the next run can say how long it will take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..models.settings import RECOMMENDED_SAMPLING
from ..wire import GenerationRequest
from ..wire.request import has_strength, sources_of
from .forecast import SHARES, Expected
from .kept_table import read_table, write_table
from .passes import Pass

NEWEST = 0.5
"""What the last run counts for beside all runs before it."""
CLASSES_MAX = 200
SEPARATOR = "|"
CALLS = {pair.sampler: pair.calls for pair in RECOMMENDED_SAMPLING}
FIRST_CONTROL = "first_control"
"""The control stage of a run that loads ControlNets."""
DETAILED = "enhancing_with_detail"
"""The enhancing stage of a run that paints detail in it."""
STAGE_OF = {FIRST_CONTROL: "control", DETAILED: "enhancing"}
DETAIL_SHARE = 3.0
"""Of what enhancing takes without, where nothing is known: a doubled picture has four tiles, painted in a third of the
steps."""


@dataclass(frozen=True, slots=True)
class RunClass:
    """Runs whose stages take the same time for the same work. size: the power of two next to the megapixels."""

    model: str
    device: str
    size: int
    nets: int

    @classmethod
    def of(cls, request: GenerationRequest, model: str, device: str) -> RunClass:
        nets = sum(control.strength > 0.0 for control in request.controls)
        return cls(model, device, round(math.log2(_megapixels(request))), nets)

    @property
    def key(self) -> str:
        return SEPARATOR.join((self.model, self.device, str(self.size), str(self.nets)))

    @classmethod
    def from_key(cls, key: str) -> RunClass | None:
        parts = key.split(SEPARATOR)
        try:
            return cls(parts[0], parts[1], int(parts[2]), int(parts[3])) if len(parts) == 4 else None
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a run finds in memory: the model, and all of the ControlNets that it takes. prompts: not read before."""

    model: bool
    nets: bool
    prompts: int


def works_of(passes: Sequence[Pass], loaded: Loaded) -> list[tuple[str, float]]:
    """The stages of a run in their order, and the work in each: loads, prompts, controls, megapixels.

    Painting is counted in megapixels that go through the model, detail among it. passes: one, which paints nothing,
    where a picture that is there is enhanced.
    """
    works = [("loading", 0.0 if loaded.model else 1.0)]
    for index, one in enumerate(passes if passes[-1].request.task != "enhance" else ()):
        controls = float(sum(control.strength > 0.0 for control in one.request.controls))
        controls += len(sources_of(one.request))
        works += [
            ("text", float(loaded.prompts) if index == 0 else 0.0),
            ("control" if loaded.nets or index > 0 else FIRST_CONTROL, controls),
            ("denoising", steps_of(one.request) * step_work(one.request)),
            ("decoding", _megapixels(one.request)),
        ]
    last = passes[-1].request
    larger = _megapixels(last) * (last.enhancement.scale**2 if last.enhancement is not None else 1.0)
    if last.enhancement is not None and last.enhancement.detail:
        works.append((DETAILED, larger * last.steps * last.enhancement.detail))
    elif last.enhancement is not None:
        works.append(("enhancing", larger))
    return [*works, ("saving", larger)]


def steps_of(request: GenerationRequest) -> int:
    """About how many steps run."""
    return max(1, round(request.steps * (request.strength if has_strength(request.task) else 1.0)))


def step_work(request: GenerationRequest) -> float:
    """The megapixels that go through the model in one step."""
    return _megapixels(request) * CALLS.get(request.sampler, 1) * (2 if request.true_cfg > 1.0 else 1)


class StageTimes:
    """Seconds for a unit of work, by class of run and stage; kept in the file `place` where one is given."""

    def __init__(self, place: Path | None = None) -> None:
        self._place = place
        self._known: dict[str, dict[str, float]] | None = None

    def expected(self, run: RunClass, passes: Sequence[Pass], loaded: Loaded) -> list[Expected]:
        """The stages of a run and what they will take, as runs of its class did, or of the nearest of its model."""
        units = self._nearest(run)
        works = works_of(passes, loaded)
        found = []
        for name, work in works:
            stage = _stage_of(name)
            total = sum(other for named, other in works if _stage_of(named) == stage)
            seconds = 0.0 if work == 0.0 else units[name] * work if name in units else None
            share = work / total * (DETAIL_SHARE if name == DETAILED else 1.0) if total else 0.0
            found.append(Expected(stage, seconds, share))
        return found

    def learn(
        self, run: RunClass, passes: Sequence[Pass], loaded: Loaded, seconds: Mapping[str, float], step_unit: float
    ) -> None:
        """Takes in a finished run. seconds: by stage. step_unit: seconds for a megapixel through the model."""
        works: dict[str, float] = {}
        for name, work in works_of(passes, loaded):
            works[_stage_of(name)] = works.get(_stage_of(name), 0.0) + work
        units = {stage: seconds.get(stage, 0.0) / work for stage, work in works.items() if work > 0.0}
        if not loaded.nets and "control" in units:
            units[FIRST_CONTROL] = units.pop("control")
        if any(name == DETAILED for name, _ in works_of(passes, loaded)):
            units[DETAILED] = units.pop("enhancing")
        if "denoising" in units:
            units["denoising"] = step_unit
        table = _sound(read_table(self._place)) if self._place is not None else self._table()
        old = table.pop(run.key, {})
        mixed = {name: old[name] + NEWEST * (unit - old[name]) if name in old else unit for name, unit in units.items()}
        table[run.key] = {**old, **mixed}
        self._known = dict(list(table.items())[-CLASSES_MAX:])
        write_table(self._place, self._known)

    def _table(self) -> dict[str, dict[str, float]]:
        if self._known is None:
            self._known = _sound(read_table(self._place))
        return self._known

    def _nearest(self, run: RunClass) -> dict[str, float]:
        def distance(other: RunClass) -> int:
            return abs(other.size - run.size) + abs(other.nets - run.nets)

        known = {key: other for key in self._table() if (other := RunClass.from_key(key)) is not None}
        alike = [key for key, other in known.items() if (other.model, other.device) == (run.model, run.device)]
        return self._table()[min(alike, key=lambda key: distance(known[key]))] if alike else {}


def _stage_of(name: str) -> str:
    return STAGE_OF.get(name, name)


def _megapixels(request: GenerationRequest) -> float:
    return request.width * request.height / 1e6


def _sound(table: Mapping[str, object]) -> dict[str, dict[str, float]]:
    """The entries that have the form of ours."""
    names = {*SHARES, *STAGE_OF}
    return {key: entry for key, entry in table.items() if isinstance(entry, dict) and _is_entry(entry, names)}


def _is_entry(entry: dict[object, object], names: set[str]) -> bool:
    is_named = all(name in names for name in entry)
    return is_named and all(_is_unit(unit) for unit in entry.values())


def _is_unit(value: object) -> bool:
    """Whether it is a number of seconds; JSON's true is none, though it is an int of Python's."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value < math.inf
