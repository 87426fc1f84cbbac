"""The sample model: a tiny FLUX of our own that ships with the add-on, and the scripts that trained it."""

from __future__ import annotations

from pathlib import Path

from ..wire.model_names import shipped_models

NAME = "sample"


def model_folder() -> Path:
    """The model's folder, which ships with the add-on."""
    return shipped_models() / NAME
