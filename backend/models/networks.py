"""The file of a network that a user named."""

from __future__ import annotations

from pathlib import Path

from ..wire import FailureError, FailureKind
from ..wire.network_files import FOLDER, network_files, network_path


def find_network(models_folder: Path, name: str) -> Path:
    """The network's file. Raises `FailureError` (model_missing), naming those that are there."""
    path = network_path(models_folder, name)
    if path is None:
        there = ", ".join(file.name for file in network_files(models_folder)) or "none is there yet"
        raise FailureError.of(
            FailureKind.MODEL_MISSING,
            f"There is no network called {name!r}.",
            f"Choose one of those that are there ({there}), or put its file into {FOLDER} in the models folder.",
            str(models_folder / FOLDER),
        )
    return path
