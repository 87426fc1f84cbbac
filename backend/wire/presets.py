"""How strictly each kind of control holds a picture to the scene: three named sets, as data.

Depth and normals of a scene are exact, where those that nets were taught with were guessed from pictures: less of them
suffices. The ends leave the last steps to the prompt, so that surfaces are not drawn by the map.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .request import Control


@dataclass(frozen=True, slots=True)
class ControlPreset:
    """values: strength, start and end for each kind of control, as in `Control`."""

    title: str
    description: str
    values: dict[str, tuple[float, float, float]]


PRESETS = {
    "exact": ControlPreset(
        "Exact Geometry",
        "Every edge where it was modelled: for products, buildings and projected textures",
        {
            "depth": (0.85, 0.0, 0.9),
            "normal": (0.7, 0.0, 0.9),
            "line": (0.8, 0.0, 0.9),
            "canny": (0.75, 0.0, 0.9),
            "soft_edge": (0.75, 0.0, 0.9),
            "pose": (0.9, 0.0, 0.8),
            "grey": (0.7, 0.0, 0.8),
            "tile": (0.6, 0.0, 0.8),
            "blur": (0.6, 0.0, 0.6),
        },
    ),
    "balanced": ControlPreset(
        "Balanced",
        "The forms of the scene, with surfaces from the prompt",
        {
            "depth": (0.7, 0.0, 0.75),
            "normal": (0.5, 0.0, 0.7),
            "line": (0.55, 0.0, 0.7),
            "canny": (0.55, 0.0, 0.65),
            "soft_edge": (0.55, 0.0, 0.7),
            "pose": (0.8, 0.0, 0.65),
            "grey": (0.5, 0.0, 0.6),
            "tile": (0.4, 0.0, 0.6),
            "blur": (0.4, 0.0, 0.5),
        },
    ),
    "loose": ControlPreset(
        "Loose",
        "The composition of the scene; forms may change: for block-outs and ideas",
        {
            "depth": (0.5, 0.0, 0.45),
            "normal": (0.3, 0.0, 0.4),
            "line": (0.35, 0.0, 0.4),
            "canny": (0.3, 0.0, 0.35),
            "soft_edge": (0.4, 0.0, 0.45),
            "pose": (0.6, 0.0, 0.5),
            "grey": (0.3, 0.0, 0.4),
            "tile": (0.25, 0.0, 0.4),
            "blur": (0.3, 0.0, 0.35),
        },
    ),
}


def preset_control(kind: str, preset: str) -> Control:
    """A control as the preset has it. Raises `KeyError` where there is no such preset or kind."""
    return Control(kind, *PRESETS[preset].values[kind])


def with_preset(controls: Iterable[Control], preset: str) -> tuple[Control, ...]:
    """The same kinds of control, each as the preset has it."""
    return tuple(preset_control(control.kind, preset) for control in controls)
