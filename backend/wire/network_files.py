"""Which networks there are for upscaling, faces and restoring: single files in a folder of the models folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .loras import is_lora_name

FOLDER = "upscalers"
"""In the models folder."""
ENDINGS = (".safetensors", ".pth")


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """A network's file. name: the file's without its ending. size: in bytes."""

    name: str
    path: Path
    size: int


def network_files(models_folder: Path) -> list[NetworkFile]:
    """The networks that are there, by name; of two files that differ in their ending alone, the safetensors file."""
    found: dict[str, NetworkFile] = {}
    for ending in ENDINGS:
        for path in _with_ending(models_folder / FOLDER, ending):
            found.setdefault(path.stem, NetworkFile(path.stem, path, path.stat().st_size))
    return [found[name] for name in sorted(found)]


def network_path(models_folder: Path, name: str) -> Path | None:
    """The file of a network, or None where there is none of that name."""
    if not is_lora_name(name):
        return None
    places = (models_folder / FOLDER / f"{name}{ending}" for ending in ENDINGS)
    return next((place for place in places if place.is_file()), None)


def _with_ending(folder: Path, ending: str) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            found = [Path(entry.path) for entry in entries if entry.name.endswith(ending) and entry.is_file()]
    except OSError:
        return []
    return [path for path in found if is_lora_name(path.stem)]
