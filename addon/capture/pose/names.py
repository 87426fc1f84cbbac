"""Bones by their names: Rigify, Mixamo, Unreal, Unity, VRM, Biped, DAZ, MakeHuman, Auto-Rig Pro, MMD and plain ones."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .head import find_head
from .skeleton import SIDES, Body, Limb, Skeleton

PHRASES = {
    "upper_arm": ("upperarm", "uparm", "armstretch", "shldrbend", "shldr", "humerus", "arm", "腕", "shoulder"),
    "forearm": ("forearm", "lowerarm", "lowarm", "forearmstretch", "forearmbend", "ulna", "elbow", "ひじ"),
    "hand": ("hand", "wrist", "手首"),
    "thigh": ("thigh", "thighstretch", "thighbend", "upleg", "upperleg", "femur", "足", "leg", "hip"),
    "shin": ("shin", "calf", "lowerleg", "lowleg", "legstretch", "tibia", "knee", "ひざ", "leg"),
    "foot": ("foot", "ankle", "足首"),
    "eye": ("eye", "faceeye", "目"),
    "head": ("head", "頭"),
}
"""What a part is called, the surest word first. A leg is the thigh where something else is the shin, and the shin else;
a shoulder is the upper arm only where nothing else is."""
SIDE_WORDS = {"l": "left", "left": "left", "左": "left", "r": "right", "right": "right", "右": "right"}
MIDDLE_WORDS = ("c", "m", "x")
PREFIX = re.compile(
    r"^(?:def|org|mixamorig\d*|bip\d*|valvebiped|cc_base|j_bip|j_adj|rig|bone|bn|jnt|joint)[-_. ]+", re.IGNORECASE
)
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")


@dataclass(frozen=True)
class NameParts:
    """What a bone's name says: the part of the body in one word, its side or "", its number, and its rank.

    rank: 0 for Rigify's bones that deform, 1 for its copies of the metarig's, 2 for all others, of which Rigify's may
    be controls far from the body.
    """

    phrase: str
    side: str
    number: int
    rank: int


def read_name(name: str) -> NameParts:
    """Takes a bone's name apart."""
    rank = next((rank for rank, prefix in enumerate(("DEF-", "ORG-")) if name.startswith(prefix)), 2)
    rest = _without_prefixes(name)
    words = [word.lower() for word in WORD.findall(rest)]
    if words and words[0][0] in "左右" and len(words[0]) > 1:
        words[:1] = [words[0][0], words[0][1:]]
    side = next((SIDE_WORDS[word] for word in words if word in SIDE_WORDS), "")
    words = [word for word in words if word not in SIDE_WORDS]
    number = int(words.pop()) if words and words[-1].isdecimal() else 0
    if len(words) > 1:
        words = [word for word in words if word not in MIDDLE_WORDS and word not in ("jnt", "joint", "bone")]
    return NameParts("".join(words), side, number, rank)


def _without_prefixes(name: str) -> str:
    name = re.split(r"[:|]", name)[-1]
    while (shorter := PREFIX.sub("", name)) not in (name, ""):
        name = shorter
    return name


def body_by_name(skeleton: Skeleton) -> Body | None:
    """The body that the bones' names tell, or None where they do not name both arms and both legs.

    Raises `NotAPersonError` where they do and there is no head.
    """
    parts = [read_name(name) for name in skeleton.names]
    arms, legs, eyes = dict[str, Limb](), dict[str, Limb](), dict[str, int]()
    for side in SIDES:
        arm = _limb(skeleton, parts, side, ("upper_arm", "forearm", "hand"))
        leg = _limb(skeleton, parts, side, ("thigh", "shin", "foot"))
        if arm is None or leg is None:
            return None
        arms[side], legs[side] = arm, leg
        eye = _bone(skeleton, parts, "eye", side)
        if eye >= 0:
            eyes[side] = eye
    head = _bone(skeleton, parts, "head", "")
    if head < 0:
        head = find_head(skeleton, arms, legs)
    return Body(arms, legs, head, eyes if len(eyes) == len(SIDES) else {})


def _limb(skeleton: Skeleton, parts: list[NameParts], side: str, roles: tuple[str, str, str]) -> Limb | None:
    upper = _bone(skeleton, parts, roles[0], side)
    lower = _bone(skeleton, parts, roles[1], side, but=upper)
    if upper < 0 or lower < 0:
        return None
    return Limb(upper, lower, _bone(skeleton, parts, roles[2], side))


def _bone(skeleton: Skeleton, parts: list[NameParts], role: str, side: str, but: int = -1) -> int:
    """The bone that is named most surely for a role, or -1."""
    phrases = PHRASES[role]
    found = [
        (phrases.index(part.phrase), part.rank, not skeleton.deforms[index], part.number, index)
        for index, part in enumerate(parts)
        if part.side == side and part.phrase in phrases and index != but
    ]
    return min(found)[-1] if found else -1
