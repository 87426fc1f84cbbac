"""Bones by their shape, where names say nothing: a rest pose that is symmetric, two long legs below, two arms above."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .head import find_head
from .skeleton import Body, Floats, Limb, NotAPersonError, Skeleton

TOLERANCE = 0.03
"""Of the skeleton's height: what lies nearer to the middle is in the middle, and so for a mirrored point."""
LONG = 0.5
"""Of the longest limb: what is shorter is an ear, an eye or a strap."""
SYMMETRIC = 0.8
"""The share of the bones that must have a mirror image."""
BONES_MIN, BONES_MAX = 8, 1500
"""More are compared with each other in too much memory; such rigs have names."""


@dataclass(frozen=True, eq=False)
class _Chain:
    """A limb from its start to its farthest tip. points: (bones + 1, 3) at rest; side: the sign of its side."""

    bones: list[int]
    points: Floats
    side: float

    @property
    def lengths(self) -> Floats:
        return np.linalg.norm(np.diff(self.points, axis=0), axis=1)

    @property
    def extent(self) -> float:
        """How far it leads from where it starts: bones around a face may be many and lead nowhere."""
        return float(np.linalg.norm(self.points - self.points[0], axis=1).max())


def body_by_shape(skeleton: Skeleton) -> Body:
    """The body that the rest pose shows. Raises `NotAPersonError`, saying what is not as in a person."""
    if not BONES_MIN <= len(skeleton.names) <= BONES_MAX:
        count = "few" if len(skeleton.names) < BONES_MIN else "many"
        raise NotAPersonError(f"it has too {count} bones to be told by its shape")
    axis, middle, tolerance = _mirror(skeleton.heads)
    pairs = _limb_pairs(skeleton, axis, middle, tolerance)
    if len(pairs) != 2:
        counted = {0: "no pair", 1: "only one pair"}.get(len(pairs), f"{len(pairs)} pairs")
        raise NotAPersonError(f"it has {counted} of long limbs")
    legs, arms = sorted(pairs, key=lambda pair: _hangs(pair, pairs))
    up_axis = int(np.argmax([0.0 if index == axis else abs(_torso(legs, arms)[index]) for index in range(3)]))
    up = np.eye(3)[up_axis] * np.sign(_torso(legs, arms)[up_axis])
    left = np.cross(up, _forward(legs, up, axis))
    sign = float(np.sign(left[axis]))
    by_side = [{"left" if chain.side == sign else "right": _limb(chain) for chain in pair} for pair in (arms, legs)]
    return Body(by_side[0], by_side[1], find_head(skeleton, *by_side))


def _mirror(heads: Floats) -> tuple[int, float, float]:
    """The axis across which the bones are mirrored, the place of the mirror on it, and the tolerance."""
    tolerance = TOLERANCE * float(np.ptp(heads, axis=0).max())
    best = (0.0, 0, 0.0)
    for axis in range(3):
        middle = (heads[:, axis].min() + heads[:, axis].max()) / 2.0
        image = heads.copy()
        image[:, axis] = 2.0 * middle - image[:, axis]
        apart = np.linalg.norm(heads[:, None] - image[None], axis=2).min(axis=1)
        aside = np.abs(heads[:, axis] - middle) > tolerance
        share = float((apart < 2.0 * tolerance).mean())
        if share >= SYMMETRIC and aside.sum() >= 6:
            best = max(best, (share * float(aside.mean()), axis, float(middle)))
    if best[0] == 0.0:
        raise NotAPersonError("its left and right sides are not alike at rest")
    return best[1], best[2], tolerance


