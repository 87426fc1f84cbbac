"""What computes, and how it is set while it does. Importing this loads torch and nothing else, unlike the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .cuda_settings import engine_settings


def choose_device(name: str) -> tuple[torch.device, torch.dtype]:
    """ "auto", or a torch device's name -> the device, and the dtype to compute in on it."""
    if name == "auto":
        has_mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    device = torch.device(name)
    return device, torch.float32 if device.type == "cpu" else torch.bfloat16


@contextmanager
def without_gradients() -> Iterator[None]:
    """Everything here runs inside `with without_gradients():`, loading too; with the engine's settings of torch."""
    with torch.inference_mode(), engine_settings():
        yield
