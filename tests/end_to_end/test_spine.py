"""From a Blender scene to a finished picture in it, through the real backend."""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from tests.addon import rigs
from tests.addon.fakes import PACKAGE, module, ops
from tests.addon.scene_digest import differences, session_digest

PATIENCE = 120.0
# The digest reads every property there is, also those that Blender will drop one day.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def history() -> Any:
    return bpy.context.scene.grisaille_history  # pyright: ignore[reportAttributeAccessIssue]


def begin(**changes: Any) -> str:
    """Generate as a window does it: returns at once."""
    jobs = module("addon.operators.jobs")
    order = jobs.order_from_settings(bpy.context)
    return jobs.begin(bpy.context, replace(order, request=replace(order.request, **changes)))


def pump_until(condition: Callable[[], bool]) -> float:
    """Does the timer's work until `condition`; returns how long that took, in seconds."""
    arrivals = module("addon.results.arrivals")
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < PATIENCE, "it never came"
        arrivals.pump()
        time.sleep(0.02)
    return time.monotonic() - start


def denoising(state: Any, job_id: str) -> Callable[[], bool]:
    """Whether the job is in the middle of its steps."""

    def check() -> bool:
        job = state.jobs[job_id]
        return job.progress is not None and job.progress.stage == "denoising" and job.progress.step >= 1

    return check


def png_size(data: bytes) -> tuple[int, ...]:
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", data[16:24])


def test_generate_leaves_a_packed_picture_that_survives_saving(ready: Any, data_folder: Path, tmp_path: Path) -> None:
    assert ops().generate(seed=7, controls="depth,normal,line") == {"FINISHED"}
    entry = history()[0]
    data = bytes(entry.image.packed_file.data)
    assert png_size(data) == (128, 96)
    path = tmp_path / "scene.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    bpy.ops.wm.open_mainfile(filepath=str(path))
    entry = history()[0]
    assert bytes(entry.image.packed_file.data) == data
    request = json.loads(entry.request)
    assert (request["seed"], [c["kind"] for c in request["controls"]]) == (7, ["depth", "normal", "line"])
    assert not list((data_folder / "results").iterdir()), "the saved file holds it now"


def test_every_sampler_and_schedule_paints(ready: Any) -> None:
    request = module("backend.wire.request")
    pairs = [(sampler, "simple") for sampler in request.SAMPLERS]
    pairs += [("euler", schedule) for schedule in request.SCHEDULES[1:]]
    for sampler, schedule in pairs:
        assert ops().generate(seed=7, controls="depth", sampler=sampler, schedule=schedule) == {"FINISHED"}
    made = {bytes(entry.image.packed_file.data) for entry in history()}
    assert len(made) == len(pairs), "each goes its own way"


def test_four_controls_guide_at_once_as_a_preset_says(ready: Any) -> None:
    assert ops().generate(seed=7, controls="depth,normal,canny,tile", preset="exact") == {"FINISHED"}
    controls = json.loads(history()[-1].request)["controls"]
    presets = module("backend.wire.presets").PRESETS["exact"].values
    assert [(c["kind"], (c["strength"], c["start"], c["end"])) for c in controls] == [
        (kind, presets[kind]) for kind in ("depth", "normal", "canny", "tile")
    ]
    with pytest.raises(RuntimeError, match="5 controls are on"):
        ops().generate(seed=7, controls="depth,normal,canny,tile,grey")


def test_stages_make_a_picture_of_the_whole_size(ready: Any) -> None:
    stages = '[{"scale": 0.5, "steps": 2}, {"steps": 2, "strength": 0.6, "controls": [{"kind": "depth"}]}]'
    for text in (stages, "one"):
        assert ops().generate(seed=7, controls="depth,normal", stages=text) == {"FINISHED"}
    staged, plain = history()[0], history()[1]
    assert png_size(bytes(staged.image.packed_file.data)) == (128, 96)
    assert bytes(staged.image.packed_file.data) != bytes(plain.image.packed_file.data)
    assert [stage["scale"] for stage in json.loads(staged.request)["stages"]] == [0.5, 1.0]
    with pytest.raises(RuntimeError, match="no stages called 'shiny'"):
        ops().generate(seed=7, stages="shiny")


def test_the_same_seed_is_the_same_picture(ready: Any) -> None:
    for seed in (3, 3, 4):
        ops().generate(seed=seed)
    first, again, other = (pixels(entry.image) for entry in history())
    assert (first == again).all() and (first != other).any()


def pixels(image: Any) -> Any:
    found = np.empty(len(image.pixels), np.float32)
    image.pixels.foreach_get(found)
    return found


