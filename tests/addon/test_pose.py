"""Poses from armatures: whose joints are where, in the scene and in the picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Euler, Matrix, Vector

from tests.addon import looking, rigs, scenes

SIZE = (160, 96)
NAMINGS = ["rigify", "DEF", "mixamo", "mixamorig", "unreal", "unity", "plain", "vrm", "daz", "mmd", "nonsense"]


def find(is_shown: Callable[[Any], bool] = lambda item: True) -> Any:
    layer = bpy.context.view_layer
    layer.update()
    return looking.module("addon.capture.pose").find_people(layer, is_shown)


def joints(person: Any) -> dict[str, np.ndarray]:
    names = looking.module("backend.wire.joints").JOINTS
    return dict(zip(names, person.joints, strict=True))


def only(people: Any) -> dict[str, np.ndarray]:
    assert len(people.persons) == 1 and people.note is None
    return joints(people.persons[0])


def refused(call: Callable[[], object]) -> str:
    """The sentence with which a capture is refused; its next step is there, too."""
    with pytest.raises(looking.module("backend.wire").FailureError) as caught:
        call()
    failure = caught.value.failure
    assert failure.kind == "capture_failed" and failure.message.endswith(".") and failure.hint.endswith(".")
    return failure.message


def check_joints(found: dict[str, np.ndarray], place: Matrix | None = None) -> None:
    """Against PERSON's joints at `place`; a face looks forward from where a skull is."""
    place = place if place is not None else Matrix.Identity(4)
    for name, wanted in rigs.JOINTS_AT.items():
        np.testing.assert_allclose(found[name], place @ Vector(wanted), atol=1e-5, err_msg=name)
    face = {name: place.inverted() @ Vector(found[name]) for name in ("nose", "left_eye", "right_ear", "left_ear")}
    assert face["nose"].y < -0.09 and face["left_eye"].y < -0.07 and abs(face["nose"].x) < 1e-4
    assert 0.02 < face["left_eye"].x < 0.06 and 0.06 < face["left_ear"].x < 0.1 and face["right_ear"].x < -0.06
    assert all(1.62 < point.z < 1.8 for point in face.values()) and face["left_eye"].z > face["nose"].z


@pytest.mark.parametrize("naming", NAMINGS)
def test_a_person_is_known_by_name_or_by_shape(naming: str, grisaille: ModuleType) -> None:
    scenes.empty()
    rigs.person(naming)
    check_joints(only(find()))


@pytest.mark.parametrize("naming", ["mixamorig", "nonsense"])
def test_a_model_whose_up_is_y(naming: str, grisaille: ModuleType) -> None:
    """As imported from FBX and glTF: y is up at rest, the object turns it, and may scale it."""
    scenes.empty()
    turn = Matrix.Rotation(math.radians(-90), 4, "X")
    item = rigs.person(naming, turned=turn)
    item.rotation_euler.x, item.scale = math.radians(90), (2.0, 2.0, 2.0)
    check_joints(only(find()), Matrix.Scale(2.0, 4))


def test_a_person_without_feet_looks_along_blenders_front(grisaille: ModuleType) -> None:
    scenes.empty()
    item = rigs.person("nonsense")
    bpy.ops.object.mode_set(mode="EDIT")
    for bone in [bone for bone in item.data.edit_bones if bone.head.z < 0.11]:
        item.data.edit_bones.remove(bone)
    bpy.ops.object.mode_set(mode="OBJECT")
    check_joints(only(find()))


@pytest.mark.parametrize("naming", ["unreal", "nonsense"])
def test_joints_follow_the_pose(naming: str, grisaille: ModuleType) -> None:
    """The forearm is bent up by a right angle, and the head turned to its left."""
    scenes.empty()
    item = rigs.person(naming)
    names = rigs.named(naming)
    elbow, wrist = Vector(rigs.JOINTS_AT["left_elbow"]), Vector(rigs.JOINTS_AT["left_wrist"])
    bend = Matrix.Translation(elbow) @ Matrix.Rotation(math.radians(-90), 4, "Y") @ Matrix.Translation(-elbow)
    for part, turn in (("forearm.L", bend), ("head", Matrix.Rotation(math.radians(90), 4, "Z"))):
        bone = item.pose.bones[names[part]]
        bone.matrix = turn @ bone.matrix
        bpy.context.view_layer.update()
    found = only(find())
    np.testing.assert_allclose(found["left_wrist"], bend @ wrist, atol=1e-4)
    np.testing.assert_allclose(found["left_elbow"], elbow, atol=1e-4)
    assert found["nose"][0] > 0.09 and found["left_ear"][1] > 0.06


