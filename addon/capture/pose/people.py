"""The people of a view layer: armatures that are shown, or that move something that is shown, in their pose of now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from mathutils import Matrix

from ....backend.wire import Failure
from ....backend.wire.joints import JOINTS
from ..errors import capture_error
from .head import face_at_rest
from .names import body_by_name
from .shape import body_by_shape
from .skeleton import SIDES, Body, Floats, NotAPersonError, Skeleton, Stance, end_of, stance

TIPS = ("left_hand", "right_hand", "left_foot", "right_foot")
NAMED_MAX = 3
"""How many armatures a sentence names."""
HINT = "Name its bones as Rigify, Mixamo or Unreal do (upper_arm.L, thigh.L, head ...), or hide it."


@dataclass(frozen=True, eq=False)
class Person:
    """joints: (18, 3) in the world, in the order of JOINTS. tips: (4, 3), the ends of hands and feet, as in TIPS.

    forward, left: where the face looks, and its left, as unit vectors. torso: its length at rest, in scene units.
    """

    joints: Floats
    tips: Floats
    forward: Floats
    left: Floats
    torso: float


@dataclass(frozen=True)
class People:
    """Those that were read; `note` says which armatures were not."""

    persons: tuple[Person, ...]
    names: tuple[str, ...]
    note: Failure | None


def find_people(view_layer: Any, is_shown: Callable[[Any], bool]) -> People:
    """Everyone in a view layer. is_shown: whether an object (not evaluated) is to be seen.

    Raises `FailureError` (capture_failed) where there is no armature, or none that can be read as a person.
    """
    depsgraph = view_layer.depsgraph
    persons, names, problems = [], [], {}
    for armature, place in _armatures(depsgraph, is_shown):
        skeleton = read_skeleton(armature.evaluated_get(depsgraph), place)
        try:
            persons.append(person_of(skeleton, abs(place.to_3x3().determinant()) ** (1.0 / 3.0)))
            names.append(armature.name)
        except NotAPersonError as error:
            problems[armature.name] = str(error)
    if not persons and not problems:
        raise capture_error(
            "There is no armature to take the pose from.",
            "Add one with bones, or show it, or switch the Pose control off.",
        )
    note = _note(problems) if problems else None
    if note is not None and not persons:
        raise capture_error(note.message, f"{HINT[:-1]} and switch the Pose control off.")
    return People(tuple(persons), tuple(names), note)


def is_rendered(view_layer: Any) -> Callable[[Any], bool]:
    """Whether an object of a view layer is one that a camera renders."""
    rendered: set[Any] = set()
    layers = [view_layer.layer_collection]
    for layer in layers:
        if not layer.exclude and not layer.collection.hide_render:
            rendered.update(layer.collection.objects)
            layers += layer.children
    return lambda item: not item.hide_render and item in rendered


def _note(problems: dict[str, str]) -> Failure:
    (first, why), count = next(iter(problems.items())), len(problems)
    if count == 1:
        return capture_error(f"The armature {first} cannot be read as a person: {why}.", HINT).failure
    listed = ", ".join(list(problems)[:NAMED_MAX]) + (f" and {count - NAMED_MAX} more" if count > NAMED_MAX else "")
    return capture_error(
        f"The armatures {listed} cannot be read as people; of {first}, {why}.", HINT.replace("its", "their")
    ).failure


def _armatures(depsgraph: Any, is_shown: Callable[[Any], bool]) -> Iterator[tuple[Any, Matrix]]:
    """Each armature once for each place that it is at, with its matrix in the world.

    Riggers hide armatures while they look at the picture: one that is hidden counts where it moves what is not.
    """
    found: dict[tuple[Any, ...], tuple[Any, Matrix]] = {}
    for instance in depsgraph.object_instances:
        item: Any = instance.object
        shown: Any = instance.parent if instance.is_instance else item
        if shown is None or not instance.show_self or not is_shown(shown.original):
            continue
        for armature in (moving.original for moving in _moving(item)):
            place = armature.evaluated_get(depsgraph).matrix_world.copy()
            if instance.is_instance:
                # The instance's own object has the instance's matrix; its original's has where the copy comes from.
                source = item.original.evaluated_get(depsgraph).matrix_world
                place = instance.matrix_world @ source.inverted_safe() @ place
            key = (armature.name_full, *(round(value, 4) for row in place for value in row))
            found.setdefault(key, (armature, place))
    # The walk over instances lends its objects for one step only.
    yield from found.values()


def _moving(item: Any) -> Iterator[Any]:
    """The armatures, evaluated, that an evaluated object is or is moved by."""
    if item.type == "ARMATURE":
        yield item
        return
    if item.type != "MESH":
        return
    for modifier in item.modifiers:
        if modifier.type == "ARMATURE" and modifier.object is not None:
            yield modifier.object
    if item.parent is not None and item.parent.type == "ARMATURE":
        yield item.parent


def read_skeleton(armature: Any, place: Matrix) -> Skeleton:
    """The bones of an evaluated armature, as it is posed. place: its matrix in the world."""
    bones, posed = sorted(armature.data.bones, key=lambda bone: len(bone.parent_recursive)), armature.pose.bones
    index = {bone.name: number for number, bone in enumerate(bones)}
    world = np.array(place, np.float64)
    return Skeleton(
        names=tuple(bone.name for bone in bones),
        parents=np.array([index[bone.parent.name] if bone.parent else -1 for bone in bones], np.int64),
        deforms=np.array([bone.use_deform for bone in bones], np.bool_),
        rest=np.array([bone.matrix_local for bone in bones], np.float64).reshape(-1, 4, 4),
        lengths=np.array([bone.length for bone in bones], np.float64),
        posed=world @ np.array([posed[bone.name].matrix for bone in bones], np.float64).reshape(-1, 4, 4),
    )


def person_of(skeleton: Skeleton, scale: float) -> Person:
    """Where a skeleton's joints are; the bones found by name, else by shape. Raises `NotAPersonError`.

    scale: from the armature's lengths to the scene's.
    """
    body = body_by_name(skeleton) or body_by_shape(skeleton)
    stands = stance(skeleton, body.arms, body.legs)
    places = _joints(skeleton, body, stands)
    skull = skeleton.carried(body.head, skeleton.heads[body.head])
    forward, left = (
        skeleton.carried(body.head, skeleton.heads[body.head] + axis) - skull for axis in (stands.forward, stands.left)
    )
    return Person(
        np.array([places[name] for name in JOINTS]),
        np.array([places[name] for name in TIPS]),
        forward / max(float(np.linalg.norm(forward)), 1e-12),
        left / max(float(np.linalg.norm(left)), 1e-12),
        stands.torso * scale,
    )


def _joints(skeleton: Skeleton, body: Body, stands: Stance) -> dict[str, Floats]:
    places: dict[str, Floats] = {}
    for side in SIDES:
        for limb, names in ((body.arms[side], "shoulder elbow wrist hand"), (body.legs[side], "hip knee ankle foot")):
            last = limb.end if limb.end >= 0 else limb.lower
            bones = limb.upper, limb.lower, last, last
            points = (
                skeleton.heads[limb.upper],
                skeleton.heads[limb.lower],
                end_of(skeleton, limb),
                skeleton.tails[last],
            )
            for name, bone, point in zip(names.split(), bones, points, strict=True):
                places[f"{side}_{name}"] = skeleton.carried(bone, point)
    for name, point in face_at_rest(skeleton, body, stands).items():
        places[name] = skeleton.carried(body.head, point)
    places["neck"] = (places["left_shoulder"] + places["right_shoulder"]) / 2.0
    return places
