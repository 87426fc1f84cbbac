"""A whole picture as a user makes it: from the Request to the PNG, by the memory plan of the machine."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from ..models import ModelFolder
from ..production import Production
from ..wire import Control, ControlMaps, Failure, GenerationRequest, GenerationResult
from .ours import PROMPT, STRENGTH, request_of
from .sizes import BenchSize


def second_job(folder: ModelFolder, size: BenchSize, device: str) -> dict[str, float]:
    """Seconds of a process's first job, with loading, and of its second, which reads another prompt; and its peak.

    Raises `RuntimeError` with what a failed job says.
    """
    side = size.sides[0]
    maps = ControlMaps(depth=np.random.default_rng(5).uniform(1.0, 9.0, (side, side)).astype(np.float32))
    request = replace(request_of(size, side), model=folder.name, controls=(Control("depth", STRENGTH, 0.0, 1.0),))
    production = Production(folder.path.parent, device)
    times: list[float] = []
    peak = 0
    for seed, prompt in enumerate((PROMPT, f"{PROMPT} at night")):
        began = time.perf_counter()
        result = _made(production, replace(request, seed=seed, prompt=prompt), maps)
        times.append(time.perf_counter() - began)
        peak = result.peak_memory
    return {"first": times[0], "seconds": times[1], "peak": peak}


def _made(production: Production, request: GenerationRequest, maps: ControlMaps) -> GenerationResult:
    result = production.run(
        request,
        maps,
        on_progress=lambda progress: None,
        on_preview=lambda image: None,
        is_cancelled=lambda: False,
    )
    if isinstance(result, Failure):
        raise RuntimeError(f"{result.message} {result.detail}")
    return result