@pytest.mark.parametrize(
    "shown",
    [
        {"depth": "Depth", "normal": "Normal", "line": "Line Art", "canny": "Canny"},
        {"soft_edge": "Soft Edge", "grey": "Grey", "tile": "Tile", "blur": "Blur"},
    ],
    ids=lambda shown: ",".join(shown),
)
def test_show_controls_shows_the_pictures_the_controlnets_get(ready: Any, shown: dict[str, str]) -> None:
    chosen = bpy.context.scene.grisaille  # pyright: ignore[reportAttributeAccessIssue]
    chosen.use_depth = False
    for kind in shown:
        setattr(chosen, f"use_{kind}", True)
    ops().show_controls()
    for name in shown.values():
        image = bpy.data.images[f"Grisaille {name}"]
        assert tuple(image.size) == (128, 96)
        found = pixels(image).reshape(-1, 4)[:, :3]
        assert found.std() > 0.01, f"{name} shows something"
        if name in ("Canny", "Grey"):
            assert np.ptp(found, axis=1).max() == 0.0, "in grey"
    assert ready.control_note == ""


def test_show_prompt_shows_what_is_painted(ready: Any) -> None:
    chosen = bpy.context.scene.grisaille  # pyright: ignore[reportAttributeAccessIssue]
    chosen.prompt, chosen.style, chosen.enhance, chosen.seed, chosen.seed_locked = (
        "a {red|blue} (pot:1.2)",
        "ink",
        True,
        7,
        True,
    )
    ops().show_prompt()
    assert ready.shown_prompt.prompt.startswith(("a red (pot:1.2), ink drawing", "a blue (pot:1.2), ink drawing"))
    assert "T5 " in ready.shown_prompt.tokens and "chosen by the seed" in ready.shown_prompt.note
    assert len(history()) == 0 and not ready.jobs
    ops().generate(controls="none")
    written = ready.shown_prompt.prompt
    ops().generate(prompt=written, style="none", enhance=False, controls="none")
    first, again = (pixels(entry.image) for entry in history())
    assert (first == again).all(), "the same words"


def test_the_new_controls_guide_a_picture(ready: Any) -> None:
    ops().generate(seed=7, controls="none")
    ops().generate(seed=7, controls="canny,soft_edge,grey,blur", preset="exact")
    alone, guided = (pixels(entry.image) for entry in history())
    assert (alone != guided).mean() > 0.3


def test_a_pose_guides_a_picture(ready: Any) -> None:
    """From an armature's bones to the stick figure that the ControlNet gets, and to a picture that it changes."""
    item = rigs.person("mixamorig")
    item.scale = (1.5, 1.5, 1.5)
    for controls in ("none", "pose:1", "pose:1"):
        assert ops().generate(seed=7, controls=controls) == {"FINISHED"}
    without, first, again = (pixels(entry.image) for entry in history())
    assert (first == again).all() and (first != without).any()
    chosen = bpy.context.scene.grisaille  # pyright: ignore[reportAttributeAccessIssue]
    chosen.use_depth, chosen.use_pose = False, True
    ops().show_controls()
    image = bpy.data.images["Grisaille Pose"]
    assert tuple(image.size) == (128, 96)
    colours = {tuple(colour) for colour in (pixels(image).reshape(-1, 4)[:, :3] * 255).round().astype(int)}
    assert {(0, 0, 0), (255, 170, 0), (85, 255, 0)} <= colours, "black, and both shoulders"


def test_a_picture_is_projected_on_the_selected_objects(ready: Any) -> None:
    cube: Any = bpy.data.objects["Cube"]
    cube.select_set(True)
    ops().generate(destination="MATERIAL")
    nodes = cube.material_slots[0].material.node_tree.nodes
    assert [node.image for node in nodes if node.type == "TEX_IMAGE"] == [history()[0].image]


def test_progress_comes_while_it_works_and_the_scene_is_not_touched(ready: Any) -> None:
    before = session_digest()
    job_id = begin(steps=30)
    seen: list[tuple[str, float]] = []

    def watch() -> bool:
        job = ready.jobs.get(job_id)
        if job is not None and job.progress is not None:
            seen.append((job.progress.stage, job.progress.fraction))
        return job is None or (job.progress is not None and job.progress.step >= 20)

    pump_until(watch)
    assert differences(before, session_digest()) == []
    pump_until(lambda: job_id not in ready.jobs)
    assert [entry.job_id for entry in history()] == [job_id]
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions) and fractions[-1] < 1.0
    assert "denoising" in {stage for stage, _ in seen}


def test_a_cancelled_job_leaves_no_trace(ready: Any, data_folder: Path) -> None:
    before = session_digest()
    job_id = begin(steps=200)
    pump_until(denoising(ready, job_id))
    ops().cancel()
    assert pump_until(lambda: not ready.jobs) < 10.0
    assert ready.failure is None
    assert differences(before, session_digest()) == []
    results = data_folder / "results"
    assert not results.exists() or not list(results.iterdir())


