"""What a production keeps on disk between runs: pictures, their maps, digests of weights, and what stages take."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
    model will be. map_digests: of the maps that are used.
    """

    request: GenerationRequest
    folder: ModelFolder
    choices: list[ControlChoice]
    loras: list[FoundLora]
    passes: list[Pass]
    plan: Mapping[str, Any]
    map_digests: Mapping[str, str]
    memory: MemoryPlan

    def files(self) -> list[Path]:
        """All weights and settings that are read for it."""
        return [*self.folder.files(), *(lora.path for lora in self.loras)]

    def placed(self, memory: MemoryPlan) -> Order:
        """The same, run by another memory plan."""
        return replace(self, memory=memory, plan={**self.plan, "placement": memory.decides()})


@dataclass(frozen=True, slots=True)
class OrderDigests:
    """SHA-256, in hex, of the model's files by their paths in its folder, and of the LoRAs by their files' names."""

    weights: dict[str, str]
    loras: dict[str, str]

    def to_json(self) -> dict[str, dict[str, str]]:
        return {"weights": self.weights, **({"loras": self.loras} if self.loras else {})}


class Kept:
    """Without a folder, digests and times last as long as the process, and finished pictures are not kept."""

    def __init__(self, folder: Path | None, most_bytes: int = CACHE_BYTES, maps_folder: Path | None = None) -> None:
        self.results = ResultCache(folder / "results", most_bytes) if folder is not None else None
        self.times = StageTimes(folder / "stages.json" if folder is not None else None)
        self._weights = WeightDigests(folder / "weights.json" if folder is not None else None)
        self._maps = MapStore(maps_folder) if maps_folder is not None else None

    def digests(self, order: Order, check: Callable[[], None]) -> OrderDigests:
        """Of all that an order reads. `check` is called between reads and ends the reading by raising."""
        loras: dict[str, str] = {}
        for lora in order.loras:
            loras |= self._weights.of([lora.path], lora.path.parent, check)
        return OrderDigests(self._weights.of(order.folder.files(), order.folder.path, check), loras)

    def key(self, order: Order) -> str:
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

    def keep(self, order: Order, result: GenerationResult, digests: OrderDigests) -> None:
        """Keeps a picture that was painted with these weights; see `digests`."""
        if self.results is not None:
            self.results.put(_key(order, digests), result)

    def keep_maps(self, order: Order, maps: ControlMaps) -> None:
        """Keeps the maps that the picture can be painted from again."""
        if self._maps is None:
            return
        arrays = maps.arrays()
        try:
            self._maps.put({digest: arrays[name] for name, digest in order.map_digests.items()})
        except OSError:
            # The picture is worth more than what would make it again.
            log.exception("the maps of a picture could not be kept in %s", self._maps.folder)

    def _known_digests(self, order: Order) -> OrderDigests | None:
        weights = self._weights.known(order.folder.files(), order.folder.path)
        loras: dict[str, str] = {}
        for lora in order.loras:
            known = self._weights.known([lora.path], lora.path.parent)
            if known is None:
                return None
            loras |= known
        return OrderDigests(weights, loras) if weights is not None else None


def _key(order: Order, digests: OrderDigests) -> str:
    return cache_key(order.request, order.plan, order.map_digests, digests.to_json())
