"""A Request's LoRAs on their way into the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..models import FoundLora

if TYPE_CHECKING:
    from ..flux.model import FluxModel


def use_loras(model: FluxModel, loras: Sequence[FoundLora]) -> None:
    """Makes the model what it is with these, and no others. Raises `FailureError`."""
    from ..flux.lora import LoraInput

    model.use_loras([LoraInput(found.path, found.lora.strength) for found in loras])
