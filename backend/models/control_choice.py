"""Which net guides by which kind of control, how its picture is made, and what stands in where there is none. Data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..wire import FailureError, FailureKind
from ..wire.request import spoken
from .model_folder import ControlKind, ControlNetEntry
from .settings import CONTROLNETS, nets_for

PICTURES = {
    "depth": "depth_near_white",
    "normal": "normal_y_up",
    "line": "line_white_on_black",
    "pose": "pose_openpose",
    "canny": "canny_white_on_black",
    "soft_edge": "soft_edge_white_on_black",
    "grey": "grey_luma",
    "tile": "tile_eighth",
    "blur": "blur_hundredth",
}
"""Each kind's recipe in `backend/flux/control_pictures.py`, where PICTURES_OF says nothing else."""
PICTURES_OF = {("jasper-upscaler", "tile"): "tile_quarter"}
"""Of one family alone."""
STAND_INS = {
    "line": ("soft_edge", "canny"),
    "soft_edge": ("line", "canny"),
    "canny": ("line", "soft_edge"),
    "tile": ("blur",),
    "blur": ("tile",),
}
"""What a kind may be drawn as where no net knows it, the nearest first. The others say something of their own: a normal
map on a net for depth would be read as depth."""


@dataclass(frozen=True, slots=True)
class ControlChoice:
    """How a control is made: the net, and the kind that its picture is drawn as (the control's own, or a stand-in).

    net: None where the model itself takes the picture, joined to its tokens.
    """

    kind: str
    drawn_as: str
    net: ControlNetEntry | None
    how: ControlKind

    @property
    def note(self) -> str:
        """A sentence for the user where something stands in; else ""."""
        if self.drawn_as == self.kind:
            return ""
        name = spoken(self.kind)
        return f"The {name} control is drawn as {spoken(self.drawn_as)}: the model has no ControlNet for {name} maps."


def model_kinds(family: str) -> dict[str, dict[str, Any]]:
    """What a model.json says of a net of this family in CONTROLNETS: each kind's mode and the recipe of its picture."""
    modes = CONTROLNETS[family].modes
    return {kind: {"mode": modes[kind], "picture": PICTURES_OF.get((family, kind), PICTURES[kind])} for kind in modes}


def choose_nets(
    kinds: Sequence[str], nets: Iterable[ControlNetEntry], model: str, joined: Mapping[str, str] | None = None
) -> list[ControlChoice]:
    """A net for each of the kinds, in their order; a stand-in is drawn only where it is not asked for itself.

    model: its name, for the sentence. joined: kinds that the model itself takes, and the recipes of their pictures.
    Raises `FailureError` (model_unsupported), naming the net to get.
    """
    known: dict[str, tuple[ControlNetEntry | None, ControlKind]] = {
        kind: (None, ControlKind(None, recipe)) for kind, recipe in (joined or {}).items()
    }
    for net in nets:
        for kind, how in net.kinds.items():
            known.setdefault(kind, (net, how))
    taken = {kind for kind in kinds if kind in known}
    choices = []
    for kind in kinds:
        candidates = (kind,) if kind in known else STAND_INS.get(kind, ())
        usable = [name for name in candidates if name in known and (name == kind or name not in taken)]
        if not usable:
            raise _no_net(kind, [name for name in candidates if name in taken], model)
        taken.add(usable[0])
        choices.append(ControlChoice(kind, usable[0], *known[usable[0]]))
    return choices


def _no_net(kind: str, in_use: list[str], model: str) -> FailureError:
    name = spoken(kind)
    hint = f"Switch the {name} control off, or choose a model that has one (for FLUX.1-dev: {nets_for(kind)[0]})."
    if in_use:
        hint = f"Switch the {name} control off: {spoken(in_use[0])}, which could stand in for it, is in use already."
    return FailureError.of(
        FailureKind.MODEL_UNSUPPORTED, f"The model {model!r} has no ControlNet for {name} maps.", hint
    )
