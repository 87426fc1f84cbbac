"""From people in the scene to a pose map: where their joints are in the picture, and which of them are seen."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ....backend.wire.joints import JOINTS, PEOPLE_MAX
from ..errors import capture_error
from .people import TIPS, People, Person
from .skeleton import SIDES, Floats

if TYPE_CHECKING:
    from ..view import View

ARM, LEG = ("shoulder", "elbow", "wrist", "hand"), ("hip", "knee", "ankle", "foot")
THICKNESS = {"neck": 0.3, "shoulder": 0.3, "elbow": 0.22, "wrist": 0.22, "hip": 0.42, "knee": 0.28, "ankle": 0.28}
"""Of the torso's length: how far a limb's skin and clothes reach from its bones. An adult's torso is half a metre."""
HEAD_THICKNESS = 0.55
"""The same around a point of the face."""
FACING_MIN = {"nose": -0.2, "eye": 0.0, "ear": -0.3}
"""How far a point of the face must look towards the viewer, as the cosine of the angle, to be seen. A detector finds
the nose in profile, one eye beyond half a turn, and both ears from the front and from behind."""
EYE_TURN = 0.5
"""How far to the side the eyes' own directions lie, as a share of forward."""


def own_lines(name: str) -> list[tuple[str, str]]:
    """The lines, by their ends, whose surroundings are a joint's own body; none for the face's joints.

    An arm or a leg to its end, also where it points at the viewer. Shoulders and hips lie in the torso, which would
    hide those of the far side, where a detector still finds them; and to the neck all other lines lead.
    """
    side, _, part = name.partition("_")
    if name == "neck":
        torso = [("neck", f"{side}_{part}") for side in SIDES for part in ("shoulder", "hip")]
        return torso + [line for side in SIDES for line in own_lines(f"{side}_elbow")]
    for limb in (ARM, LEG):
        if part in limb:
            lines = list(pairwise(f"{side}_{other}" for other in limb))
            if part == limb[0]:
                lines += [(f"left_{part}", f"right_{part}"), ("neck", name)]
            return lines
    return []


def pose_map(people: People, view: View, depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """(people, 18, 3) float32 as in `ControlMaps`: everyone of whom a joint is seen, the nearest last.

    depth: planar, of the same view. Raises `FailureError` (capture_failed) where nobody is in the picture.
    """
    found = []
    for person in people.persons:
        place, distance, seen = _look(person, view, depth)
        inside = ((place >= 0.0) & (place <= 1.0)).all(axis=1)
        if (seen & inside).any():
            found.append((float(distance[seen].mean()), np.column_stack([place * seen[:, None], seen])))
    if not found:
        names = ", ".join(dict.fromkeys(people.names))
        raise capture_error(
            f"Nobody is to be seen in this picture: {names}.",
            "Turn the view to them, or switch the Pose control off.",
        )
    found.sort(key=lambda one: -one[0])
    return np.array([joints for _distance, joints in found[-PEOPLE_MAX:]], np.float32)


def _look(person: Person, view: View, depth: NDArray[np.float32]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Of the joints: their places (18, 2) in the picture, their distances, and whether they are seen."""
    world_to_view = np.array(view.world_to_view, np.float64).reshape(4, 4)
    projection = np.array(view.projection, np.float64).reshape(4, 4)
    points = np.vstack([person.joints, person.tips]) @ world_to_view[:3, :3].T + world_to_view[:3, 3]
    at = points[: len(JOINTS)]
    distance = -at[:, 2]
    in_range = (distance > view.clip_start) & (distance < view.clip_end)
    clip = np.column_stack([at, np.ones(len(at))]) @ projection.T
    place = clip[:, :2] / np.where(in_range, clip[:, 3], 1.0)[:, None] * (0.5, -0.5) + 0.5
    is_orthographic = bool(projection[3, 3])
    seen = in_range & _faces_viewer(person, at, world_to_view[:3, :3], is_orthographic)
    for number in map(int, np.flatnonzero(seen)):
        seen[number] = not _is_covered(number, points, place[number], depth, person.torso, is_orthographic)
    return place, distance, seen


def _faces_viewer(person: Person, at: Floats, rotation: Floats, is_orthographic: bool) -> NDArray[np.bool_]:
    """False for points of the face on the far side of the head: the head hides them also where it has no surface."""
    forward, left = rotation @ person.forward, rotation @ person.left
    turned = {"nose": forward, "left_ear": left, "right_ear": -left}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        direction = forward + sign * EYE_TURN * left
        turned[f"{side}_eye"] = direction / np.linalg.norm(direction)
    seen = np.ones(len(JOINTS), np.bool_)
    for name, direction in turned.items():
        number = JOINTS.index(name)
        to_viewer = np.array([0.0, 0.0, 1.0]) if is_orthographic else -at[number] / np.linalg.norm(at[number])
        seen[number] = direction @ to_viewer > FACING_MIN[name.split("_")[-1]]
    return seen


def _is_covered(
    number: int, points: Floats, place: Floats, depth: NDArray[np.float32], torso: float, is_orthographic: bool
) -> bool:
    """Whether something else lies before a joint. points: (22, 3), the joints and the tips as the viewer has them.

    A joint is inside its body: what is seen before it is the body's own where it lies within a limb's thickness of
    the joint's own lines. Another limb of the same body covers like anything else. Outside the picture nothing is
    known to cover.
    """
    height, width = depth.shape
    column, row = int(np.floor(place[0] * width)), int(np.floor(place[1] * height))
    if not (0 <= column < width and 0 <= row < height):
        return False
    surface, joint, name = float(depth[row, column]), points[number], JOINTS[number]
    if surface >= -joint[2]:
        return False
    seen = np.array([joint[0], joint[1], -surface]) if is_orthographic else joint * (surface / -joint[2])
    thickness = THICKNESS.get(name.split("_")[-1], HEAD_THICKNESS) * torso
    at: dict[str, Floats] = dict(zip((*JOINTS, *TIPS), points, strict=True))
    lines = own_lines(name) or [(name, name)]
    return all(_distance_to_segment(seen, at[start], at[end]) > thickness for start, end in lines)


def _distance_to_segment(point: Floats, start: Floats, end: Floats) -> float:
    along = end - start
    share = float(np.clip((point - start) @ along / max(float(along @ along), 1e-12), 0.0, 1.0))
    return float(np.linalg.norm(point - start - share * along))
