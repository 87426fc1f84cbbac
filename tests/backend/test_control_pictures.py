"""Maps -> what the ControlNets see: small maps whose pictures were worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from backend.flux.control_pictures import PAINTERS, RECIPES, control_picture
from backend.wire import CONTROL_KINDS, ControlMaps, FailureError, FailureKind
from backend.wire.maps import MAPS_OF

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


def drawn(kind: str, recipe: str | dict[str, object] = "", **maps: np.ndarray) -> np.ndarray:
    """The first channel of a grey picture."""
    picture = control_picture(ControlMaps(**maps), kind, recipe or NAMED[kind])
    assert picture.dtype == np.uint8 and picture.shape == (*next(iter(maps.values())).shape[:2], 3)
    assert (picture == picture[..., :1]).all()
    return picture[..., 0]


NAMED = {"canny": "canny_white_on_black", "soft_edge": "soft_edge_white_on_black", "grey": "grey_luma"}


def grey_colours(values: list[list[int]] | np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(values, np.uint8)[..., None], 3, axis=2)


def square(low: int, high: int) -> np.ndarray:
    """A square of 8 x 8 pixels, 4 from the top and 4 from the left of 16 x 16."""
    values = np.full((16, 16), low)
    values[4:12, 4:12] = high
    return grey_colours(values)


def test_golden_canny_of_colours() -> None:
    """One pixel wide around the square, for light on dark as for dark on light, and nothing where it is faint."""
    for low, high in ((20, 200), (200, 20)):
        edges = drawn("canny", colour=square(low, high)) == 255
        assert not edges[:3].any() and not edges[13:].any() and not edges[6:10, 6:10].any()
        # Straight sides: one pixel on the way across each.
        assert (edges[6:10].sum(axis=1) == 2).all() and (edges[:, 6:10].sum(axis=0) == 2).all()
        assert set(np.flatnonzero(edges[8])) <= {3, 4, 11, 12}
    assert not drawn("canny", colour=square(100, 106)).any()
    assert not drawn("canny", colour=grey_colours(np.full((16, 16), 255))).any(), "no edge along the border"


def test_canny_follows_a_strong_edge_into_its_weak_part() -> None:
    """An edge that fades from 200 to 12: 18 is the weakest step that is followed, 44 the weakest that begins one."""
    values = np.zeros((60, 40), np.uint8)
    values[:, 20:] = np.linspace(200, 0, 60)[:, None]
    followed = (drawn("canny", colour=grey_colours(values)) > 0).any(axis=1)
    begun = (drawn("canny", {"smooth": 1.0, "low": 120.0, "high": 120.0}, colour=grey_colours(values)) > 0).any(axis=1)
    assert np.flatnonzero(begun).max() in range(44, 50)
    assert np.flatnonzero(followed).max() in range(52, 57)


def test_golden_canny_of_lines() -> None:
    """A line two pixels wide becomes one, as long as it was; a faint one goes unless it hangs on a clear one."""
    line = np.zeros((12, 20), np.float32)
    line[4:6, 2:18] = 1.0
    line[4:6, 10:18] = 0.3
    line[9, 2:18] = 0.4
    edges = drawn("canny", line=line) == 255
    assert (edges[:, 4:16].sum(axis=0) == 1).all() and edges[4:6, 4:16].any() and not edges[8:].any()


def test_thinning_keeps_what_hangs_together() -> None:
    y, x = np.mgrid[0:64, 0:64]
    ring = np.abs(np.hypot(y - 31.5, x - 31.5) - 20.0) < 2.5
    edges = drawn("canny", line=ring.astype(np.float32)) == 255
    assert (edges & ~ring).sum() == 0 and edges.sum() < 0.4 * ring.sum()
    assert not reaches_the_middle(edges), "the ring is closed"
    edges[np.flatnonzero(edges[:, 31])[0], 31] = False
    assert reaches_the_middle(edges), "and one pixel wide"


def reaches_the_middle(edges: np.ndarray) -> bool:
    """Whether one who steps along rows and columns comes from the corner to the middle between the edges."""
    reached = np.zeros_like(edges)
    reached[0, 0] = True
    for _ in range(4 * edges.shape[0]):
        wide = np.pad(reached, 1)
        reached = (wide[1:-1, 1:-1] | wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]) & ~edges
    return bool(reached[31, 31])


def test_golden_soft_edges_of_lines() -> None:
    """A line one pixel wide, core 1 pixel: exp(-d^2 / 2) at d = 0, 1, 2; beyond, the halo of 0.35 exp(-d^2 / 18)."""
    line = np.zeros((500, 40), np.float32)
    line[:, 20] = 1.0
    row = drawn("soft_edge", line=line)[250].astype(int)
    wanted = [255, 155, 71, 54]
    np.testing.assert_allclose([row[20 + d] for d in range(4)], wanted, atol=2)
    np.testing.assert_array_equal(row[15:20], row[25:20:-1])


def test_golden_soft_edges_of_colours() -> None:
    """A step of a quarter of the range is a full edge, one of an eighth half of one, whatever the size."""
    for height in (500, 1000):
        for step, wanted in ((64, 255), (32, 128)):
            values = np.zeros((height, 60), np.uint8)
            values[:, 30:] = step
            row = drawn("soft_edge", colour=grey_colours(values))[height // 2].astype(int)
            assert abs(row[29:31].max() - wanted * 0.88) < wanted * 0.1
            np.testing.assert_array_equal(row[:30], row[:29:-1])


def test_golden_grey() -> None:
    """0.299 R + 0.587 G + 0.114 B: 76, 150, 29, and 255 for white."""
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [10, 20, 30]]], np.uint8)
    np.testing.assert_array_equal(drawn("grey", colour=colours), [[76, 150, 29, 255, 18]])


def test_golden_tile() -> None:
    """Means of 2 x 2 pixels, 10 and 50, and the way between their middles: 10, 20, 40, 50."""
    colours = np.zeros((2, 4, 3), np.uint8)
    colours[:, :2, 0], colours[:, 2:, 0] = [[0, 20], [20, 0]], 50
    picture = control_picture(ControlMaps(colour=colours), "tile", {"shrink": 2})
    np.testing.assert_array_equal(picture[..., 0], [[10, 20, 40, 50]] * 2)
    assert not picture[..., 1:].any()


@pytest.mark.parametrize(("recipe", "shrink"), [("tile_eighth", 8), ("tile_quarter", 4)])
def test_golden_tile_recipes(recipe: str, shrink: int) -> None:
    """Stripes as wide as a pixel of the small picture come through; what is finer becomes its mean."""
    fine = np.indices((32, 32)).sum(axis=0) % 2 * 200
    assert (control_picture(ControlMaps(colour=grey_colours(fine)), "tile", recipe) == 100).all()
    coarse = np.arange(32) // shrink % 2 * 200 * np.ones((32, 1))
    picture = control_picture(ControlMaps(colour=grey_colours(coarse)), "tile", recipe)
    assert picture[0, 0, 0] == 0 and picture.max() > 180
    odd = np.full((13, 21, 3), 77, np.uint8)
    assert (control_picture(ControlMaps(colour=odd), "tile", recipe) == 77).all(), "any size"


def test_golden_blur() -> None:
    """A step, blurred by 2 pixels: the normal distribution's 0.5 +- erf at half and one and a half pixels."""
    values = np.zeros((200, 40))
    values[:, 20:] = 255
    row = control_picture(ControlMaps(colour=grey_colours(values)), "blur", "blur_hundredth")[100, :, 0].astype(int)
    np.testing.assert_allclose([row[19], row[20], row[18], row[21]], [102, 153, 58, 197], atol=2)
    assert row[0] == 0 and row[-1] == 255


