"""The settings on the scene, and the Request they make."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import bpy
import pytest

from tests.addon.fakes import FakeLink, module, scene


def test_all_settings_reach_the_request_and_come_back(fake_link: FakeLink) -> None:
    settings, chosen = module("addon.settings"), scene().grisaille
    chosen.prompt, chosen.steps, chosen.guidance = "moss on stone", 12, 2.5
    chosen.use_depth, chosen.use_normal, chosen.use_line = False, True, True
    chosen.sampler, chosen.schedule = "unipc", "beta"
    chosen.negative_prompt, chosen.true_cfg = "fog", 3.5
    chosen.normal.strength, chosen.line.start, chosen.line.end = 0.3, 0.1, 0.6
    request = settings.to_request(chosen, 512, 256, 9)
    request.check()
    assert (request.prompt, request.width, request.height, request.seed) == ("moss on stone", 512, 256, 9)
    assert (request.steps, request.guidance, request.model) == (12, 2.5, "tiny")
    assert (request.sampler, request.schedule) == ("unipc", "beta")
    assert (request.negative_prompt, request.true_cfg) == ("fog", 3.5)
    assert [(c.kind, c.strength, c.start, c.end) for c in request.controls] == [
        ("normal", 0.3, 0.0, 1.0),
        ("line", 0.7, 0.1, 0.6),
    ]
    other = bpy.data.scenes.new("other").grisaille  # pyright: ignore[reportAttributeAccessIssue]
    settings.from_request(other, request)
    assert settings.to_request(other, other.width, other.height, other.seed) == request


def test_without_a_negative_prompt_there_is_no_second_pass(fake_link: FakeLink) -> None:
    settings, chosen = module("addon.settings"), scene().grisaille
    chosen.prompt, chosen.negative_prompt, chosen.true_cfg = "moss", " ", 4.0
    request = settings.to_request(chosen, 64, 64, 1)
    request.check()
    assert (request.negative_prompt, request.true_cfg) == ("", 1.0)


@pytest.mark.parametrize("name", ["one", "details", "polish"])
def test_stages_reach_the_request_and_come_back(fake_link: FakeLink, name: str) -> None:
    settings, chosen = module("addon.settings"), scene().grisaille
    chosen.prompt, chosen.stages, chosen.steps = "moss", name, 12
    request = settings.to_request(chosen, 128, 128, 1)
    request.check()
    assert len(request.stages) == {"one": 0, "details": 2, "polish": 3}[name]
    other = bpy.data.scenes.new("other").grisaille  # pyright: ignore[reportAttributeAccessIssue]
    settings.from_request(other, request)
    assert other.stages == name and settings.to_request(other, 128, 128, 1) == request


def test_stages_of_a_script_come_back_as_they_were(fake_link: FakeLink) -> None:
    settings, chosen = module("addon.settings"), scene().grisaille
    chosen.prompt = "moss"
    chosen.stages, chosen.custom_stages = "custom", '[{"scale": 0.3, "steps": 5}, {"steps": 2, "controls": []}]'
    request = settings.to_request(chosen, 128, 128, 1)
    request.check()
    assert [(stage.scale, stage.steps, stage.controls) for stage in request.stages] == [(0.3, 5, None), (1.0, 2, ())]
    other = bpy.data.scenes.new("other").grisaille  # pyright: ignore[reportAttributeAccessIssue]
    settings.from_request(other, request)
    assert other.stages == "custom" and settings.to_request(other, 128, 128, 1) == request


def test_every_plan_of_stages_can_be_chosen(fake_link: FakeLink) -> None:
    plans, properties = module("backend.wire.stages").STAGE_PLANS, scene().grisaille.bl_rna.properties
    assert [item.identifier for item in properties["stages"].enum_items] == [*plans, "custom"]


def test_every_sampler_and_schedule_can_be_chosen(fake_link: FakeLink) -> None:
    request, properties = module("backend.wire.request"), scene().grisaille.bl_rna.properties
    assert tuple(item.identifier for item in properties["sampler"].enum_items) == request.SAMPLERS
    assert tuple(item.identifier for item in properties["schedule"].enum_items) == request.SCHEDULES


@pytest.mark.parametrize(
    ("mode", "wanted"), [("MATCH_CAMERA", (960, 540)), ("MATCH_VIEWPORT", (803, 611)), ("CUSTOM", (500, 300))]
)
def test_where_the_size_comes_from(fake_link: FakeLink, mode: str, wanted: tuple[int, int]) -> None:
    chosen, render = scene().grisaille, scene().render
    render.resolution_x, render.resolution_y, render.resolution_percentage = 1920, 1080, 50
    chosen.size_mode, chosen.width, chosen.height = mode, 500, 300
    region = SimpleNamespace(width=803, height=611)
    assert module("addon.settings").wanted_size(chosen, scene(), region) == wanted


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ((1024, 1024), "1024 x 1024 px"),
        ((1920, 1080), "1920 x 1088 px (8 more high)"),
        ((1000, 1000), "992 x 992 px (8 cropped wide, 8 cropped high)"),
        ((3840, 2160), "2720 x 1536 px, scaled from 3840 x 2160"),
        ((10, 10), "64 x 64 px, scaled from 10 x 10"),
    ],
)
def test_the_crop_is_shown(fake_link: FakeLink, wanted: tuple[int, int], text: str) -> None:
    assert module("addon.settings").describe_size(wanted) == text


def test_the_models_are_those_of_the_folder_and_a_missing_one_is_named(
    fake_link: FakeLink, tmp_path: Any, shipped: Any
) -> None:
    chosen = scene().grisaille
    (tmp_path / "models" / "other").mkdir()
    (tmp_path / "models" / "other" / "model.json").write_text("{}")
    (tmp_path / "models" / "not a model").mkdir()
    assert chosen.model == "other", "the first"
    chosen.model = "tiny"
    assert (chosen.model, chosen.model_name) == ("tiny", "tiny")
    (tmp_path / "models" / "aardvark").mkdir()
    (tmp_path / "models" / "aardvark" / "model.json").write_text("{}")
    assert chosen.model == "tiny", "also when the list grows"
    (tmp_path / "models" / "tiny" / "model.json").unlink()
    items = module("addon.settings")._model_items(chosen, None)
    assert [item[1] for item in items] == ["aardvark", "other", "sample", "tiny (missing)"]
    assert chosen.model == "tiny"


def test_where_the_user_has_no_model_the_one_that_ships_is_chosen(
    fake_link: FakeLink, tmp_path: Any, shipped: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRISAILLE_MODELS", str(tmp_path / "models" / "empty"))
    chosen = scene().grisaille
    assert module("addon.settings").chosen_model(chosen) == "sample"
    assert chosen.model == "sample"
    item = module("addon.settings")._model_items(chosen, None)[0]
    assert "only simple things" in item[2]


def test_a_user_s_model_goes_before_one_that_ships_under_its_name(fake_link: FakeLink, shipped: Any) -> None:
    names, models = module("backend.wire.model_names"), shipped.parent / "models"
    (models / "sample").mkdir()
    assert names.model_path(models, "sample") == shipped / "sample", "without a model.json it is none"
    (models / "sample" / "model.json").write_text("{}")
    assert names.model_path(models, "sample") == models / "sample"
    assert names.model_names(models) == ["sample", "tiny"] and not names.is_shipped(models, "sample")


def test_no_models_at_all(fake_link: FakeLink, tmp_path: Any, shipped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISAILLE_MODELS", str(tmp_path / "nowhere"))
    (shipped / "sample" / "model.json").unlink()
    assert module("addon.settings").chosen_model(scene().grisaille) == ""
    assert scene().grisaille.model == ""


def test_a_models_folder_that_was_set_must_be_there(
    fake_link: FakeLink, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    preferences = module("addon.preferences")
    monkeypatch.setenv("GRISAILLE_MODELS", str(tmp_path / "nowhere"))
    with pytest.raises(module("backend.wire").FailureError, match="nowhere is not there"):
        preferences.backend_place()
    monkeypatch.delenv("GRISAILLE_MODELS")
    assert preferences.backend_place().models_folder == preferences.models_folder()


def test_preferences_come_before_the_environment(fake_link: FakeLink, tmp_path: Any) -> None:
    preferences = module("addon.preferences")
    own = preferences.of_this_addon()
    assert preferences.data_folder() == tmp_path / "data"
    own.data_folder = str(tmp_path / "elsewhere")
    try:
        assert preferences.data_folder() == tmp_path / "elsewhere"
        place = preferences.backend_place()
        assert place.data_folder == tmp_path / "elsewhere" and place.data_folder.is_dir()
    finally:
        own.data_folder = ""


def test_settings_are_saved_with_the_file(fake_link: FakeLink, tmp_path: Any) -> None:
    scene().grisaille.prompt, scene().grisaille.depth.strength = "kept", 0.25
    path = str(tmp_path / "scene.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    scene().grisaille.prompt = "changed"
    bpy.ops.wm.open_mainfile(filepath=path)
    assert scene().grisaille.prompt == "kept" and scene().grisaille.depth.strength == 0.25
