"""One step of a small picture, in a process of its own: tries.py asks, and is told in one line of JSON."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..models import ModelFolder, find_model
from ..production import Production
from ..wire import Control, ControlMaps, Failure, FailureError, GenerationRequest
from ..wire.request import sources_of
from .tries import answer, question

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIDE = 64


def main() -> None:
    asked = question()
    models_folder = Path(asked["models_folder"])
    try:
        folder = find_model(models_folder, asked["model"])
    except FailureError as error:
        answer({"failure": error.failure.to_json()})
        return
    request = trial_request(folder)
    began = time.perf_counter()
    result = Production(models_folder, asked["device"]).run(
        request,
        trial_maps(request),
        on_progress=lambda progress: None,
        on_preview=lambda picture: None,
        is_cancelled=lambda: False,
    )
    if isinstance(result, Failure):
        answer({"failure": result.to_json()})
        return
    answer({
        "width": SIDE,
        "height": SIDE,
        "task": request.task,
        "device": result.plan["device"],
        "seconds": time.perf_counter() - began,
        "loading_seconds": result.timings.get("loading", 0.0),
        "step_seconds": result.timings.get("denoising", 0.0),
        "peak_memory": result.peak_memory,
    })  # fmt: skip


def trial_request(folder: ModelFolder) -> GenerationRequest:
    """The smallest picture that a model of this family can paint, in one step."""
    family = folder.family
    task = "text_to_image" if "text_to_image" in family.tasks else family.tasks[0]
    controls = (Control(family.control, 1.0, 0.0, 1.0),) if family.recipe else ()
    return GenerationRequest(
        "a red ball", SIDE, SIDE, steps=1, guidance=family.guidance, task=task, model=folder.name, controls=controls
    )


def trial_maps(request: GenerationRequest) -> ControlMaps:
    """What the Request takes: a slope, a grid, and a picture of which all may change."""
    import numpy as np

    across = np.tile(np.linspace(0.0, 1.0, request.width, dtype=np.float32), (request.height, 1))
    made: dict[str, NDArray[np.generic]] = {}
    kinds = {control.kind for control in request.controls}
    if "depth" in kinds:
        made["depth"] = 2.0 + across
    if "canny" in kinds:
        made["line"] = (np.arange(request.width) % 16 < 2).astype(np.float32) * np.ones_like(across)
    for name in sources_of(request):
        made[name] = np.ones_like(across) if name == "mask" else _picture(across)
    return ControlMaps(**made)  # pyright: ignore[reportArgumentType]


def _picture(across: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(height, width, 3): a slope of colour."""
    import numpy as np

    return (np.stack((across, across.T, 1.0 - across), axis=2) * 255.0).astype(np.uint8)


if __name__ == "__main__":
    main()