def test_every_recipe_has_a_golden_test() -> None:
    assert set(RECIPES) == {
        "depth_near_white", "normal_y_up", "normal_y_down", "line_white_on_black", "line_black_on_white",
        "pose_openpose",
        "canny_white_on_black", "soft_edge_white_on_black", "grey_luma", "tile_eighth", "tile_quarter",
        "blur_hundredth",
    }  # fmt: skip


def test_every_kind_has_a_painter_and_maps() -> None:
    assert {*PAINTERS, "pose"} == set(MAPS_OF) == set(CONTROL_KINDS)


def test_edges_are_those_of_the_geometry_where_it_is_known() -> None:
    """Shadows and reflections are edges of the colours only."""
    line = np.zeros((16, 16), np.float32)
    line[:, 8] = 1.0
    for kind in ("canny", "soft_edge"):
        both = drawn(kind, line=line, colour=square(20, 200))
        np.testing.assert_array_equal(both, drawn(kind, line=line))


def test_a_missing_map_is_a_sentence() -> None:
    with pytest.raises(FailureError, match="no depth map") as caught:
        control_picture(ControlMaps(), "depth", "depth_near_white")
    assert caught.value.failure.kind == FailureKind.BAD_REQUEST


def test_a_missing_map_is_named_with_what_may_stand_for_it() -> None:
    with pytest.raises(FailureError, match="soft edge control has no line or colour map"):
        control_picture(ControlMaps(), "soft_edge", "soft_edge_white_on_black")


@pytest.mark.parametrize(
    ("colour", "said"),
    [
        (np.zeros((8, 16, 3), np.float32), r"colour map is float32 \(8, 16, 3\) where uint8 \(8, 16, 3\)"),
        (np.zeros((8, 16), np.uint8), r"colour map is uint8 \(8, 16\) where uint8 \(8, 16, 3\)"),
    ],
)
def test_a_colour_map_that_is_none_is_a_sentence(colour: np.ndarray, said: str) -> None:
    with pytest.raises(FailureError, match=said):
        ControlMaps(colour=colour).check(16, 8)


@pytest.mark.parametrize("kind", ["canny", "soft_edge", "grey", "tile", "blur"])
@pytest.mark.parametrize("recipe", [{}, {"shrink": 0}, {"weights": [1]}, {"sigma": "wide"}, {"core": None}])
def test_a_recipe_for_colours_that_is_none_is_a_sentence(kind: str, recipe: dict[str, object]) -> None:
    with pytest.raises(FailureError, match=r"how its (canny|soft edge|grey|tile|blur) control is drawn") as caught:
        control_picture(ControlMaps(colour=square(0, 9)), kind, recipe)
    assert caught.value.failure.kind == FailureKind.MODEL_BROKEN


@pytest.mark.parametrize(
    "recipe", ["unknown", {}, {"channels": ["+w"]}, {"channels": ["+x", "x"], "sky": 0}, {"channels": 3, "sky": 0}]
)
def test_a_recipe_that_is_none_is_a_sentence(recipe: object) -> None:
    with pytest.raises(FailureError) as caught:
        control_picture(ControlMaps(normal=NORMALS), "normal", recipe)  # type: ignore[arg-type]
    assert caught.value.failure.kind == FailureKind.MODEL_BROKEN
