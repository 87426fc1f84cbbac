"""The head: which bone it is, and where its eyes, its ears and its nose are."""

from __future__ import annotations

import numpy as np

from .skeleton import SIDES, Body, Floats, Limb, NotAPersonError, Skeleton, Stance, middle, stance

SKULL_ABOVE_SHOULDERS = 0.35
"""Of the torso's length: how high above the shoulders the skull sits on the neck."""
HEAD_HEIGHT = 0.38
"""Of the torso's length: from there to the crown, where the bones do not say it."""
HEAD_HEIGHT_MIN, HEAD_HEIGHT_MAX = 0.2, 1.2
"""A bone that is shorter or longer does not say it: an imported tail, or hair."""
FACE = {
    "nose": (0.0, 0.35, 0.75),
    "right_eye": (-0.2, 0.55, 0.58),
    "left_eye": (0.2, 0.55, 0.58),
    "right_ear": (-0.42, 0.45, 0.05),
    "left_ear": (0.42, 0.45, 0.05),
}
"""To the left, up and forward from where the skull sits on the neck, in heads' heights; of an adult's proportions."""


def find_head(skeleton: Skeleton, arms: dict[str, Limb], legs: dict[str, Limb]) -> int:
    """The bone in the middle above the shoulders that begins nearest to where a skull does.

    Raises `NotAPersonError` where there is none.
    """
    stands = stance(skeleton, arms, legs)
    shoulders = middle(skeleton, arms)
    in_arms = {bone for arm in arms.values() for bone in skeleton.below(arm.upper)}
    from_shoulders = skeleton.heads - shoulders
    high, aside = from_shoulders @ stands.up / stands.torso, np.abs(from_shoulders @ stands.left) / stands.torso
    candidates = [
        bone for bone in range(len(skeleton.names)) if bone not in in_arms and high[bone] > 0.0 and aside[bone] < 0.05
    ]
    # Faces have bones of their own in the middle, all shorter than a skull.
    candidates = [bone for bone in candidates if _heights(skeleton, bone, stands)] or candidates
    if not candidates:
        raise NotAPersonError("there is no head above its shoulders")
    return min(candidates, key=lambda bone: abs(high[bone] - SKULL_ABOVE_SHOULDERS))


def head_height(skeleton: Skeleton, head: int, stands: Stance) -> float:
    """From where the skull sits on the neck to the crown, at rest."""
    return next(iter(_heights(skeleton, head, stands)), HEAD_HEIGHT * stands.torso)


def _heights(skeleton: Skeleton, bone: int, stands: Stance) -> list[float]:
    """How far a bone's tail, and the bones that hang from it, rise above its head, as far as a skull might."""
    ends = [skeleton.tails[bone], *(skeleton.heads[child] for child in skeleton.children[bone])]
    heights = [float((end - skeleton.heads[bone]) @ stands.up) for end in ends]
    return [height for height in heights if HEAD_HEIGHT_MIN <= height / stands.torso <= HEAD_HEIGHT_MAX]


def face_at_rest(skeleton: Skeleton, body: Body, stands: Stance) -> dict[str, Floats]:
    """Where the face's joints are at rest. The eyes' bones have the say where they lie where eyes can be."""
    axes, height = np.stack([stands.left, stands.up, stands.forward]), head_height(skeleton, body.head, stands)
    skull = skeleton.heads[body.head]
    face = {name: skull + height * (np.array(place) @ axes) for name, place in FACE.items()}
    if not body.eyes:
        return face
    moved = {side: skeleton.heads[body.eyes[side]] - face[f"{side}_eye"] for side in SIDES}
    # Eyes that look at something far away are not the eyes but what turns them.
    if all(np.linalg.norm(step) < 0.6 * height for step in moved.values()):
        for side in SIDES:
            face[f"{side}_eye"] = face[f"{side}_eye"] + moved[side]
        together = (moved["left"] + moved["right"]) / 2.0
        face["nose"] = face["nose"] + together - (together @ stands.left) * stands.left
    return face
