"""A pose as a control: ordered by scripts, by the panel and by the command line, with a fake link."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import bpy
import pytest

from tests.addon import rigs
from tests.addon.fakes import FakeLink, module, ops
from tests.addon.test_operators import SMALL

COMMAND = ["generate", "--prompt", "a dancer", "--size", "64x64", "--steps", "2", "--controls", "pose:0.9"]


def a_person_and_a_horse() -> None:
    """Where the factory scene's camera sees them."""
    rigs.person("mixamorig", "Dancer")
    rigs.quadruped("Horse")


def test_a_script_orders_a_pose(fake_link: FakeLink) -> None:
    rigs.person()
    assert ops().generate(prompt="a dancer", controls="pose:0.9,depth", **SMALL) == {"FINISHED"}
    request, maps, _origin = next(iter(fake_link.submitted.values()))
    assert [(control.kind, control.strength) for control in request.controls] == [("pose", 0.9), ("depth", 0.7)]
    assert maps.pose.shape == (1, 18, 3) and maps.pose[..., 2].any() and maps.depth.shape == (64, 64)
    assert module("addon.state").get().failure is None


def test_what_is_no_person_is_told_and_the_picture_is_made(fake_link: FakeLink) -> None:
    a_person_and_a_horse()
    assert ops().generate(prompt="a dancer", controls="pose", **SMALL) == {"FINISHED"}
    failure = module("addon.state").get().failure
    assert "The armature Horse cannot be read as a person" in failure.message and failure.hint
    bpy.data.objects.remove(bpy.data.objects["Horse"])
    ops().generate(prompt="a dancer", controls="pose", **SMALL)
    assert module("addon.state").get().failure is None


def test_without_people_a_script_gets_the_sentence(fake_link: FakeLink) -> None:
    with pytest.raises(RuntimeError, match="There is no armature"):
        ops().generate(prompt="a dancer", controls="pose", **SMALL)
    rigs.quadruped("Horse")
    with pytest.raises(RuntimeError, match="The armature Horse cannot be read as a person"):
        ops().generate(prompt="a dancer", controls="pose", **SMALL)
    assert fake_link.submitted == {}


def test_the_panels_switch_and_strength(fake_link: FakeLink) -> None:
    from tests.addon.test_ui import Layout

    chosen = bpy.context.scene.grisaille
    assert not chosen.use_pose, "only depth is on at first"
    chosen.use_pose, chosen.pose.strength = True, 0.8
    shown: list[str] = []
    bpy.types.GRISAILLE_PT_controls.draw(SimpleNamespace(layout=Layout(shown)), bpy.context)  # pyright: ignore
    assert "Pose" in shown and "prop:use_pose" in shown
    request = module("addon.settings").to_request(chosen, 64, 64, 1)
    assert [(control.kind, control.strength) for control in request.controls] == [("depth", 0.7), ("pose", 0.8)]


def test_the_command_line_takes_a_pose(fake_link: FakeLink, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_person_and_a_horse()
    assert module("addon.cli").main([*COMMAND, "--out", str(tmp_path / "out.png")]) == 0
    assert "The armature Horse cannot be read as a person" in capsys.readouterr().err
    (request, maps, _origin) = next(iter(fake_link.submitted.values()))
    assert request.controls[0].kind == "pose" and maps.pose.shape == (1, 18, 3)
