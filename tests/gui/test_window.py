"""What only a real window shows: that Blender stays usable while a job runs."""

from __future__ import annotations

from typing import Any

LONGEST_CALLBACK = 0.010
GAP_RATIO = 1.3


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def test_blender_stays_usable_while_a_job_runs(blender_window: Any) -> None:
    answer = blender_window.run("smoothness")
    assert "error" not in answer, answer.get("error")
    assert answer["was_running"], "the job was over before the window had been watched"
    assert "timer" in answer["longest"]
    assert any(name.endswith(".draw") for name in answer["longest"]), "the panel was not drawn"
    slow = {name: seconds for name, seconds in answer["longest"].items() if seconds > LONGEST_CALLBACK}
    assert not slow, f"callbacks of ours that held Blender up, in seconds: {slow}"
    quiet, busy = percentile(answer["quiet"], 0.99), percentile(answer["busy"], 0.99)
    assert busy <= GAP_RATIO * quiet, f"99th percentile gap {busy * 1000:.0f} ms with a job, {quiet * 1000:.0f} without"


def test_a_picture_outlives_undo_reload_and_a_killed_backend(blender_window: Any) -> None:
    answer = blender_window.run("picture_arrives")
    assert "error" not in answer, answer.get("error")
    assert answer["shown"] == ["Grisaille a wooden cube"], "no Image Editor was open, and none opened"
    assert answer["after_undo"], "the picture left the history with Ctrl-Z"
    assert answer["shown_after_undo"] == answer["shown"]
    assert answer["after_reload"], "the picture left the history with a reload of the add-on"
    assert answer["said_dead_after"] <= 2.0, answer
    assert answer["torch"] == []


def test_a_render_that_runs_is_not_disturbed_by_captures(blender_window: Any) -> None:
    answer = blender_window.run("during_a_render")
    assert "error" not in answer, answer.get("error")
    assert answer["viewport"] and answer["camera"], answer
    assert "render" in answer["refused"] and "Wait" in answer["refused"], answer
    assert answer["still_rendering"], "the capture ended the user's render"
