"""Which models there are: those in the user's folder, and those that ship inside the extension."""

from __future__ import annotations

import os
from pathlib import Path

from .request import is_plain_name

DESCRIPTION = "model.json"
"""What makes a folder a model."""


def shipped_models() -> Path:
    """The folder of the models that ship with the add-on."""
    return Path(__file__).resolve().parent.parent / "sample" / "model"


def model_names(models_folder: Path) -> list[str]:
    """The user's models by name, then those that ship. A folder that is not there has none."""
    return list(dict.fromkeys((*_names(models_folder), *_names(shipped_models()))))


def model_path(models_folder: Path, name: str) -> Path | None:
    """The folder of the model `name`, or None. A user's model goes before one that ships under its name."""
    if not is_plain_name(name):
        return None
    places = (folder / name for folder in (models_folder, shipped_models()))
    return next((place for place in places if (place / DESCRIPTION).is_file()), None)


def is_shipped(models_folder: Path, name: str) -> bool:
    """Whether the model `name` is one that ships with the add-on."""
    path = model_path(models_folder, name)
    return path is not None and path.parent == shipped_models()


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            found = [entry.name for entry in entries if os.path.isfile(os.path.join(entry.path, DESCRIPTION))]
    except OSError:
        return []
    return sorted(name for name in found if is_plain_name(name))
