"""An armature as arrays, and a body: which of its bones are the limbs and the head of a person."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SIDES = ("left", "right")


class NotAPersonError(ValueError):
    """A skeleton that cannot be read as a person's; the text says why, as the second half of a sentence."""


@dataclass(frozen=True, eq=False)
class Skeleton:
    """An armature's bones. Rest places are in the armature's space, posed ones in the world's.

    parents: (bones,) the parent's index, -1 for none; parents come first. deforms: (bones,) bool. rest, posed:
    (bones, 4, 4), y along the bone. lengths: (bones,) at rest.
    """

    names: tuple[str, ...]
    parents: NDArray[np.int64]
    deforms: NDArray[np.bool_]
    rest: Floats
    lengths: Floats
    posed: Floats

    @property
    def heads(self) -> Floats:
        """(bones, 3) where the bones begin, at rest."""
        return self.rest[:, :3, 3]

    @cached_property
    def tails(self) -> Floats:
        """(bones, 3) where they end, at rest. Imported bones may end anywhere."""
        return self.heads + self.rest[:, :3, 1] * self.lengths[:, None]

    @cached_property
    def children(self) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in self.names]
        for bone, parent in enumerate(self.parents):
            if parent >= 0:
                found[parent].append(bone)
        return found

    def below(self, bone: int) -> list[int]:
        """The bone and all that hang from it."""
        found = [bone]
        for one in found:
            found += self.children[one]
        return found

    def above(self, bone: int) -> list[int]:
        """The bone, its parent, and so on up to the root."""
        found = [bone]
        while self.parents[found[-1]] >= 0:
            found.append(int(self.parents[found[-1]]))
        return found

    def carried(self, bone: int, place: Any) -> Floats:
        """Where in the world a point of the armature's rest goes with a bone."""
        return (self.posed[bone] @ np.linalg.inv(self.rest[bone]) @ np.array([*place, 1.0]))[:3]


@dataclass(frozen=True)
class Limb:
    """An arm or a leg by its bones' indices: upper, lower, and hand or foot (-1 where there is none)."""

    upper: int
    lower: int
    end: int = -1


@dataclass(frozen=True)
class Body:
    """A person's bones: arms and legs by side, the head, and the eyes by side where there are any."""

    arms: dict[str, Limb]
    legs: dict[str, Limb]
    head: int
    eyes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Stance:
    """How a body stands at rest: unit vectors in the armature's space, and the length of the torso."""

    left: Floats
    up: Floats
    forward: Floats
    torso: float


def end_of(skeleton: Skeleton, limb: Limb) -> Floats:
    """The wrist or the ankle at rest."""
    return skeleton.heads[limb.end] if limb.end >= 0 else skeleton.tails[limb.lower]


def middle(skeleton: Skeleton, limbs: dict[str, Limb]) -> Floats:
    """The point half-way between the shoulders, or between the hips, at rest."""
    return skeleton.heads[[limbs[side].upper for side in SIDES]].mean(axis=0)


def stance(skeleton: Skeleton, arms: dict[str, Limb], legs: dict[str, Limb]) -> Stance:
    """Up is from the hips to the shoulders; left from the right side's joints to the left's.

    Raises `NotAPersonError` where those do not stand as a person's do.
    """
    hips, shoulders = middle(skeleton, legs), middle(skeleton, arms)
    torso = float(np.linalg.norm(shoulders - hips))
    across = sum(skeleton.heads[pair["left"].upper] - skeleton.heads[pair["right"].upper] for pair in (arms, legs)) + (
        end_of(skeleton, arms["left"]) - end_of(skeleton, arms["right"])
    )
    if torso < 1e-9:
        raise NotAPersonError("its arms begin where its legs do")
    up = (shoulders - hips) / torso
    left = across - (across @ up) * up
    width = float(np.linalg.norm(left))
    if width < 0.1 * torso:
        raise NotAPersonError("its left and right sides lie in one place")
    left = left / width
    for side in SIDES:
        leg = end_of(skeleton, legs[side]) - skeleton.heads[legs[side].upper]
        if leg @ up > -0.5 * np.linalg.norm(leg):
            raise NotAPersonError("its legs do not hang from an upright back")
    return Stance(left, up, np.cross(left, up), torso)
