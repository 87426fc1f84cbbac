"""The controls that the user chooses: which are on, how strictly they act, and in which part of the steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import bpy

from ..backend.wire import CONTROL_KINDS, Control, GenerationRequest
from ..backend.wire.presets import preset_control, with_preset
from . import choices


class GrisailleControl(bpy.types.PropertyGroup):
    """One ControlNet input."""

    strength: bpy.props.FloatProperty(
        name="Strength",
        description="How strictly the picture follows this map",
        default=0.7,
        min=0.0,
        max=2.0,
        soft_max=1.0,
        subtype="FACTOR",
    )
    start: bpy.props.FloatProperty(
        name="Start",
        description="The part of the steps after which this map begins to guide",
        default=0.0,
        min=0.0,
        max=0.99,
        subtype="FACTOR",
    )
    end: bpy.props.FloatProperty(
        name="End",
        description="The part of the steps after which this map no longer guides",
        default=1.0,
        min=0.01,
        max=1.0,
        subtype="FACTOR",
    )


def _control(kind: str) -> Any:
    return bpy.props.PointerProperty(type=GrisailleControl, name=choices.CONTROL_LABELS[kind])


def _use(kind: str, description: str) -> Any:
    return bpy.props.BoolProperty(name=choices.CONTROL_LABELS[kind], description=description, default=kind == "depth")


class ControlSettings:
    """Mixed into the scene's settings: a switch and a group for each kind."""

    use_depth: _use("depth", "Guide the picture with how far things are")
    use_normal: _use("normal", "Guide the picture with how surfaces face")
    use_line: _use("line", "Guide the picture with outlines and creases")
    use_pose: _use("pose", "Guide the picture with how people stand, as their armatures are posed")
    use_canny: _use("canny", "Guide the picture with thin, hard edges of what is modelled")
    use_soft_edge: _use("soft_edge", "Guide the picture with wide, soft edges of what is modelled: looser than Canny")
    use_grey: _use("grey", "Guide the picture with the scene's light and shade; renders it with a few samples")
    use_tile: _use("tile", "Guide the picture with the scene's colours, coarse; renders it with a few samples")
    use_blur: _use("blur", "Guide the picture with the scene's colours, blurred; renders it with a few samples")
    depth: _control("depth")
    normal: _control("normal")
    line: _control("line")
    pose: _control("pose")
    canny: _control("canny")
    soft_edge: _control("soft_edge")
    grey: _control("grey")
    tile: _control("tile")
    blur: _control("blur")


def controls(settings: ControlSettings) -> tuple[Control, ...]:
    """The controls that are on."""
    groups = ((kind, getattr(settings, kind)) for kind in CONTROL_KINDS if getattr(settings, f"use_{kind}"))
    return tuple(
        Control(kind, round(group.strength, 4), round(group.start, 4), round(group.end, 4)) for kind, group in groups
    )


def fill(settings: ControlSettings, controls: Iterable[Control]) -> None:
    """Makes them what a Request had."""
    by_kind = {control.kind: control for control in controls}
    for kind in CONTROL_KINDS:
        group = getattr(settings, kind)
        setattr(settings, f"use_{kind}", kind in by_kind)
        if control := by_kind.get(kind):
            group.strength, group.start, group.end = control.strength, control.start, control.end


def use_preset(settings: ControlSettings, preset: str) -> None:
    """Sets every control's strength and window to the preset's; which are on stays as it is."""
    for kind in CONTROL_KINDS:
        group, control = getattr(settings, kind), preset_control(kind, preset)
        group.strength, group.end = control.strength, control.end
        group.start = control.start


def controls_over(request: GenerationRequest, text: str | None, preset: str | None) -> dict[str, Any]:
    """The Request's field where a script says which controls, or a preset for them, or both, or neither (None)."""
    if text is not None:
        return {"controls": parse_controls(text, preset)}
    return {"controls": with_preset(request.controls, preset)} if preset is not None else {}


def parse_controls(text: str, preset: str | None = None) -> tuple[Control, ...]:
    """Controls as written in scripts: "depth,normal:0.5". "none" or nothing for no controls.

    preset: what is not written is the preset's. Raises `FailureError` (bad_request) on an unknown kind or a strength
    that is no number.
    """
    found = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        if item.lower() == "none":
            continue
        kind, colon, strength = item.partition(":")
        control = Control(kind.strip())
        control.check()
        if preset is not None:
            control = preset_control(control.kind, preset)
        if colon:
            try:
                control = replace(control, strength=float(strength))
            except ValueError:
                control = replace(control, strength=float("nan"))
        control.check()
        found.append(control)
    return tuple(found)
