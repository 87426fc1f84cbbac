"""Words for what is going on, and sentences broken into lines."""

from __future__ import annotations

import textwrap
from typing import Any

import bpy

from ...backend.wire import Progress

CHARACTER_WIDTH = 6.5
"""Pixels, on average, of the interface font at scale 1."""
MARGIN = 60.0
"""Pixels of a panel's width that are not for text, at scale 1."""
STAGES = {
    "waiting": "Waiting",
    "loading": "Loading the model",
    "text": "Reading the prompt",
    "control": "Reading the controls",
    "denoising": "Painting",
    "decoding": "Developing the picture",
    "saving": "Saving",
}


def paragraph(layout: Any, context: bpy.types.Context, text: str, icon: str = "NONE") -> None:
    """A sentence over as many lines as the panel's width asks for; the icon stands at the first."""
    scale = context.preferences.system.ui_scale or 1.0  # 0 in background
    width = context.region.width if context.region else 280
    characters = max(16, int((width / scale - MARGIN) / CHARACTER_WIDTH))
    column = layout.column(align=True)
    column.scale_y = 0.8
    for line in textwrap.wrap(text, characters):
        column.label(text=line, icon=icon)
        icon = "BLANK1" if icon != "NONE" else "NONE"


def progress_words(progress: Progress | None) -> str:
    """What a job is at: "Painting, step 3 of 20"."""
    if progress is None:
        return STAGES["waiting"]
    words = STAGES.get(progress.stage, progress.stage.capitalize())
    if progress.steps and progress.stage == "denoising":
        return f"{words}, step {progress.step} of {progress.steps}"
    return words
