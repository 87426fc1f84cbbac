"""Several stages in one Request."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from backend.flux.control_pictures import control_picture
from backend.models.control_choice import PICTURES
from backend.production import Production
from backend.production.passes import maps_at, next_image, passes_of, resized_mask
from backend.wire import Control, ControlMaps, FailureError, FailureKind, GenerationRequest, Progress, Stage
from backend.wire.request import SEED_MAX
from backend.wire.stages import STAGE_PLANS, parse_stages, plan_of, planned_stages
from tests.backend.samples import failed, made, make_maps, pixels, run, texts_of

REQUEST = GenerationRequest(
    "a red cube", 128, 96, seed=SEED_MAX, steps=3, model="random-weights", controls=(Control("depth"),)
)
STAGES = (Stage(0.5, 3), Stage(1.0, 4, 0.5, (Control("depth", 0.3),)))


def test_each_stage_is_a_pass_of_its_own() -> None:
    first, second = passes_of(replace(REQUEST, stages=STAGES))
    assert (first.size, second.size) == ((64, 64), (128, 96))
    assert (first.request.task, second.request.task) == ("text_to_image", "image_to_image")
    assert (first.request.steps, second.request.steps) == (3, 4)
    assert (first.request.strength, second.request.strength) == (1.0, 0.5)
    assert first.request.controls == REQUEST.controls and second.request.controls == STAGES[1].controls
    assert (first.request.seed, second.request.seed) == (SEED_MAX, 0)
    for one in (first, second):
        one.request.check()
        assert one.request.stages == ()
    assert passes_of(REQUEST)[0].request == REQUEST


def test_no_stage_changes_what_a_model_takes_whole() -> None:
    request = replace(REQUEST, controls=(Control("depth", 1.0), Control("line", 0.5)))
    for stages in (planned_stages("polish", 20, request.controls), (Stage(controls=()),)):
        for one in passes_of(replace(request, stages=stages), frozenset({"depth"})):
            assert [control.strength for control in one.request.controls if control.kind == "depth"] == [1.0]


def test_an_edit_has_one_pass() -> None:
    with pytest.raises(FailureError, match="The task edit is done in one pass"):
        replace(REQUEST, task="edit", stages=STAGES).check()


def test_stages_are_what_the_passes_would_be_one_by_one(production: Production) -> None:
    """The same bytes as two Requests by hand, of which the second starts from the first one's picture."""
    staged = pixels(made(run(production, replace(REQUEST, stages=(Stage(1.0, 3), Stage(1.0, 4, 0.5))))).png)
    first = pixels(made(run(production, REQUEST)).png)
    second = replace(REQUEST, task="image_to_image", strength=0.5, steps=4, seed=0)
    maps = replace(make_maps(128, 96), image=first.copy())
    assert (staged == pixels(made(run(production, second, maps)).png)).all()


def test_a_stage_decides_the_pixels(production: Production) -> None:
    pictures = {
        made(run(production, replace(REQUEST, stages=stages))).png
        for stages in (
            (),
            STAGES,
            (STAGES[0], replace(STAGES[1], strength=0.9)),
            (replace(STAGES[0], scale=0.75), STAGES[1]),
        )
    }
    assert len(pictures) == 4


def test_a_picture_remembers_its_stages(production: Production) -> None:
    request = replace(REQUEST, stages=STAGES)
    result = made(run(production, request))
    assert pixels(result.png).shape == (96, 128, 3) and result.request == request
    kept = json.loads(texts_of(result.png)["grisaille:request"])
    assert GenerationRequest.from_json(kept) == request


def test_progress_grows_through_all_stages(production: Production) -> None:
    told: list[Progress] = []
    made(run(production, replace(REQUEST, stages=STAGES), on_progress=told.append))
    fractions = [progress.fraction for progress in told]
    assert fractions == sorted(fractions) and fractions[-1] < 1.0
    assert sum(progress.stage == "denoising" and progress.step == 0 for progress in told) == 2


def test_cancel_works_in_the_second_stage(production: Production) -> None:
    told: list[Progress] = []

    def is_cancelled() -> bool:
        return sum(progress.stage == "text" for progress in told) > 1

    failure = failed(
        run(production, replace(REQUEST, stages=STAGES), on_progress=told.append, is_cancelled=is_cancelled)
    )
    assert failure.kind == FailureKind.CANCELLED


def test_what_a_mask_keeps_is_kept_through_all_stages(production: Production) -> None:
    maps = make_maps(128, 96)
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    mask = np.zeros((96, 128), np.float32)
    mask[:, 70:] = 1.0
    request = replace(REQUEST, task="inpaint", strength=0.8, stages=STAGES)
    picture = pixels(made(run(production, request, ControlMaps(maps.depth, image=image, mask=mask))).png)
    assert (picture[:, :70] == image[:, :70]).all()
    assert np.abs(picture[:, 70:].astype(int) - image[:, 70:]).mean() > 10


