"""Pose maps of whole captures: what is seen and what is hidden, left and right, and the scene as it was."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Matrix, Vector

from tests.addon import looking, rigs, scenes
from tests.addon.scene_digest import differences, session_digest
from tests.addon.test_pose import refused

SIZE = (128, 128)
FRONT, BACK, LEFT_SIDE = (0.0, -5.0, 1.0), (0.0, 5.0, 1.0), (5.0, 0.0, 1.0)
BODY = [
    f"{side}_{name}" for side in ("left", "right") for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
]
FACE = ["nose", "left_eye", "right_eye", "left_ear", "right_ear"]


def look(place: tuple[float, float, float] = FRONT, kinds: tuple[str, ...] = ("pose",)) -> Any:
    """The capture through a new camera at `place`, which looks at the middle of a person."""
    scenes.camera(place, (0.0, 0.0, 0.95))
    return looking.module("addon.capture").capture_camera(bpy.context, *SIZE, kinds)


def seen(pose: np.ndarray, person: int = 0) -> dict[str, tuple[float, float]]:
    """The places of the joints that are visible."""
    names = looking.module("backend.wire.joints").JOINTS
    return {
        name: (float(x), float(y)) for name, (x, y, visible) in zip(names, pose[person], strict=True) if visible == 1.0
    }


@pytest.mark.parametrize("with_body", [True, False])
def test_from_the_front_everything_is_seen(with_body: bool, grisaille: ModuleType) -> None:
    scenes.empty()
    item = rigs.person()
    if with_body:
        rigs.give_body(item)
    capture = look()
    assert set(capture.maps.arrays()) == {"pose"} and capture.note is None
    found = seen(capture.maps.pose)
    assert set(found) == {"neck", *BODY, *FACE}
    for name in ("wrist", "hip", "eye", "ear"):
        assert found[f"right_{name}"][0] < 0.5 < found[f"left_{name}"][0], "their right is on the picture's left"
    assert found["nose"][1] < found["neck"][1] < found["left_hip"][1] < found["left_ankle"][1]


@pytest.mark.parametrize("with_body", [True, False])
def test_from_behind_the_face_is_hidden_and_left_is_left(with_body: bool, grisaille: ModuleType) -> None:
    scenes.empty()
    item = rigs.person()
    if with_body:
        rigs.give_body(item)
    found = seen(look(BACK).maps.pose)
    assert set(found) == {"neck", *BODY, "left_ear", "right_ear"}
    for name in ("wrist", "hip", "ear"):
        assert found[f"left_{name}"][0] < 0.5 < found[f"right_{name}"][0]


@pytest.mark.parametrize("with_body", [True, False])
def test_in_profile_one_eye_and_one_ear_are_seen(with_body: bool, grisaille: ModuleType) -> None:
    scenes.empty()
    item = rigs.person()
    if with_body:
        rigs.give_body(item)
    found = seen(look((5.0, 0.0, 1.7)).maps.pose)
    assert {"nose", "left_eye", "left_ear"} == set(found) & set(FACE)


def test_a_body_hides_its_own_far_side(grisaille: ModuleType) -> None:
    """From the left the right limbs lie behind the body; the left arm points at the camera and hides only them."""
    scenes.empty()
    rigs.give_body(rigs.person())
    found = seen(look((5.0, 0.0, 1.45)).maps.pose)
    assert {"neck", "right_hip", *(name for name in BODY if name.startswith("left"))} <= set(found)
    assert not {"right_elbow", "right_wrist", "right_knee", "right_ankle"} & set(found)


@pytest.mark.parametrize("kind", ["PERSP", "ORTHO"])
def test_a_wall_hides_what_is_behind_it(kind: str, grisaille: ModuleType) -> None:
    scenes.empty()
    rigs.give_body(rigs.person())
    wall = scenes.add("cube", location=(0.0, -1.0, 0.35))
    wall.scale = (2.0, 0.05, 0.35)
    scenes.camera(FRONT, (0.0, 0.0, 0.95))
    bpy.context.scene.camera.data.type, bpy.context.scene.camera.data.ortho_scale = kind, 2.4
    found = seen(looking.module("addon.capture").capture_camera(bpy.context, *SIZE, ("pose", "depth")).maps.pose)
    assert set(found) == {"neck", *BODY, *FACE} - {"left_knee", "right_knee", "left_ankle", "right_ankle"}
    wall.location.y = 1.0
    found = seen(looking.module("addon.capture").capture_camera(bpy.context, *SIZE, ("pose",)).maps.pose)
    assert "left_knee" in found, "it stands behind now"


def test_the_nearest_person_comes_last(grisaille: ModuleType) -> None:
    scenes.empty()
    for name, y in (("A", 0.0), ("B", -1.0), ("C", 2.0)):
        rigs.person(name=name).location = (y / 2.0, y, 0.0)
    pose = look().maps.pose
    heights = [seen(pose, person)["left_ankle"][1] - seen(pose, person)["neck"][1] for person in range(3)]
    assert heights == sorted(heights)


def test_nobody_in_the_picture_is_a_sentence(grisaille: ModuleType) -> None:
    scenes.empty()
    item = rigs.person(name="Ada")
    item.location.x = 50.0
    assert "Nobody is to be seen in this picture: Ada" in refused(look)
    item.location = (0.0, -10.0, 0.0)
    assert "Ada" in refused(look), "they stand behind the camera"


def test_a_person_cut_by_the_frame_keeps_the_joints_outside(grisaille: ModuleType) -> None:
    scenes.empty()
    rigs.person()
    scenes.camera((0.0, -1.2, 1.6), (0.0, 0.0, 1.6))
    found = seen(looking.module("addon.capture").capture_camera(bpy.context, *SIZE, ("pose",)).maps.pose)
    assert found["left_ankle"][1] > 1.0 and 0.0 < found["nose"][1] < 1.0


def test_what_was_left_out_is_noted(grisaille: ModuleType) -> None:
    scenes.empty()
    rigs.person()
    rigs.quadruped("Horse").location.y = 3.0
    capture = look()
    assert len(capture.maps.pose) == 1 and "Horse" in capture.note.message


def test_both_truths_agree(grisaille: ModuleType) -> None:
    looking.need_gpu()
    scenes.empty()
    rigs.give_body(rigs.person())
    rendered = look((3.0, -4.0, 1.5)).maps.pose
    space, region = looking.view_3d()
    space.region_3d.view_perspective = "CAMERA"
    drawn = looking.module("addon.capture").capture_viewport(bpy.context, space, region, *SIZE, ("pose",)).maps.pose
    np.testing.assert_allclose(drawn, rendered, atol=1e-5)


@pytest.mark.parametrize("mode", ["OBJECT", "POSE", "EDIT"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_setting_is_as_it_was(mode: str, grisaille: ModuleType) -> None:
    scenes.empty()
    # Blender 4.5 settles the sockets of a material that nothing uses at its first render.
    bpy.data.orphans_purge(do_recursive=True)
    item = rigs.person()
    rigs.give_body(item)
    item.pose.bones["forearm.L"].rotation_quaternion = (0.9, 0.4, 0.0, 0.0)
    item.keyframe_insert("location", frame=1)
    item.location.x = 0.2
    scenes.camera(FRONT, (0.0, 0.0, 0.95))
    bpy.context.view_layer.objects.active = item
    bpy.ops.object.mode_set(mode=mode)
    pose_before = [tuple(map(tuple, bone.matrix_basis)) for bone in item.pose.bones]
    before = session_digest()
    assert looking.module("addon.capture").capture_camera(bpy.context, *SIZE, ("pose",)).maps.pose.any()
    assert differences(before, session_digest()) == []
    assert [tuple(map(tuple, bone.matrix_basis)) for bone in item.pose.bones] == pose_before


@pytest.fixture(scope="module")
def rigify(grisaille: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .blend with rigs that Blender's own Rigify made."""
    path = tmp_path_factory.mktemp("rigify") / "rigs.blend"
    script = Path(__file__).with_name("write_rigify_rigs.py")
    done = subprocess.run([sys.executable, script, path], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0 and path.exists(), done.stderr
    return path


def appended(path: Path, name: str) -> Any:
    """An object of the file, alone in the scene but for those that are there."""
    with bpy.data.libraries.load(str(path)) as (_, wanted):
        wanted.objects = [name]
    item = wanted.objects[0]
    bpy.context.scene.collection.objects.link(item)
    bpy.context.view_layer.objects.active = item
    return item


@pytest.mark.filterwarnings("ignore")
def test_rigifys_metarig_and_the_rig_it_makes(rigify: Path) -> None:
    """Both give the same joints; the rig has seven hundred bones, with controls far from the body."""
    from tests.addon.test_pose import find, joints

    scenes.empty()
    metarig = appended(rigify, "human")
    first = joints(find().persons[0])
    bones = metarig.data.bones
    for name, bone in (("left_shoulder", "upper_arm.L"), ("right_knee", "shin.R"), ("left_wrist", "hand.L")):
        np.testing.assert_allclose(first[name], bones[bone].head_local, atol=1e-5)
    for name, bone in (("left_eye", "eye.L"), ("left_ear", "ear.L"), ("nose", "nose")):
        assert np.linalg.norm(first[name] - np.array(bones[bone].head_local)) < 0.05, name
    bpy.data.objects.remove(metarig)
    rig = appended(rigify, "generated")
    (made,) = find().persons
    np.testing.assert_allclose(made.joints, np.array(list(first.values())), atol=1e-4)
    rig.pose.bones["upper_arm_fk.L"].matrix_basis = Matrix.Rotation(math.radians(60), 4, "X")
    for control in ("upper_arm_parent.L", "upper_arm_parent.R"):
        rig.pose.bones[control]["IK_FK"] = 1.0
    rig.update_tag()
    moved = joints(find().persons[0])
    assert np.linalg.norm(moved["left_wrist"] - first["left_wrist"]) > 0.2
    np.testing.assert_allclose(moved["left_knee"], first["left_knee"], atol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("animal", ["basic_quadruped", "cat", "horse", "wolf", "bird", "shark"])
def test_rigifys_animals_are_no_people(animal: str, rigify: Path) -> None:
    from tests.addon.test_pose import find

    scenes.empty()
    assert appended(rigify, animal).name in refused(find)


@pytest.mark.filterwarnings("ignore")
def test_the_metarig_is_known_by_its_shape_alone(rigify: Path) -> None:
    from tests.addon.test_pose import find, joints

    scenes.empty()
    item = appended(rigify, "human")
    named = joints(find().persons[0])
    for index, bone in enumerate(item.data.bones):
        bone.name = f"b{index}"
    found = joints(find().persons[0])
    for name in BODY:
        np.testing.assert_allclose(found[name], named[name], atol=1e-5, err_msg=name)
    for name in FACE:
        assert (Vector(found[name]) - Vector(named[name])).length < 0.04, name
