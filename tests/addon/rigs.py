"""Armatures for the tests: one person under many naming schemes, and bodies for them."""

from __future__ import annotations

from typing import Any

import bpy
from mathutils import Matrix, Vector

PERSON = {
    "hips": ("", (0.0, 0.0, 1.0), (0.0, 0.0, 1.15)),
    "spine": ("hips", (0.0, 0.0, 1.15), (0.0, 0.0, 1.3)),
    "chest": ("spine", (0.0, 0.0, 1.3), (0.0, 0.0, 1.52)),
    "neck": ("chest", (0.0, 0.0, 1.52), (0.0, 0.0, 1.62)),
    "head": ("neck", (0.0, 0.0, 1.62), (0.0, 0.0, 1.82)),
    "collar.L": ("chest", (0.02, 0.0, 1.48), (0.18, 0.0, 1.48)),
    "upper_arm.L": ("collar.L", (0.18, 0.0, 1.48), (0.45, 0.02, 1.44)),
    "forearm.L": ("upper_arm.L", (0.45, 0.02, 1.44), (0.7, 0.0, 1.4)),
    "hand.L": ("forearm.L", (0.7, 0.0, 1.4), (0.8, 0.0, 1.38)),
    "thigh.L": ("hips", (0.1, 0.0, 1.0), (0.1, -0.02, 0.55)),
    "shin.L": ("thigh.L", (0.1, -0.02, 0.55), (0.1, 0.02, 0.1)),
    "foot.L": ("shin.L", (0.1, 0.02, 0.1), (0.1, -0.15, 0.03)),
}
"""Bones by name: parent, head and tail. It looks along -y, and its left is +x; the right side is mirrored."""
JOINTS_AT = {
    "left_shoulder": (0.18, 0.0, 1.48),
    "left_elbow": (0.45, 0.02, 1.44),
    "left_wrist": (0.7, 0.0, 1.4),
    "left_hip": (0.1, 0.0, 1.0),
    "left_knee": (0.1, -0.02, 0.55),
    "left_ankle": (0.1, 0.02, 0.1),
    "right_shoulder": (-0.18, 0.0, 1.48),
    "right_wrist": (-0.7, 0.0, 1.4),
    "right_ankle": (-0.1, 0.02, 0.1),
    "neck": (0.0, 0.0, 1.48),
}
ORDER = list(PERSON)
SCHEMES = {
    "rigify": "spine spine.001 spine.002 spine.004 spine.006 shoulder.L upper_arm.L forearm.L hand.L thigh.L shin.L "
    "foot.L",
    "mixamo": "Hips Spine Spine1 Neck Head LeftShoulder LeftArm LeftForeArm LeftHand LeftUpLeg LeftLeg LeftFoot",
    "unreal": "pelvis spine_01 spine_02 neck_01 head clavicle_l upperarm_l lowerarm_l hand_l thigh_l calf_l foot_l",
    "unity": "Hips Spine Chest Neck Head LeftShoulder LeftUpperArm LeftLowerArm LeftHand LeftUpperLeg "
    "LeftLowerLeg LeftFoot",
    "plain": "Hips Spine Chest Neck Head Left_shoulder Left_arm Left_elbow Left_wrist Left_leg Left_knee Left_ankle",
    "vrm": "J_Bip_C_Hips J_Bip_C_Spine J_Bip_C_Chest J_Bip_C_Neck J_Bip_C_Head J_Bip_L_Shoulder J_Bip_L_UpperArm "
    "J_Bip_L_LowerArm J_Bip_L_Hand J_Bip_L_UpperLeg J_Bip_L_LowerLeg J_Bip_L_Foot",
    "daz": "hip abdomen chest neck head lCollar lShldrBend lForearmBend lHand lThighBend lShin lFoot",
    "mmd": "センター 上半身 上半身2 首 頭 左肩 左腕 左ひじ 左手首 左足 左ひざ 左足首",
}
"""The names of PERSON's bones, in its order."""


def named(scheme: str) -> dict[str, str]:
    """PERSON's names under a scheme: of SCHEMES, "mixamorig", "DEF", or "nonsense"."""
    if scheme == "nonsense":
        return {name: f"Bone.{index:03d}" for index, name in enumerate(_both_sides())}
    words = SCHEMES[{"mixamorig": "mixamo", "DEF": "rigify"}.get(scheme, scheme)].split()
    prefix = {"mixamorig": "mixamorig:", "DEF": "DEF-"}.get(scheme, "")
    given = {name: prefix + word for name, word in zip(ORDER, words, strict=True)}
    return {**given, **{_mirrored(name): _mirrored(word) for name, word in given.items() if name.endswith(".L")}}