def _limb_pairs(skeleton: Skeleton, axis: int, middle: float, tolerance: float) -> list[tuple[_Chain, _Chain]]:
    """The long limbs that have a mirror image, with it."""
    side = np.where(np.abs(skeleton.heads[:, axis] - middle) > tolerance, skeleton.heads[:, axis] - middle, 0.0)
    tails = skeleton.tails[:, axis] - middle
    for bone, below in enumerate(skeleton.children):
        if side[bone] == 0.0 and (below or abs(tails[bone]) > tolerance):
            # A collar bone may begin in the middle. A pelvis does, too, and leads to both sides.
            signs = {float(np.sign(side[child])) for child in below} or {float(np.sign(tails[bone]))}
            side[bone] = signs.pop() * tolerance if len(signs) == 1 else 0.0
    reach = _reach(skeleton)
    starts = [bone for bone, parent in enumerate(skeleton.parents) if side[bone] and (parent < 0 or not side[parent])]
    chains = [_chain(skeleton, bone, reach, float(np.sign(side[bone]))) for bone in starts]
    longest = max((chain.extent for chain in chains), default=0.0)
    long = [chain for chain in chains if chain.extent > LONG * longest]
    mirror = np.ones(3)
    mirror[axis] = -1.0
    pairs = []
    for chain in (chain for chain in long if chain.side > 0.0):
        for other in (other for other in long if other.side < 0.0):
            image = other.points[[0, -1]] * mirror
            image[:, axis] += 2.0 * middle
            if np.linalg.norm(image - chain.points[[0, -1]], axis=1).max() < 4.0 * tolerance:
                pairs.append((chain, other))
                break
    return pairs


def _reach(skeleton: Skeleton) -> Floats:
    """The length of the longest way down from each bone's head."""
    reach = skeleton.lengths.copy()
    for bone in reversed(range(len(skeleton.names))):
        below = skeleton.children[bone]
        if below:
            steps = np.linalg.norm(skeleton.heads[below] - skeleton.heads[bone], axis=1)
            reach[bone] = float((steps + reach[below]).max())
    return reach


def _chain(skeleton: Skeleton, bone: int, reach: Floats, side: float) -> _Chain:
    bones = [bone]
    while below := skeleton.children[bones[-1]]:
        here = skeleton.heads[bones[-1]]
        bones.append(max(below, key=lambda child: np.linalg.norm(skeleton.heads[child] - here) + reach[child]))
    return _Chain(bones, np.vstack([skeleton.heads[bones], skeleton.tails[bones[-1]]]), side)


def _torso(legs: tuple[_Chain, _Chain], arms: tuple[_Chain, _Chain]) -> Floats:
    """From where the legs begin to where the arms do."""
    return arms[0].points[0] + arms[1].points[0] - legs[0].points[0] - legs[1].points[0]


def _hangs(pair: tuple[_Chain, _Chain], pairs: list[tuple[_Chain, _Chain]]) -> float:
    """-1 where a pair of limbs points away from the other pair, as legs do."""
    other = pairs[1] if pair is pairs[0] else pairs[0]
    torso = _torso(pair, other)
    reach = pair[0].points[-1] - pair[0].points[0] + pair[1].points[-1] - pair[1].points[0]
    return float(reach @ torso / max(np.linalg.norm(reach) * np.linalg.norm(torso), 1e-9))


def _limb(chain: _Chain) -> Limb:
    """Its two long bones: those that lie one after the other and of which the shorter is longest."""
    lengths = chain.lengths
    if len(lengths) < 2:
        raise NotAPersonError("its limbs have neither elbows nor knees")
    upper = int(np.argmax(np.minimum(lengths[:-1], lengths[1:])))
    if lengths[upper : upper + 2].sum() < 0.5 * lengths.sum():
        raise NotAPersonError("its limbs have more than two long bones")
    bones = [*chain.bones, -1]
    return Limb(bones[upper], bones[upper + 1], bones[upper + 2])


def _forward(legs: tuple[_Chain, _Chain], up: Floats, axis: int) -> Floats:
    """Where the toes point; without toes, Blender's front, or that of models whose up is y."""
    forward = np.zeros(3)
    length = 0.0
    for chain in legs:
        limb = _limb(chain)
        if limb.end >= 0:
            foot = chain.points[-1] - chain.points[chain.bones.index(limb.end)]
            forward += foot - (foot @ up) * up
        length += float(chain.lengths.sum())
    forward[axis] = 0.0
    if np.linalg.norm(forward) > 0.05 * length:
        return forward / np.linalg.norm(forward)
    if axis == 0 and up[2] > 0.0:
        return np.array([0.0, -1.0, 0.0])
    if axis == 0 and up[1] > 0.0:
        return np.array([0.0, 0.0, 1.0])
    raise NotAPersonError("its front cannot be told from its back")
