"""Which net is asked for which control, and what stands in where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.flux.control_pictures import RECIPES, control_picture
from backend.models import ControlKind, ControlNetEntry, ModelFolder, choose_nets, find_model
from backend.models.control_choice import PICTURES, STAND_INS, model_kinds
from backend.models.settings import CONTROLNETS
from backend.production import Production
from backend.wire import CONTROL_KINDS, Control, FailureError, FailureKind, GenerationRequest
from backend.wire.maps import MAPS_OF
from tests.backend.samples import failed, made, make_maps, pixels, run, texts_of

TABLE = """
union-pro-2      canny      -  canny_white_on_black
union-pro-2      soft_edge  -  soft_edge_white_on_black
union-pro-2      depth      -  depth_near_white
union-pro-2      grey       -  grey_luma
union-pro-2      pose       -  pose_openpose
union-pro        canny      0  canny_white_on_black
union-pro        tile       1  tile_eighth
union-pro        depth      2  depth_near_white
union-pro        blur       3  blur_hundredth
union-pro        grey       5  grey_luma
union-pro        pose       4  pose_openpose
instantx-union   canny      0  canny_white_on_black
instantx-union   tile       1  tile_eighth
instantx-union   depth      2  depth_near_white
instantx-union   blur       3  blur_hundredth
instantx-union   grey       5  grey_luma
instantx-union   pose       4  pose_openpose
instantx-canny   canny      -  canny_white_on_black
jasper-depth     depth      -  depth_near_white
jasper-normal    normal     -  normal_y_up
jasper-upscaler  tile       -  tile_quarter
shakker-depth    depth      -  depth_near_white
shakker-pose     pose       -  pose_openpose
promeai-line     line       -  line_white_on_black
xlabs-canny      canny      -  canny_white_on_black
xlabs-depth      depth      -  depth_near_white
xlabs-soft-edge  soft_edge  -  soft_edge_white_on_black
"""
"""Family, kind, union mode, and the recipe of the picture; each recipe has a golden test of its own."""


def net(name: str, *kinds: str) -> ControlNetEntry:
    return ControlNetEntry(Path(name), {kind: ControlKind(None, PICTURES[kind]) for kind in kinds})


def test_the_table_of_nets_and_their_pictures() -> None:
    rows = [
        (family, kind, "-" if how["mode"] is None else str(how["mode"]), how["picture"])
        for family in CONTROLNETS
        for kind, how in model_kinds(family).items()
    ]
    wanted = [tuple(line.split()) for line in TABLE.strip().splitlines()]
    assert sorted(rows) == sorted(wanted)


@pytest.mark.parametrize("family", CONTROLNETS)
def test_every_net_s_pictures_can_be_drawn(family: str) -> None:
    maps = make_maps(64, 48)
    for kind, how in model_kinds(family).items():
        assert how["picture"] in RECIPES
        assert control_picture(maps, kind, how["picture"], (64, 48)).std() > 1.0


def test_every_kind_has_a_picture_and_a_net_to_name() -> None:
    assert set(PICTURES) == set(CONTROL_KINDS) == {kind for f in CONTROLNETS.values() for kind in f.modes} & {*PICTURES}
    for kind, others in STAND_INS.items():
        assert kind not in others and {kind, *others} <= set(CONTROL_KINDS)
        # Blender captures before the backend chooses: what stands in is drawn from what was captured.
        assert {MAPS_OF[other][0] for other in others} == {MAPS_OF[kind][0]}


def test_the_first_net_that_knows_a_kind_is_asked() -> None:
    first, second = net("first", "depth"), net("second", "depth", "normal")
    choices = choose_nets(["normal", "depth"], [first, second], "m")
    assert [(c.kind, c.drawn_as, c.net and c.net.folder.name, c.note) for c in choices] == [
        ("normal", "normal", "second", ""),
        ("depth", "depth", "first", ""),
    ]


@pytest.mark.parametrize(
    ("asked", "there", "drawn"),
    [
        (["line"], ["canny", "soft_edge"], ["soft_edge"]),
        (["line"], ["canny"], ["canny"]),
        (["line", "soft_edge"], ["canny", "soft_edge"], ["canny", "soft_edge"]),
        (["canny", "soft_edge"], ["line", "soft_edge"], ["line", "soft_edge"]),
        (["canny"], ["soft_edge"], ["soft_edge"]),
        (["blur"], ["tile"], ["tile"]),
        (["tile", "depth"], ["blur", "depth"], ["blur", "depth"]),
    ],
)
def test_what_stands_in(asked: list[str], there: list[str], drawn: list[str]) -> None:
    choices = choose_nets(asked, [net("net", *there)], "m")
    assert [choice.kind for choice in choices] == asked
    assert [choice.drawn_as for choice in choices] == drawn
    assert [bool(choice.note) for choice in choices] == [a != d for a, d in zip(asked, drawn, strict=True)]


@pytest.mark.parametrize(
    ("asked", "there", "hint"),
    [
        (["normal"], ["depth", "canny", "soft_edge", "grey", "tile", "blur"], "jasperai/Flux.1-dev-Controlnet-Surface"),
        (["depth"], ["normal"], "Union-Pro-2.0"),
        (["grey"], ["tile"], "Union-Pro-2.0"),
        (["line"], ["depth"], "promeai/"),
        (["line", "canny"], ["canny"], "canny, which could stand in for it, is in use already"),
        (["tile", "blur"], ["depth"], "Union-Pro"),
        (["line", "soft_edge"], ["canny"], "canny, which could stand in for it, is in use already"),
    ],
)
def test_what_nothing_stands_in_for_names_the_next_step(asked: list[str], there: list[str], hint: str) -> None:
    with pytest.raises(FailureError, match="has no ControlNet for") as caught:
        choose_nets(asked, [net("net", *there)], "m")
    assert caught.value.failure.kind == FailureKind.MODEL_UNSUPPORTED
    assert hint in caught.value.failure.hint


@pytest.fixture
def without_line(own_models_folder: Path) -> Path:
    """The random model with a net that was not taught lines."""
    path = own_models_folder / "random-weights" / "model.json"
    data: dict[str, Any] = json.loads(path.read_text())
    del data["controlnets"][0]["kinds"]["line"]
    path.write_text(json.dumps(data))
    return own_models_folder


REQUEST = GenerationRequest("a cube", 64, 64, steps=1, model="random-weights", controls=(Control("line"),))


def test_a_stand_in_is_told_before_anything_is_loaded_and_kept_with_the_picture(without_line: Path) -> None:
    told: list[tuple[str, str]] = []
    engine = Production(without_line, "cpu")
    result = made(run(engine, REQUEST, on_progress=lambda progress: told.append((progress.stage, progress.note))))
    sentence = "The line control is drawn as soft edge: the model has no ControlNet for line maps."
    assert told[0][0] == "loading" and told[0][1].splitlines()[2:] == [sentence], "below the memory plan's two lines"
    assert result.plan["note"] == sentence and result.plan["controls"] == {"line": "controlnet: soft_edge"}
    assert json.loads(texts_of(result.png)["grisaille:plan"])["controls"] == result.plan["controls"]
    asked = made(run(engine, GenerationRequest(**{**vars_of(REQUEST), "controls": (Control("soft_edge"),)})))
    assert "note" not in asked.plan and np.array_equal(pixels(asked.png), pixels(result.png)), "the same picture"


def vars_of(request: GenerationRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in request.__dataclass_fields__}


def test_show_controls_shows_what_the_net_gets_and_says_so(without_line: Path) -> None:
    request = GenerationRequest("", 64, 64, model="random-weights", task="show_controls", controls=(Control("line"),))
    maps = make_maps(64, 64)
    result = made(run(Production(without_line, "cpu"), request, maps))
    wanted = control_picture(maps, "soft_edge", "soft_edge_white_on_black")
    assert np.array_equal(pixels(result.control_pngs["line"]), wanted)
    assert "drawn as soft edge" in result.plan["note"]


def test_a_map_that_the_stand_in_lacks_is_named(without_line: Path) -> None:
    from backend.wire import ControlMaps

    failure = failed(run(Production(without_line, "cpu"), REQUEST, ControlMaps()))
    assert failure.message == "The soft edge control has no line or colour map."


def test_a_model_says_which_nets_it_has(folder: ModelFolder) -> None:
    assert find_model(folder.path.parent, folder.name).controlnets == folder.controlnets
    assert set(folder.controlnets[0].kinds) == set(CONTROL_KINDS)