def test_a_smaller_mask_is_not_freer_than_the_mask() -> None:
    mask = np.zeros((96, 128), np.float32)
    mask[:, 65:] = 1.0
    small = resized_mask(mask, (64, 48))
    assert small.dtype == np.float32 and small[:, :32].max() == 0.0
    assert 0.0 < small[0, 32] < 1.0 and small[:, 33:].min() == 1.0
    picture = next_image(np.full((48, 64, 3), 9, np.uint8), (64, 48), np.zeros((96, 128, 3), np.uint8), small)
    assert picture[0, 31, 0] == 0 and picture[0, 32, 0] == 9


@pytest.mark.parametrize("size", [(64, 48), (96, 64), (128, 96)])
def test_what_is_drawn_smaller_is_drawn_as_clearly(size: tuple[int, int]) -> None:
    """A thin line stays white, an edge of depth an edge, and normals keep their length."""
    maps = make_maps(128, 96)
    line = np.zeros((96, 128), np.float32)
    line[50], line[:, 77] = 1.0, 1.0
    small = maps_at(replace(maps, line=line), size)
    small.check(*size)
    assert small.line is not None and small.depth is not None and small.normal is not None
    assert (small.line.max(0) == 1.0).all() and (small.line.max(1) == 1.0).all()
    assert small.line.mean() < 2.2 * line.mean() * 128 / size[0]
    assert set(np.unique(small.depth)) <= set(np.unique(maps.depth)) and np.isinf(small.depth).any()
    assert set(np.unique(np.linalg.norm(small.normal, axis=2).round(5))) == {0.0, 1.0}
    assert small.pose is maps.pose
    for kind in ("line", "canny"):
        assert control_picture(small, kind, PICTURES[kind]).max() == 255


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ("polish", "stages is not a list"),
        ([3], "not a table"),
        ([{"colour": 1}], "'colour'"),
        ([{"scale": 0.1}], "scale of stage 1 is 0.1"),
        ([{"scale": "big"}], "scale of stage 1 is 'big'"),
        ([{"steps": 1.5}], "steps of stage 1"),
        ([{"steps": 0}], "number of steps of stage 1 is 0"),
        ([{}, {"strength": 0}], "strength of stage 2 is 0"),
        ([{"scale": 0.5}], "last stage"),
        ([{"controls": "depth"}], "controls is not a list"),
        ([{"controls": [{"kind": "line"}]}], "Stage 1 has a line control"),
        ([{"controls": [{"kind": "depth"}, {"kind": "depth"}]}], "twice"),
        ([{"controls": [{"kind": "smell"}]}], "'smell'"),
        ([{}] * 9, "9 stages"),
    ],
)
def test_what_is_wrong_with_stages_is_said(stages: object, said: str) -> None:
    with pytest.raises(FailureError) as caught:
        GenerationRequest.from_json({**REQUEST.to_json(), "stages": stages})
    failure = caught.value.failure
    assert failure.kind == FailureKind.BAD_REQUEST and said in failure.message and failure.hint.endswith(".")


@pytest.mark.parametrize("stages", [(), STAGES, (Stage(controls=()),)])
def test_stages_go_through_json_unchanged(stages: tuple[Stage, ...]) -> None:
    request = replace(REQUEST, stages=stages)
    assert GenerationRequest.from_json(json.loads(json.dumps(request.to_json()))) == request


@pytest.mark.parametrize("name", STAGE_PLANS)
def test_a_named_plan_is_a_good_request_and_is_known_again(name: str) -> None:
    stages = parse_stages(name, 20, REQUEST.controls)
    replace(REQUEST, stages=stages).check()
    assert plan_of(stages, 20, REQUEST.controls) == name
    assert len(stages) == len(STAGE_PLANS[name])


def test_scripts_write_stages_as_json() -> None:
    text = '[{"scale": 0.5, "steps": 8}, {"steps": 8, "strength": 0.4, "controls": []}]'
    assert parse_stages(text, 20, REQUEST.controls) == (Stage(0.5, 8), Stage(1.0, 8, 0.4, ()))
    assert plan_of((Stage(0.5, 8), Stage()), 20, REQUEST.controls) is None
    with pytest.raises(FailureError, match="no stages called 'shiny'"):
        parse_stages("shiny", 20, REQUEST.controls)


def test_details_go_easier_on_the_controls() -> None:
    strengths = [
        stage.controls[0].strength for stage in planned_stages("polish", 20, REQUEST.controls) if stage.controls
    ]
    assert strengths == sorted(strengths, reverse=True) and len(set(strengths)) == 3
