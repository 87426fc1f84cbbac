"""What the machine has: asked once a job, before its plan is made."""

from __future__ import annotations

import os

from ..planning import Machine
from .job import Job


def machine_of(device: str) -> Machine:
    """The machine with the device of that name, "auto" for the best there is. torch is not loaded for "cpu"."""
    import psutil

    host = psutil.virtual_memory()
    # What this process holds is given back, or used again, by its next job.
    held = psutil.Process().memory_info().rss
    free = min(host.total, host.available + held)
    if device == "cpu":
        return Machine("cpu", "", host.total, free, host.total, host.available)
    prepare_libraries()
    from ..flux.device import choose_device
    from ..flux.memory import card_memory, card_name

    chosen, _ = choose_device(device)
    total, on_card = card_memory(chosen)
    if not total:
        return Machine(chosen.type, "", host.total, free, host.total, host.available)
    return Machine(chosen.type, card_name(chosen), total, on_card, host.total, host.available)


def numbers_of(device: str, job: Job) -> dict[str, str]:
    """What computes and in which numbers, as a picture depends on it; the job is told where that takes torch."""
    if device == "cpu":  # the one whose numbers are known without torch, which takes seconds to import
        return {"device": "cpu", "dtype": "float32"}
    job.tell("loading")
    prepare_libraries()
    from ..flux.device import choose_device
    from ..flux.memory import device_name

    chosen, dtype = choose_device(device)
    return {"device": device_name(chosen), "dtype": str(dtype)}


def prepare_libraries() -> None:
    """Says to the libraries what they read when they are first imported."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Waiting threads that spin make a picture on a CPU that others use too (Blender's own drawing) ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
