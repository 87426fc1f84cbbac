"""The files of a Request's LoRAs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..wire import FailureError, FailureKind, LoRA
from ..wire.lora_files import FOLDER, lora_names, lora_path


@dataclass(frozen=True, slots=True)
class FoundLora:
    """A LoRA of a Request, and its file."""

    lora: LoRA
    path: Path


def find_loras(loras: Iterable[LoRA], models_folder: Path, model: str) -> list[FoundLora]:
    """The file of each: the model's own, else one for all models.

    Raises `FailureError` (model_missing) on the first that is not there, naming those that are.
    """
    found = []
    for lora in loras:
        path = lora_path(models_folder, model, lora.name)
        if path is None:
            there = ", ".join(lora_names(models_folder, model)) or "none is there yet"
            raise FailureError.of(
                FailureKind.MODEL_MISSING,
                f"There is no LoRA called {lora.name!r} for the model {model!r}.",
                f"Choose one of those that are there ({there}), or put its file into {FOLDER} in the models folder.",
                str(models_folder / FOLDER),
            )
        found.append(FoundLora(lora, path))
    return found
