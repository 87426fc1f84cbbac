"""Pixels -> the Result that holds them, with where they came from."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ..wire import GenerationResult
from .job import Job
from .keeping import AnyOrder, Kept, Order, OrderDigests
from .provenance import encode_png, provenance

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

log = logging.getLogger("grisaille.production")


def finished(
    order: AnyOrder, pixels: NDArray[Any], plan: dict[str, Any], device: torch.device, kept: Kept, job: Job
) -> tuple[GenerationResult, OrderDigests]:
    """The Result of what was made, with its provenance, and the digests of what was read for it."""
    from ..flux.memory import peak_memory

    request, transformer = order.request, ""
    if isinstance(order, Order):
        transformer = order.folder.transformer.relative_to(order.folder.path).as_posix()
    with job.stage("saving"):
        digests = kept.digests(order, job.check)
        said = {"request": request.digest(), "maps": dict(order.map_digests), **digests.to_json()}
        png = encode_png(pixels, provenance(request, said, plan, transformer))
    log.info("made %s x %s, %s steps, %s", request.width, request.height, request.steps, job.timings)
    result = GenerationResult(request, png, plan=plan, timings=job.timings, peak_memory=peak_memory(device))
    return result, digests