def test_a_killed_backend_is_told_and_the_next_generate_works(ready: Any) -> None:
    before = session_digest()
    job_id = begin(steps=200)
    pump_until(denoising(ready, job_id))
    os.kill(ready.link.backend_pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    pump_until(lambda: ready.failure is not None and not ready.jobs)
    assert ready.failure.kind == "backend_died" and ready.failure.hint
    assert differences(before, session_digest()) == []
    ops().generate()
    assert len(history()) == 1


def test_a_job_of_one_file_never_lands_in_another(ready: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "first.blend", tmp_path / "second.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(second))
    bpy.ops.wm.save_as_mainfile(filepath=str(first))
    job_id = begin(steps=8)
    bpy.ops.wm.open_mainfile(filepath=str(second))
    before = session_digest()
    pump_until(lambda: not ready.jobs)
    assert ready.failure is None
    assert len(history()) == 0 and differences(before, session_digest()) == []
    assert module("addon.results.arrivals").elsewhere() == [job_id]
    bpy.ops.wm.open_mainfile(filepath=str(first))
    assert [entry.job_id for entry in history()] == [job_id]


def test_undo_then_a_reload_then_still_in_the_history(ready: Any) -> None:
    bpy.ops.ed.undo_push(message="before")
    ops().generate()
    data = bytes(history()[0].image.packed_file.data)
    bpy.ops.ed.undo()
    assert bytes(history()[0].image.packed_file.data) == data
    bpy.ops.preferences.addon_disable(module=PACKAGE)
    bpy.ops.preferences.addon_enable(module=PACKAGE)
    assert bytes(history()[0].image.packed_file.data) == data
    bpy.ops.ed.undo_push(message="after")
    bpy.ops.ed.undo()
    assert bytes(history()[0].image.packed_file.data) == data


def test_a_job_outlives_a_reload_of_the_add_on(ready: Any) -> None:
    job_id = begin(steps=20)
    pump_until(denoising(ready, job_id))
    bpy.ops.preferences.addon_disable(module=PACKAGE)
    bpy.ops.preferences.addon_enable(module=PACKAGE)
    state = module("addon.state").get()
    pump_until(lambda: not state.jobs)
    assert [entry.job_id for entry in history()] == [job_id]


@pytest.mark.parametrize("damage", ["missing", "truncated", "not GGUF"])
def test_a_damaged_model_gets_a_sentence(ready: Any, models: Path, damage: str) -> None:
    import shutil

    name = damage.replace(" ", "-")
    broken = models / name
    shutil.copytree(models / "random-weights", broken)
    weights = broken / "transformer.gguf"
    try:
        match damage:
            case "missing":
                weights.unlink()
            case "truncated":
                os.truncate(weights, weights.stat().st_size // 2)
            case _:
                weights.write_bytes(b"just some text, " * 100)
        before = session_digest()
        with pytest.raises(RuntimeError) as raised:
            ops().generate(model=name, seed=1)
        assert "Traceback" not in str(raised.value) and len(str(raised.value).splitlines()) <= 2
        assert ready.failure.kind in ("model_missing", "model_broken", "model_unsupported") and ready.failure.hint
        assert differences(before, session_digest()) == []
    finally:
        shutil.rmtree(broken)


def test_blenders_process_never_loads_the_engine(ready: Any) -> None:
    ops().generate()
    ops().show_controls()
    assert {"torch", "diffusers", "transformers", "PIL", "safetensors"} & set(sys.modules) == set()


def test_a_part_of_a_picture_is_painted_anew(ready: Any) -> None:
    import numpy as np

    ops().generate(seed=1, controls="depth")
    first = history()[0].image
    mask = bpy.data.images.new("mask", 128, 96)
    values = np.ones((96, 128, 4), np.float32)
    values[:48, :, :3] = 0.0  # rows from below: the lower half stays
    mask.pixels.foreach_set(values.ravel())
    ops().generate(seed=2, prompt="a red cube", controls="depth", image=first.name, mask="mask", strength=0.8)
    before, after = (pixels(image).reshape(96, 128, 4)[..., :3] for image in (first, history()[-1].image))
    assert (before[:48] == after[:48]).all() and np.abs(before[48:] - after[48:]).mean() > 0.02
    ops().generate(seed=2, controls="depth", image=first.name, strength=0.5, negative_prompt="fog")
    changed = pixels(history()[-1].image).reshape(96, 128, 4)[..., :3]
    assert np.abs(before - changed).mean() > 0.005
