"""Which LoRAs there are: in a model's folder, and in the models folder for all models."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .loras import is_lora_name
from .model_names import model_path

FOLDER = "loras"
"""In a model's folder for that model alone, and in the models folder for all of them."""
ENDING = ".safetensors"
HEADER_MAX = 1 << 24
"""Bytes of a file's table that are read for its own words about itself; real ones take a few hundred thousand."""


def lora_names(models_folder: Path, model: str) -> list[str]:
    """The LoRAs that a model may use, its own before those for all models, each by name."""
    return list(dict.fromkeys(name for folder in _folders(models_folder, model) for name in _names(folder)))


def lora_path(models_folder: Path, model: str, name: str) -> Path | None:
    """The file of a LoRA, or None where there is none. A model's own goes before one for all models."""
    if not is_lora_name(name):
        return None
    places = (folder / f"{name}{ENDING}" for folder in _folders(models_folder, model))
    return next((place for place in places if place.is_file()), None)


def lora_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself, in texts by keyword; {} where it says nothing or cannot be read."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            data = json.loads(file.read(size)).get("__metadata__", {}) if size <= HEADER_MAX else {}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    return {str(key): str(value) for key, value in data.items()} if isinstance(data, dict) else {}


def _folders(models_folder: Path, model: str) -> list[Path]:
    own = model_path(models_folder, model)
    return [*([own / FOLDER] if own is not None else []), models_folder / FOLDER]


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            found = [entry.name for entry in entries if entry.name.endswith(ENDING) and entry.is_file()]
    except OSError:
        return []
    return sorted(name for name in (file.removesuffix(ENDING) for file in found) if is_lora_name(name))
