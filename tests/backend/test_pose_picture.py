"""A pose map -> the stick figures of OpenPose, pixel by pixel where that can be worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backend.flux.control_pictures import control_picture
from backend.flux.pose_picture import LIMBS, colours
from backend.wire import ControlMaps, FailureError, FailureKind
from backend.wire.joints import JOINTS, PEOPLE_MAX

STANDING = {
    "nose": (0.5, 0.16), "neck": (0.5, 0.26), "right_eye": (0.48, 0.14), "left_eye": (0.52, 0.14),
    "right_ear": (0.45, 0.15), "left_ear": (0.55, 0.15),
    "right_shoulder": (0.4, 0.26), "right_elbow": (0.3, 0.36), "right_wrist": (0.2, 0.46),
    "left_shoulder": (0.6, 0.26), "left_elbow": (0.7, 0.36), "left_wrist": (0.8, 0.46),
    "right_hip": (0.43, 0.54), "right_knee": (0.42, 0.72), "right_ankle": (0.41, 0.9),
    "left_hip": (0.57, 0.54), "left_knee": (0.58, 0.72), "left_ankle": (0.59, 0.9),
}  # fmt: skip
"""Seen from the front: the person's right is on the picture's left."""


def pose(**places: tuple[float, float]) -> np.ndarray:
    """One person with these joints visible and the others hidden."""
    found = np.zeros((1, len(JOINTS), 3), np.float32)
    for name, place in places.items():
        found[0, JOINTS.index(name)] = (*place, 1.0)
    return found


def drawn(array: np.ndarray, width: int = 512, height: int = 512) -> np.ndarray:
    picture = control_picture(ControlMaps(pose=array), "pose", "pose_openpose", (width, height))
    assert picture.dtype == np.uint8 and picture.shape == (height, width, 3)
    return picture


def at(picture: np.ndarray, x: float, y: float) -> tuple[int, ...]:
    height, width = picture.shape[:2]
    return tuple(int(value) for value in picture[int(y * height), int(x * width)])


def test_the_colours_are_openposes() -> None:
    assert colours().tolist() == [
        [255, 0, 0], [255, 85, 0], [255, 170, 0], [255, 255, 0], [170, 255, 0], [85, 255, 0], [0, 255, 0],
        [0, 255, 85], [0, 255, 170], [0, 255, 255], [0, 170, 255], [0, 85, 255], [0, 0, 255], [85, 0, 255],
        [170, 0, 255], [255, 0, 255], [255, 0, 170], [255, 0, 85],
    ]  # fmt: skip


def test_golden_joint() -> None:
    """A disc of 4 of 512 pixels: of 8 x 8 pixels those whose centre is nearer than 4 to its middle."""
    picture = drawn(pose(nose=(256 / 512, 128 / 512)))
    wanted = ["..XXXX..", ".XXXXXX.", *["XXXXXXXX"] * 4, ".XXXXXX.", "..XXXX.."]
    block = picture[124:132, 252:260]
    assert ["".join("X" if pixel.any() else "." for pixel in row) for row in block] == wanted
    assert set(map(tuple, block[block.any(axis=2)].tolist())) == {(255, 0, 0)}
    assert np.count_nonzero(picture.any(axis=2)) == 52


def test_golden_limb() -> None:
    """From (100, 100) to (200, 100), 4 thick each way: an ellipse, three fifths as light, its ends under the joints."""
    picture = drawn(pose(right_elbow=(100 / 512, 100 / 512), right_wrist=(200 / 512, 100 / 512)))
    assert at(picture, 150 / 512, 100 / 512) == (153, 153, 0), "the limb between them has the fourth colour"
    assert at(picture, 100 / 512, 100 / 512) == (255, 255, 0) and at(picture, 200 / 512, 100 / 512) == (170, 255, 0)
    column = picture[:, 150].any(axis=1)
    assert np.flatnonzero(column).tolist() == list(range(96, 104))
    assert np.flatnonzero(picture[:, 110].any(axis=1)).tolist() == list(range(98, 102)), "4 * 0.6 at four fifths"


def test_golden_person() -> None:
    picture = drawn(pose(**STANDING))
    for number, name in enumerate(JOINTS):
        assert at(picture, *STANDING[name]) == tuple(colours()[number].tolist()), name
    for number, ends in enumerate(LIMBS):
        middle = np.mean([STANDING[name] for name in ends], axis=0)
        assert at(picture, *middle) == tuple((colours()[number] * 0.6).astype(int).tolist()), ends
    assert at(picture, 0.05, 0.05) == (0, 0, 0)


def test_left_and_right_have_colours_of_their_own() -> None:
    right = drawn(pose(right_shoulder=(0.5, 0.5)))
    left = drawn(pose(left_shoulder=(0.5, 0.5)))
    assert at(right, 0.5, 0.5) == (255, 170, 0) and at(left, 0.5, 0.5) == (85, 255, 0)


@pytest.mark.parametrize(("width", "height"), [(1024, 1024), (1024, 1536), (2048, 1024)])
def test_it_is_drawn_larger_with_the_shorter_side(width: int, height: int) -> None:
    picture = drawn(pose(nose=(0.5, 0.5)), width, height)
    assert np.count_nonzero(picture[height // 2].any(axis=1)) == 16


@pytest.mark.parametrize("place", [(0.5, 0.5), (0.507, 0.5), (0.507, 0.507)])
def test_a_joint_is_there_in_the_smallest_picture(place: tuple[float, float]) -> None:
    assert drawn(pose(nose=place), 64, 64).any()


def test_a_limb_needs_both_its_ends() -> None:
    places = {**STANDING}
    del places["right_elbow"]
    picture = drawn(pose(**places))
    assert at(picture, 0.35, 0.31) == (0, 0, 0) and at(picture, 0.25, 0.41) == (0, 0, 0)
    assert at(picture, *STANDING["right_wrist"]) == (170, 255, 0)


def test_a_limb_that_leaves_the_picture_is_cut_at_its_edge() -> None:
    picture = drawn(pose(neck=(0.5, 0.9), right_hip=(0.5, 1.5)))
    assert at(picture, 0.5, 0.998) == (0, 153, 0)
    for far in (1e9, -1e9, 3e38):
        assert not drawn(pose(nose=(far, far))).any()


def test_the_last_person_lies_on_top() -> None:
    both = np.concatenate([pose(nose=(0.5, 0.5)), pose(neck=(0.5, 0.5))])
    assert at(drawn(both), 0.5, 0.5) == (255, 85, 0)
    assert at(drawn(both[::-1]), 0.5, 0.5) == (255, 0, 0)


@pytest.mark.parametrize("recipe", ["unknown", {}, {"radius": 0.01}, {"radius": "thick", "limb_light": 1}])
def test_a_recipe_that_is_none_is_a_sentence(recipe: Any) -> None:
    with pytest.raises(FailureError) as caught:
        control_picture(ControlMaps(pose=pose(nose=(0.5, 0.5))), "pose", recipe, (64, 64))
    assert caught.value.failure.kind == FailureKind.MODEL_BROKEN


GOOD = pose(**STANDING)
THIRD = GOOD.copy()
THIRD[0, 0, 2] = 0.5
NOT_FINITE = GOOD.copy()
NOT_FINITE[0, 3, 1] = np.inf


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (GOOD[0], "(18, 3)"),
        (GOOD[:, :17], "(1, 17, 3)"),
        (GOOD.astype(np.float64), "float64"),
        (GOOD[:0], "0 people"),
        (np.repeat(GOOD, PEOPLE_MAX + 1, axis=0), "65 people"),
        (NOT_FINITE, "not numbers"),
        (THIRD, "neither visible (1) nor hidden (0)"),
    ],
)
def test_a_pose_map_that_is_none_is_a_sentence(array: np.ndarray, said: str) -> None:
    ControlMaps(pose=GOOD).check(64, 128)
    with pytest.raises(FailureError) as caught:
        ControlMaps(pose=array).check(64, 128)
    failure = caught.value.failure
    assert failure.kind == FailureKind.BAD_REQUEST and said in failure.message and failure.hint.endswith(".")
