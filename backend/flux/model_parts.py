"""A part of a model is a folder: whether its files are there, and what is said where they cannot be read."""

from __future__ import annotations

from pathlib import Path

from ..wire import FailureError, FailureKind


def require(folder: Path, *patterns: str) -> None:
    """Raises `FailureError` (model_missing) unless a file for each pattern is in the folder."""
    for pattern in patterns:
        if not any(path.is_file() for path in folder.glob(pattern)):
            raise missing(folder / pattern)


def missing(path: Path) -> FailureError:
    """What is said of a file of a model that is not there."""
    return FailureError.of(
        FailureKind.MODEL_MISSING,
        f"The model's file {path.parent.name}/{path.name} is not there.",
        "Download the model again, or choose another one.",
        str(path),
    )


def broken(folder: Path, error: Exception) -> FailureError:
    return FailureError.of(
        FailureKind.MODEL_BROKEN,
        f"The model's files in {folder.name} are damaged and cannot be read.",
        "Download the model again.",
        f"{folder}: {type(error).__name__}: {error}",
    )