@pytest.mark.parametrize("kind", ["PERSP", "ORTHO"])
def test_joints_lie_in_the_picture_where_blender_says(kind: str, grisaille: ModuleType) -> None:
    scenes.empty()
    lens = scenes.camera((2.0, -4.0, 2.2), (0.0, 0.0, 0.9)).data
    lens.type, lens.ortho_scale, lens.shift_x, lens.shift_y = kind, 3.2, 0.1, -0.05
    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    item = rigs.person()
    item.location, item.rotation_euler = (0.2, 0.1, 0.0), Euler((0.0, 0.1, 0.6))
    people = find()
    layer = bpy.context.view_layer
    view = looking.module("addon.capture").view_of_camera(scene.camera, layer.depsgraph, scene, *SIZE)
    pose = looking.module("addon.capture.pose").pose_map(people, view, np.full(SIZE[::-1], np.inf, np.float32))
    assert pose.shape == (1, 18, 3) and pose.dtype == np.float32
    body = pose[0, 1:14]
    assert (body[:, 2] == 1.0).all()
    for found, joint in zip(body, people.persons[0].joints[1:14], strict=True):
        x, y, _depth = world_to_camera_view(scene, scene.camera, Vector(joint))
        np.testing.assert_allclose(found[:2], (x, 1.0 - y), atol=1e-4)


def test_what_is_no_person_is_named(grisaille: ModuleType) -> None:
    scenes.empty()
    rigs.quadruped("Horse")
    assert "The armature Horse cannot be read as a person" in refused(find)
    rigs.armature("Rope", {f"b{i}": (f"b{i - 1}" if i else "", (0, 0, i), (0, 0, i + 1)) for i in range(12)})
    assert "Rope" in (said := refused(find)) and "Horse" in said
    rigs.person("unreal", "Rider")
    people = find()
    assert people.names == ("Rider",)
    assert "Horse" in people.note.message and "Rider" not in people.note.message


def test_a_person_without_a_head_is_named(grisaille: ModuleType) -> None:
    scenes.empty()
    item = rigs.person("nonsense", "Headless")
    bpy.ops.object.mode_set(mode="EDIT")
    for bone in [bone for bone in item.data.edit_bones if bone.head.z > 1.5]:
        item.data.edit_bones.remove(bone)
    bpy.ops.object.mode_set(mode="OBJECT")
    assert "Headless" in (said := refused(find)) and "no head" in said


def test_no_armature_is_a_sentence(grisaille: ModuleType) -> None:
    scenes.still_life()
    assert "There is no armature" in refused(find)


def test_a_hidden_armature_counts_while_its_body_is_shown(grisaille: ModuleType) -> None:
    scenes.empty()
    item = rigs.person()
    body = rigs.give_body(item)
    item.hide_set(True)
    check_joints(only(find()))
    item.hide_set(False)
    assert len(find().persons) == 1, "it and its body are one person"
    item.hide_viewport = body.hide_viewport = True
    assert "There is no armature" in refused(find)


def test_what_a_camera_does_not_render_is_not_there(grisaille: ModuleType) -> None:
    scenes.empty()
    item = rigs.person()
    rendered = looking.module("addon.capture.pose").is_rendered
    assert len(find(rendered(bpy.context.view_layer)).persons) == 1
    item.hide_render = True
    assert "There is no armature" in refused(lambda: find(rendered(bpy.context.view_layer)))
    item.hide_render = False
    folder = bpy.data.collections.new("folder")
    bpy.context.scene.collection.children.link(folder)
    folder.objects.link(item)
    bpy.context.scene.collection.objects.unlink(item)
    folder.hide_render = True
    assert "There is no armature" in refused(lambda: find(rendered(bpy.context.view_layer)))


@pytest.mark.parametrize("hidden", [False, True])
def test_instances_of_a_collection_are_people_too(hidden: bool, grisaille: ModuleType) -> None:
    scenes.empty()
    item = rigs.person()
    body = rigs.give_body(item)
    item.location.x = 0.3
    item.hide_viewport = hidden
    library = bpy.data.collections.new("library")
    for one in (item, body):
        bpy.context.scene.collection.objects.unlink(one)
        library.objects.link(one)
    for x in (0.0, 5.0):
        copy = bpy.data.objects.new("copy", None)
        copy.instance_type, copy.instance_collection, copy.location.x = "COLLECTION", library, x
        copy.rotation_euler.z = x
        bpy.context.scene.collection.objects.link(copy)
    found = sorted(find().persons, key=lambda person: person.joints[1, 0])
    assert len(found) == 2
    for person, x in zip(found, (0.0, 5.0), strict=True):
        place = Matrix.Translation((x, 0.0, 0.0)) @ Matrix.Rotation(x, 4, "Z") @ Matrix.Translation((0.3, 0.0, 0.0))
        check_joints(joints(person), place)
