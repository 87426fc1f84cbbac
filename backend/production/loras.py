"""A Request's LoRAs on their way into the engine, and into what a picture remembers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..models import FoundLora
from .provenance import WeightDigests

if TYPE_CHECKING:
    from ..flux.model import FluxModel


def use_loras(model: FluxModel, loras: Sequence[FoundLora]) -> None:
    """Makes the model what it is with these, and no others. Raises `FailureError`."""
    from ..flux.lora import LoraInput

    model.use_loras([LoraInput(found.path, found.lora.strength) for found in loras])


def lora_digests(
    digests: WeightDigests, loras: Sequence[FoundLora], check: Callable[[], None]
) -> dict[str, dict[str, str]]:
    """{"loras": SHA-256 in hex by file name}, or nothing where there are none."""
    found: dict[str, str] = {}
    for lora in loras:
        found |= digests.of([lora.path], lora.path.parent, check)
    return {"loras": found} if found else {}
