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
BUTTON_WIDTH = 24.0
"""Pixels of a button with an icon, and of an icon before a text, at scale 1."""
STAGES = {
    "waiting": "Waiting",
    "loading": "Loading the model",
    "text": "Reading the prompt",
    "control": "Reading the controls",
    "denoising": "Painting",
    "decoding": "Developing the picture",
    "enhancing": "Enhancing",
    "saving": "Saving",
}
COUNTED = {"denoising": "step", "enhancing": "part"}
"""What a stage counts."""


def paragraph(layout: Any, context: bpy.types.Context, text: str, icon: str = "NONE", buttons: int = 0) -> None:
    """A sentence over as many lines as the panel's width asks for; the icon stands at the first.

    buttons: how many of them, each with an icon alone, stand beside it.
    """
    scale = context.preferences.system.ui_scale or 1.0  # 0 in background
    width = context.region.width if context.region else 280
    taken = MARGIN + BUTTON_WIDTH * (buttons + (icon != "NONE"))
    characters = max(16, int((width / scale - taken) / CHARACTER_WIDTH))
    column = layout.column(align=True)
    column.scale_y = 0.8
    for line in textwrap.wrap(text, characters):
        column.label(text=line, icon=icon)
        icon = "BLANK1" if icon != "NONE" else "NONE"


def note(layout: Any, words: str) -> None:
    """A quiet line under a setting."""
    row = layout.row()
    row.active = False
    row.alignment = "RIGHT"
    row.label(text=words)


def progress_words(progress: Progress | None) -> str:
    """What a job is at: "Painting, step 3 of 20, 40 s left"."""
    if progress is None:
        return STAGES["waiting"]
    words = STAGES.get(progress.stage, progress.stage.capitalize())
    if progress.steps and progress.stage in COUNTED:
        words = f"{words}, {COUNTED[progress.stage]} {progress.step} of {progress.steps}"
    return words if progress.seconds_left is None else f"{words}, {time_words(progress.seconds_left)} left"


def time_words(seconds: float) -> str:
    """About how long: "5 s", "40 s", "3 min", "2 h"."""
    if seconds < 10.0:
        return f"{max(1, round(seconds))} s"
    if seconds < 90.0:
        return f"{5 * round(seconds / 5.0)} s"
    return f"{round(seconds / 60.0)} min" if seconds < 90.0 * 60.0 else f"{round(seconds / 3600.0)} h"