def _mirrored(name: str) -> str:
    for left, right in ((".L", ".R"), ("Left", "Right"), ("_L_", "_R_"), ("_l", "_r"), ("左", "右")):
        if left in name:
            return name.replace(left, right)
    return "r" + name.removeprefix("l")


def _both_sides() -> dict[str, tuple[str, Any, Any]]:
    found: dict[str, tuple[str, Any, Any]] = {}
    for name, (parent, head, tail) in PERSON.items():
        found[name] = (parent, head, tail)
        if name.endswith(".L"):
            flipped = [(-place[0], *place[1:]) for place in (head, tail)]
            found[_mirrored(name)] = (_mirrored(parent) if parent.endswith(".L") else parent, *flipped)
    return found


def person(scheme: str = "rigify", name: str = "Person", turned: Matrix | None = None) -> Any:
    """Adds PERSON as an armature. turned: what its rest pose is turned by, in the armature's space."""
    names = named(scheme)
    bones = {names[bone]: (names.get(parent, ""), head, tail) for bone, (parent, head, tail) in _both_sides().items()}
    return armature(name, bones, turned)


def armature(name: str, bones: dict[str, tuple[str, Any, Any]], turned: Matrix | None = None) -> Any:
    """Adds an armature of bones by name: parent, head and tail."""
    turn = turned if turned is not None else Matrix.Identity(4)
    item = bpy.data.objects.new(name, bpy.data.armatures.new(name))
    bpy.context.scene.collection.objects.link(item)
    bpy.context.view_layer.objects.active = item
    bpy.ops.object.mode_set(mode="EDIT")
    for bone, (parent, head, tail) in bones.items():
        made = item.data.edit_bones.new(bone)
        made.head, made.tail = turn @ Vector(head), turn @ Vector(tail)
        made.parent = item.data.edit_bones.get(parent) if parent else None
    bpy.ops.object.mode_set(mode="OBJECT")
    return item


def quadruped(name: str = "Horse") -> Any:
    """Adds an armature of four legs, a level back and a neck, with names that say nothing."""
    bones: dict[str, tuple[str, Any, Any]] = {
        "a": ("", (0.0, 0.8, 1.2), (0.0, 0.0, 1.2)),
        "b": ("a", (0.0, 0.0, 1.2), (0.0, -0.7, 1.2)),
        "c": ("b", (0.0, -0.7, 1.2), (0.0, -1.0, 1.6)),
        "d": ("c", (0.0, -1.0, 1.6), (0.0, -1.4, 1.5)),
    }
    for side in (-1.0, 1.0):
        for parent, y in (("a", 0.8), ("b", -0.7)):
            x, first = 0.2 * side, f"{parent}{side}"
            bones[first] = (parent, (x, y, 1.15), (x, y + 0.05, 0.65))
            bones[first + "x"] = (first, (x, y + 0.05, 0.65), (x, y, 0.15))
            bones[first + "y"] = (first + "x", (x, y, 0.15), (x, y - 0.1, 0.02))
    return armature(name, bones)


def give_body(item: Any, thickness: float = 0.07) -> Any:
    """Adds a body that an armature moves: a stretched ball around each bone, and a head."""
    import bmesh

    mesh, shape = bpy.data.meshes.new("Body"), bmesh.new()
    body = bpy.data.objects.new("Body", mesh)
    layer = shape.verts.layers.deform.verify()
    for index, bone in enumerate(item.data.bones):
        half = bone.length / 2.0
        is_head = bone.head_local.z > 1.6
        width = 0.09 if is_head else thickness
        place = bone.matrix_local @ Matrix.Translation((0.0, half, 0.0))
        size = Matrix.Diagonal((width, half * (1.0 if is_head else 1.3), width, 1.0))
        made = bmesh.ops.create_uvsphere(shape, u_segments=16, v_segments=12, radius=1.0, matrix=place @ size)
        for vertex in made["verts"]:
            vertex[layer][index] = 1.0
        body.vertex_groups.new(name=bone.name)
    shape.to_mesh(mesh)
    shape.free()
    bpy.context.scene.collection.objects.link(body)
    body.parent = item
    body.modifiers.new("Armature", "ARMATURE").object = item
    return body
