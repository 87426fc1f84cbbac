"""The operators, as scripts and the window call them, with a fake link."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bpy
import pytest

from tests.addon.fakes import FakeLink, module, ops, png, scene

SMALL = {"width": 64, "height": 64, "steps": 2}


def begin(**changes: object) -> str:
    """The path that does not block, which only a window calls."""
    from dataclasses import replace

    jobs = module("addon.operators.jobs")
    order = jobs.order_from_settings(bpy.context)
    values = {"prompt": "a clay pot", "width": 64, "height": 64, "controls": (), **changes}
    return jobs.begin(bpy.context, replace(order, request=replace(order.request, **values)))


def test_generate_blocks_and_leaves_a_packed_picture(fake_link: FakeLink) -> None:
    done = ops().generate(prompt="a clay pot", seed=7, controls="depth,normal:0.5", sampler="unipc", **SMALL)
    assert done == {"FINISHED"}
    entry = bpy.context.scene.grisaille_history[0]
    request, maps, origin = fake_link.submitted[entry.job_id]
    assert (request.prompt, request.seed, request.width, request.model) == ("a clay pot", 7, 64, "tiny")
    assert (request.sampler, request.schedule) == ("unipc", "simple")
    assert (request.negative_prompt, request.true_cfg) == ("", 1.0)
    assert [(c.kind, c.strength) for c in request.controls] == [("depth", 0.7), ("normal", 0.5)]
    assert maps.depth.shape == (64, 64) and maps.normal.shape == (64, 64, 3) and maps.line is None
    assert bytes(entry.image.packed_file.data) == png(64, 64)
    assert tuple(entry.image.size) == (64, 64)
    assert json.loads(entry.image["grisaille_request"])["seed"] == 7
    assert json.loads(entry.image["grisaille_view"])["camera_name"] == "Camera"
    assert origin["session"] == module("addon.state").get().session
    assert fake_link.acknowledged == [], "it is on disk until a saved file holds it"


def test_a_negative_prompt_brings_true_cfg(fake_link: FakeLink) -> None:
    def asked(**given: object) -> tuple[str, float]:
        ops().generate(prompt="a clay pot", controls="none", **SMALL, **given)
        request = fake_link.submitted[bpy.context.scene.grisaille_history[-1].job_id][0]
        return request.negative_prompt, request.true_cfg

    assert asked(negative_prompt="fog") == ("fog", 2.0)
    assert asked(negative_prompt="fog", true_cfg=3.0) == ("fog", 3.0)
    bpy.context.scene.grisaille.negative_prompt = "rain"
    assert asked(true_cfg=4.0) == ("rain", 4.0)
    assert asked(negative_prompt="") == ("", 1.0)
    bpy.context.scene.grisaille.negative_prompt = ""
    with pytest.raises(RuntimeError, match="without a negative prompt"):
        asked(true_cfg=4.0)


def test_settings_are_the_defaults_and_the_seed_is_new_unless_locked(fake_link: FakeLink) -> None:
    chosen = bpy.context.scene.grisaille
    chosen.prompt, chosen.size_mode, chosen.width, chosen.height, chosen.steps = "moss", "CUSTOM", 70, 90, 3
    seeds = set()
    for _ in range(3):
        ops().generate()
        seeds.add(list(fake_link.submitted.values())[-1][0].seed)
    request = list(fake_link.submitted.values())[-1][0]
    assert (request.prompt, request.width, request.height, request.steps) == ("moss", 64, 96, 3)
    assert len(seeds) == 3 and chosen.seed == request.seed
    chosen.seed_locked = True
    ops().generate()
    assert list(fake_link.submitted.values())[-1][0].seed == chosen.seed == request.seed


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"prompt": "  "}, "The prompt is empty. Describe"),
        ({"width": 0}, "0 x 64 pixels cannot be made. Choose"),
        ({"width": 20_000}, "20000 x 64 pixels cannot be made. Choose"),
        ({"steps": 0}, "number of steps is 0. Choose"),
        ({"seed": -1}, "seed is -1. Choose"),
        ({"controls": "depth,smell"}, "no control called 'smell'. Use one of"),
        ({"controls": "depth:much"}, "strength is nan. Choose"),
        ({"camera": "Nobody"}, "no camera called 'Nobody' in this file. Use one of: Camera."),
        ({"filepath": "/nowhere/at/all.png"}, "folder /nowhere/at is not there. Make it"),
        ({"model": "../weights"}, "not the name of a model. Choose"),
    ],
)
def test_bad_input_gets_a_sentence_and_the_next_step(
    fake_link: FakeLink, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(RuntimeError, match="Error: ") as raised:
        ops().generate(**{"prompt": "a clay pot", **SMALL, **changes})
    assert sentence in str(raised.value)
    assert "Traceback" not in str(raised.value)
    assert fake_link.submitted == {}
    assert len(bpy.context.scene.grisaille_history) == 0


def test_no_camera_gets_a_sentence(fake_link: FakeLink) -> None:
    bpy.data.objects.remove(bpy.data.objects["Camera"])
    with pytest.raises(RuntimeError, match="camera"):
        ops().generate(prompt="a clay pot", **SMALL)


def test_a_missing_backend_is_named_with_the_setting_to_change(
    fake_link: FakeLink, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GRISAILLE_PYTHON", str(tmp_path / "no-python"))
    with pytest.raises(RuntimeError, match=r"no-python\. Set Backend Python"):
        ops().generate(prompt="a clay pot", **SMALL)
    assert module("addon.state").get().failure.kind == "backend_not_found"


def test_an_empty_models_folder_is_named(fake_link: FakeLink, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("GRISAILLE_MODELS", str(empty))
    monkeypatch.setattr(module("backend.wire.model_names"), "shipped_models", lambda: empty)
    with pytest.raises(RuntimeError, match=r"no model in .*empty\. Put a model"):
        ops().generate(prompt="a clay pot", **SMALL)


def test_the_backends_failure_is_reported_and_shown(fake_link: FakeLink) -> None:
    wire = module("backend.wire")
    fake_link.answer = wire.Failure(wire.FailureKind.OUT_OF_MEMORY, "The GPU is full.", "Choose a smaller size.")
    with pytest.raises(RuntimeError, match=r"The GPU is full\. Choose a smaller size\."):
        ops().generate(prompt="a clay pot", **SMALL)
    state = module("addon.state").get()
    assert state.failure.kind == "out_of_memory" and not state.jobs
    ops().failure_dismiss()
    assert state.failure is None


def test_the_path_that_does_not_block(fake_link: FakeLink) -> None:
    wire, state, arrivals = module("backend.wire"), module("addon.state").get(), module("addon.results.arrivals")
    job_id = begin()
    assert list(state.jobs) == [job_id] and len(bpy.context.scene.grisaille_history) == 0
    fake_link.progress(job_id, wire.Progress("denoising", 3, 20, 0.15))
    assert arrivals.pump()
    assert state.jobs[job_id].progress.step == 3
    assert not arrivals.pump(), "nothing new: nothing to draw"
    fake_link.finish(job_id)
    arrivals.pump()
    assert not state.jobs
    assert [entry.job_id for entry in bpy.context.scene.grisaille_history] == [job_id]


def test_cancel_reaches_the_link_and_is_no_error(fake_link: FakeLink) -> None:
    wire, state = module("backend.wire"), module("addon.state").get()
    assert not ops().cancel.poll()
    job_id = begin()
    ops().cancel(job_id=job_id)
    assert fake_link.cancelled == [job_id]
    fake_link.fail(job_id, wire.Failure(wire.FailureKind.CANCELLED, "Cancelled.", ""))
    module("addon.results.arrivals").pump()
    assert not state.jobs and state.failure is None


def test_a_preset_sets_every_control_and_leaves_them_to_be_changed(fake_link: FakeLink) -> None:
    presets, chosen = module("backend.wire.presets").PRESETS, scene().grisaille
    chosen.use_depth, chosen.use_canny = False, True
    for name, preset in presets.items():
        assert ops().control_preset(preset=name) == {"FINISHED"}
        for kind in module("backend.wire").CONTROL_KINDS:
            group = getattr(chosen, kind)
            assert (group.strength, group.start, group.end) == pytest.approx(preset.values[kind])
    assert (chosen.use_depth, chosen.use_canny) == (False, True)
    chosen.canny.strength = 0.9
    request = module("addon.settings").to_request(chosen, 64, 64, 1)
    assert [(c.kind, c.strength, c.end) for c in request.controls] == [("canny", 0.9, 0.35)]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"preset": "loose"}, [("depth", 0.5, 0.45)]),
        ({"preset": "exact", "controls": "line:0.2,depth"}, [("line", 0.2, 0.9), ("depth", 0.85, 0.9)]),
        ({"controls": "line:0.2"}, [("line", 0.2, 1.0)]),
    ],
)
def test_scripts_name_presets(fake_link: FakeLink, given: dict[str, Any], wanted: list[Any]) -> None:
    ops().generate(prompt="a clay pot", seed=7, **SMALL, **given)
    request = next(iter(fake_link.submitted.values()))[0]
    assert [(c.kind, c.strength, c.end) for c in request.controls] == wanted


def test_show_controls_leaves_one_image_for_each(fake_link: FakeLink) -> None:
    chosen = bpy.context.scene.grisaille
    chosen.size_mode, chosen.width, chosen.height, chosen.use_normal = "CUSTOM", 64, 64, True
    for _ in range(2):
        ops().show_controls()
    names = sorted(image.name for image in bpy.data.images if image.name.startswith("Grisaille"))
    assert names == ["Grisaille Depth", "Grisaille Normal"]
    assert len(bpy.context.scene.grisaille_history) == 0 and not fake_link.on_disk
    chosen.use_depth = chosen.use_normal = False
    with pytest.raises(RuntimeError, match="No control is on"):
        ops().show_controls()


def test_render_depth_to_image_uses_the_active_camera(fake_link: FakeLink) -> None:
    chosen = bpy.context.scene.grisaille
    chosen.prompt, chosen.size_mode, chosen.width, chosen.height = "a clay pot", "CUSTOM", 64, 64
    chosen.destination, chosen.source = "IMAGE_EMPTY", "VIEWPORT"
    assert ops().render_depth_to_image() == {"FINISHED"}
    origin = next(iter(fake_link.submitted.values()))[2]
    assert origin["destination"] == "IMAGE_EDITOR" and json.loads(origin["view"])["kind"] == "camera"
    bpy.context.scene.camera = None
    assert not ops().render_depth_to_image.poll()


def test_generate_cannot_be_adjusted_into_running_again(fake_link: FakeLink) -> None:
    for name in ("GENERATE", "SHOW_CONTROLS", "RENDER_DEPTH_TO_IMAGE"):
        operator = getattr(bpy.types, f"GRISAILLE_OT_{name.lower()}")
        assert "REGISTER" not in operator.bl_options


def test_a_picture_is_also_written_to_a_file(fake_link: FakeLink, tmp_path: Path) -> None:
    path = tmp_path / "pot.png"
    ops().generate(prompt="a clay pot", filepath=str(path), **SMALL)
    assert path.read_bytes() == png(64, 64)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["pot.png"]
