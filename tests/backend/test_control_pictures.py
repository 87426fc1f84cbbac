"""Maps -> what the ControlNets see: small maps whose pictures were worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from backend.flux.control_pictures import RECIPES, control_picture
from backend.wire import ControlMaps, FailureError, FailureKind

INF = np.inf


def depth(values: list[list[float]], **recipe: object) -> np.ndarray:
    table = {"percentiles": [0.0, 100.0], "far": 0.2, **recipe}
    picture = control_picture(ControlMaps(depth=np.array(values, np.float32)), "depth", table)
    assert picture.dtype == np.uint8 and picture.shape == (*np.shape(values), 3)
    assert (picture == picture[..., :1]).all(), "depth is grey"
    return picture[..., 0]


def test_golden_depth() -> None:
    """1/d is 1, 1/2, 1/4, 1/8: 1/8 black, 1 white, and (1/2 - 1/8) / (7/8) = 3/7, (1/4 - 1/8) / (7/8) = 1/7."""
    np.testing.assert_array_equal(depth([[1, 2], [4, 8]]), [[255, 109], [36, 0]])


def test_golden_depth_with_sky() -> None:
    """Sky is 0, the farthest geometry 0.2 (51), and 0.2 + 0.8 * 3/7 = 0.543 (138)."""
    np.testing.assert_array_equal(depth([[1, 2], [INF, 8]]), [[255, 138], [0, 51]])


def test_depth_does_not_depend_on_the_scene_s_unit() -> None:
    values = np.random.default_rng(0).uniform(2, 50, (16, 16))
    pictures = [depth((values * unit).tolist()) for unit in (1e-4, 1.0, 1e5)]
    for picture in pictures[1:]:
        assert np.abs(picture.astype(int) - pictures[0]).max() <= 1


@pytest.mark.parametrize(("value", "wanted"), [(INF, 0), (3.0, 255), (1e-20, 255), (1e30, 255)])
def test_depth_of_one_value(value: float, wanted: int) -> None:
    """All sky is black; a wall right across the view is as near as anything there is."""
    assert (depth([[value] * 4] * 4) == wanted).all()


def test_a_wall_against_the_sky() -> None:
    np.testing.assert_array_equal(depth([[5, INF], [5, 5]]), [[255, 0], [255, 255]])


def test_outliers_do_not_eat_the_contrast() -> None:
    values = np.random.default_rng(0).uniform(2, 10, (40, 40))
    values[0, 0], values[0, 1] = 1e-6, 1e9
    picture = depth(values.tolist(), percentiles=[1.0, 99.0])
    assert picture[0, 0] == 255 and picture[0, 1] == 0
    assert picture[1:].std() > 50


def test_orthographic_depth_behind_the_plane() -> None:
    """-1 .. 3 by plain distance: no inverse of zero."""
    np.testing.assert_array_equal(depth([[-1, 0], [1, 3]]), [[255, 191], [128, 0]])


def test_near_is_never_darker() -> None:
    values = np.sort(np.random.default_rng(1).uniform(0.1, 100, 64)).reshape(1, 64)
    assert (np.diff(depth(values.tolist())[0].astype(int)) <= 0).all()


NORMALS = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[-1, 0, 0], [0.6, 0, 0.8], [0, 0, 0]]], np.float32)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("normal_y_up", [[(255, 128, 128), (128, 255, 128), (128, 128, 255)],
                         [(0, 128, 128), (204, 128, 230), (0, 0, 0)]]),
        ("normal_y_down", [[(255, 128, 128), (128, 0, 128), (128, 128, 255)],
                           [(0, 128, 128), (204, 128, 230), (0, 0, 0)]]),
    ],
)  # fmt: skip
def test_golden_normals(name: str, wanted: list[list[tuple[int, int, int]]]) -> None:
    np.testing.assert_array_equal(control_picture(ControlMaps(normal=NORMALS), "normal", name), wanted)


def test_normals_of_any_length_are_directions() -> None:
    once = control_picture(ControlMaps(normal=NORMALS), "normal", "normal_y_up")
    np.testing.assert_array_equal(control_picture(ControlMaps(normal=NORMALS * 3), "normal", "normal_y_up"), once)


def test_golden_normals_in_any_order_and_sky() -> None:
    recipe = {"channels": ["-z", "+x", "+y"], "sky": [128, 128, 255]}
    picture = control_picture(ControlMaps(normal=NORMALS), "normal", recipe)
    assert tuple(picture[0, 0]) == (128, 255, 128)
    assert tuple(picture[0, 2]) == (0, 128, 128)
    assert tuple(picture[1, 2]) == (128, 128, 255)


@pytest.mark.parametrize(
    ("name", "wanted"), [("line_white_on_black", [[0, 51, 255]]), ("line_black_on_white", [[255, 204, 0]])]
)
def test_golden_lines(name: str, wanted: list[list[int]]) -> None:
    picture = control_picture(ControlMaps(line=np.array([[0.0, 0.2, 1.5]], np.float32)), "line", name)
    np.testing.assert_array_equal(picture[..., 1], wanted)
    assert (picture == picture[..., :1]).all()


def test_golden_depth_recipe_of_the_estimators() -> None:
    """ "depth_near_white": percentiles 1 and 99, far geometry 0.08 against the sky."""
    values = np.full((10, 10), INF, np.float32)
    values[5:] = np.repeat([[1.0, 2.0, 4.0, 8.0, 8.0]], 10, axis=0).T
    picture = control_picture(ControlMaps(depth=values), "depth", "depth_near_white")[:, 0, 0]
    np.testing.assert_array_equal(picture, [0, 0, 0, 0, 0, 255, 121, 54, 20, 20])


def test_every_recipe_has_a_golden_test() -> None:
    assert set(RECIPES) == {
        "depth_near_white", "normal_y_up", "normal_y_down", "line_white_on_black", "line_black_on_white",
        "pose_openpose",
    }  # fmt: skip


def test_a_missing_map_is_a_sentence() -> None:
    with pytest.raises(FailureError, match="no depth map") as caught:
        control_picture(ControlMaps(), "depth", "depth_near_white")
    assert caught.value.failure.kind == FailureKind.BAD_REQUEST


@pytest.mark.parametrize(
    "recipe", ["unknown", {}, {"channels": ["+w"]}, {"channels": ["+x", "x"], "sky": 0}, {"channels": 3, "sky": 0}]
)
def test_a_recipe_that_is_none_is_a_sentence(recipe: object) -> None:
    with pytest.raises(FailureError) as caught:
        control_picture(ControlMaps(normal=NORMALS), "normal", recipe)  # type: ignore[arg-type]
    assert caught.value.failure.kind == FailureKind.MODEL_BROKEN
