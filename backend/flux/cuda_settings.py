"""torch's settings for a card, as the engine wants them: so while it works, and as they were when it is done.

They are the process's own, which may be somebody's script: what is left behind would change what that computes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# Asked for when they are used: importing this touches none of them.
WANTED: tuple[tuple[str, str, Any], ...] = (
    # float32 is computed in where bfloat16 is not enough (the VAE for 16 bits a pixel): TF32 has three bits more.
    ("cuda.matmul", "allow_tf32", False),
    ("cudnn", "allow_tf32", False),
    ("cuda.matmul", "allow_fp16_accumulation", False),
    # The search for the fastest convolution finds another one now and then, and with it other pixels.
    ("cudnn", "benchmark", False),
)
"""Of `torch.backends`: whose setting, its name, and what it is while the engine works."""
IN_NEW_WORDS = {"cuda.matmul": "cuda.matmul", "cudnn": "cudnn.conv"}
"""Whose `fp32_precision` says what `allow_tf32` did: torch takes either, and refuses to read one after the other."""


@contextmanager
def engine_settings() -> Iterator[None]:
    """The engine's settings inside; afterwards those that were there, also when it ends by raising."""
    changed: list[tuple[Any, str, Any]] = []
    try:
        for owner, name, wanted in WANTED:
            place, name, before, wanted = _read(owner, name, wanted)
            if before != wanted:
                changed.append((place, name, before))
                setattr(place, name, wanted)
        yield
    finally:
        for place, name, before in reversed(changed):
            setattr(place, name, before)


def _read(owner: str, name: str, wanted: Any) -> tuple[Any, str, Any, Any]:
    """Where a setting is, its name there, its value, and what is wanted of it."""
    place = _backend(owner)
    try:
        return place, name, getattr(place, name), wanted
    except RuntimeError:
        if name != "allow_tf32":
            raise
        place = _backend(IN_NEW_WORDS[owner])
        return place, "fp32_precision", place.fp32_precision, "ieee"


def _backend(path: str) -> Any:
    found: Any = torch.backends
    for part in path.split("."):
        found = getattr(found, part)
    return found
