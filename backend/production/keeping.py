"""What a production keeps on disk between runs: pictures, their maps, digests of weights, and what stages take."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..models import ControlChoice, FoundLora, ModelFolder
from ..outputs import MapStore
from ..planning import MemoryPlan
from ..wire import ControlMaps, GenerationRequest, GenerationResult
from .job import Job
from .passes import Pass
from .result_cache import CACHE_BYTES, NOTE, ResultCache, cache_key
from .stage_times import StageTimes
from .weight_digests import WeightDigests

log = logging.getLogger("grisaille.production")


@dataclass(frozen=True, eq=False, slots=True)
class Order:
    """A Request that was found sound, and what was decided of it before anything runs.

    plan: what decides the pixels beside the Request, as far as it is decided, `memory` among it: where each part of the
    model will be. map_digests: of the maps that are used. networks: files of what enhances the picture, by their part.
    """

    request: GenerationRequest
    folder: ModelFolder
    choices: list[ControlChoice]
    loras: list[FoundLora]
    passes: list[Pass]
    plan: Mapping[str, Any]
    map_digests: Mapping[str, str]
    memory: MemoryPlan
    networks: Mapping[str, Path] = field(default_factory=dict)

    def files(self) -> list[Path]:
        """All weights and settings that are read for it."""
        return [*self.folder.files(), *(lora.path for lora in self.loras), *self.networks.values()]

    def placed(self, memory: MemoryPlan) -> Order:
        """The same, run by another memory plan."""
        return replace(self, memory=memory, plan={**self.plan, "placement": memory.decides()})


@dataclass(frozen=True, eq=False, slots=True)
class EnhanceOrder:
    """A Request that paints nothing and enhances a picture; see `Order`."""

    request: GenerationRequest
    plan: Mapping[str, Any]
    map_digests: Mapping[str, str]
    networks: Mapping[str, Path]

    def files(self) -> list[Path]:
        """All weights that are read for it."""
        return list(self.networks.values())


AnyOrder = Order | EnhanceOrder


@dataclass(frozen=True, slots=True)
class OrderDigests:
    """SHA-256, in hex, of the model's files by their paths in its folder, and of others by their files' names."""

    weights: dict[str, str]
    loras: dict[str, str]
    networks: dict[str, str]

    def to_json(self) -> dict[str, dict[str, str]]:
        others = {"loras": self.loras, "networks": self.networks}
        return {"weights": self.weights, **{name: digests for name, digests in others.items() if digests}}


class Kept:
    """Without a folder, digests and times last as long as the process, and finished pictures are not kept."""

    def __init__(self, folder: Path | None, most_bytes: int = CACHE_BYTES, maps_folder: Path | None = None) -> None:
        self.results = ResultCache(folder / "results", most_bytes) if folder is not None else None
        self.times = StageTimes(folder / "stages.json" if folder is not None else None)
        self._weights = WeightDigests(folder / "weights.json" if folder is not None else None)
        self._maps = MapStore(maps_folder) if maps_folder is not None else None

    def digests(self, order: AnyOrder, check: Callable[[], None]) -> OrderDigests:
        """Of all that an order reads. `check` is called between reads and ends the reading by raising."""
        found = _gathered(order, lambda files, root: self._weights.of(files, root, check))
        assert found is not None  # `of` reads what is not known
        return found

    def key(self, order: AnyOrder) -> str:
        """What the order's picture is kept under; "" where it cannot be there.

        Weights that were never read are not read for this: of them no picture is kept that could be found.
        """
        digests = self._known_digests(order) if self.results is not None else None
        return _key(order, digests) if digests is not None else ""

    def look_up(self, key: str, job: Job) -> GenerationResult | None:
        """The picture of an earlier run, which says that it is one; None where it has to be painted."""
        began = time.perf_counter()
        result = self.results.get(key) if self.results is not None and key else None
        if result is None:
            return None
        # What that run had to say of the prompt and the controls holds for this one.
        job.note = f"{result.plan.get('note', '')} {NOTE}".strip()
        job.tell("saving")
        plan = {name: value for name, value in result.plan.items() if name != "model_choice"}
        plan |= {"note": job.note, "from_cache": True}
        if job.model_reason:
            plan["model_choice"] = job.model_reason
        return replace(result, plan=plan, timings={"cache": time.perf_counter() - began}, peak_memory=0)

    def keep(self, order: AnyOrder, result: GenerationResult, digests: OrderDigests) -> None:
        """Keeps a picture that was painted with these weights; see `digests`."""
        if self.results is not None:
            self.results.put(_key(order, digests), result)

    def keep_maps(self, order: AnyOrder, maps: ControlMaps) -> None:
        """Keeps the maps that the picture can be painted from again."""
        if self._maps is None:
            return
        arrays = maps.arrays()
        try:
            self._maps.put({digest: arrays[name] for name, digest in order.map_digests.items()})
        except OSError:
            # The picture is worth more than what would make it again.
            log.exception("the maps of a picture could not be kept in %s", self._maps.folder)

    def _known_digests(self, order: AnyOrder) -> OrderDigests | None:
        return _gathered(order, self._weights.known)


def _gathered(
    order: AnyOrder, digests_of: Callable[[Iterable[Path], Path], dict[str, str] | None]
) -> OrderDigests | None:
    """What `digests_of` says of an order's files; None where it says None of any."""
    weights: dict[str, str] | None = {}
    loras: list[Path] = []
    if isinstance(order, Order):
        weights = digests_of(order.folder.files(), order.folder.path)
        loras = [lora.path for lora in order.loras]
    others: list[dict[str, str]] = [{}, {}]
    for part, paths in zip(others, (loras, list(order.networks.values())), strict=True):
        for path in paths:
            found = digests_of([path], path.parent)
            if found is None:
                return None
            part |= found
    return OrderDigests(weights, *others) if weights is not None else None


def _key(order: AnyOrder, digests: OrderDigests) -> str:
    return cache_key(order.request, order.plan, order.map_digests, digests.to_json())
