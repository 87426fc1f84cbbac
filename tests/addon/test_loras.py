"""The list of LoRAs in the panel, in scripts and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
import pytest

from tests.addon.fakes import FakeLink, module, ops, scene
from tests.addon.test_ui import Layout, drawn

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
HYPER = "Hyper-FLUX.1-dev-8steps-lora"


@pytest.fixture
def models(fake_link: FakeLink, tmp_path: Path) -> Path:
    """The models folder, with LoRAs in it: two for all models, and one of the model's own that tells what it is."""
    folder = tmp_path / "models"
    put(folder / "loras" / "ink.safetensors", {})
    put(folder / "loras" / f"{HYPER}.safetensors", {})
    put(folder / "tiny" / "loras" / "fast.safetensors", {"__metadata__": {"ss_output_name": "FLUX.1-Turbo-Alpha"}})
    return folder


def put(path: Path, header: dict[str, Any]) -> None:
    """A safetensors file with nothing but its table."""
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text)


def listed() -> list[tuple[str, float]]:
    return [(item.name, round(item.strength, 4)) for item in scene().grisaille.loras]


def menu() -> list[str]:
    shown: list[str] = []
    kind: Any = bpy.types.GRISAILLE_MT_loras  # pyright: ignore[reportAttributeAccessIssue]
    kind.draw(type("Menu", (), {"layout": Layout(shown)})(), bpy.context)
    return [text for text in shown if not text.startswith("op:")]


def test_without_any_the_panel_says_where_they_go(fake_link: FakeLink) -> None:
    words = " ".join(drawn("loras"))
    assert "a folder loras in the models folder" in words and menu() == []


def test_adding_weighting_and_removing(models: Path) -> None:
    assert menu() == ["fast", HYPER, "ink"]
    ops().lora_add(lora="ink")
    ops().lora_add(lora=HYPER)
    assert listed() == [("ink", 1.0), (HYPER, 0.125)], "the strength that its makers recommend"
    ops().lora_add(lora="ink")
    assert len(listed()) == 2 and menu() == ["fast"]
    shown = drawn("loras")
    assert {"ink", HYPER, "prop:strength", "op:grisaille.lora_remove"} <= set(shown)
    ops().lora_remove(lora="ink")
    ops().lora_remove(lora="never there")
    assert listed() == [(HYPER, 0.125)]


def test_one_that_is_not_there_cannot_be_added_and_one_that_is_gone_is_marked(models: Path) -> None:
    with pytest.raises(RuntimeError, match=r"no LoRA called 'oil'.*models folder"):
        ops().lora_add(lora="oil")
    ops().lora_add(lora="ink")
    (models / "loras" / "ink.safetensors").unlink()
    assert "ink (missing)" in drawn("loras")


@pytest.mark.parametrize("name", [HYPER, "fast"])
def test_the_steps_of_a_few_step_lora(models: Path, name: str) -> None:
    chosen = scene().grisaille
    chosen.steps, chosen.guidance, chosen.sampler = 28, 1.0, "heun"
    ops().lora_add(lora="ink")
    assert "op:grisaille.lora_steps" not in drawn("loras")
    ops().lora_add(lora=name)
    shown = drawn("loras")
    assert "op:grisaille.lora_steps" in shown and "made for 8 steps." in " ".join(shown) and not pressed(shown)
    ops().lora_steps(lora=name)
    assert (chosen.steps, chosen.guidance, chosen.sampler, chosen.speed) == (8, 3.5, "euler", "exact")
    shown = drawn("loras")
    assert pressed(shown) == ["8 Steps"] and "made for 8 steps." not in " ".join(shown)
    with pytest.raises(RuntimeError, match="'ink' is not known"):
        ops().lora_steps(lora="ink")


def pressed(shown: list[str]) -> list[str]:
    return [text.removeprefix("pressed:") for text in shown if text.startswith("pressed:")]


def test_a_hybrid_is_a_button_of_its_own(models: Path) -> None:
    settings, chosen = module("addon.settings"), scene().grisaille
    for name in ("ink", "fast", HYPER):
        ops().lora_add(lora=name)
    ops().lora_steps(lora=HYPER, hybrid=True)
    assert pressed(drawn("loras")) == ["8 Steps, 8-Bit"]
    request = settings.to_request(chosen, 64, 64, 1)
    assert (request.steps, request.speed) == (8, "eight_bit")
    assert [lora.name for lora in request.loras] == ["ink", HYPER], "one for few steps at a time"
    chosen.speed = "fast"
    assert pressed(drawn("loras")) == ["8 Steps, 8-Bit"], "8-bit products are among what it does"
    ops().lora_steps(lora=HYPER)
    assert (chosen.speed, pressed(drawn("loras"))) == ("exact", ["8 Steps"])
    chosen.speed = "short_cfg"
    ops().lora_steps(lora=HYPER)
    assert chosen.speed == "short_cfg", "what has nothing to do with it stays"


def test_the_tooltips_say_what_it_gives_and_costs(models: Path) -> None:
    ops().lora_add(lora=HYPER)
    kind: Any = bpy.types.GRISAILLE_OT_lora_steps  # pyright: ignore[reportAttributeAccessIssue]

    def tooltip(lora: str, hybrid: bool) -> str:
        return kind.description(bpy.context, SimpleNamespace(lora=lora, hybrid=hybrid))

    plain, hybrid = tooltip(HYPER, False), tooltip(HYPER, True)
    assert "in 8 steps, 3.5 times fewer" in plain and "less variety" in plain
    error = module("backend.wire.speeds").SPEEDS["eight_bit"].error
    assert hybrid.startswith(plain) and error in hybrid and "graphics card" in hybrid
    assert "few steps" in tooltip("gone", False)


def test_they_reach_the_request_and_come_back(models: Path) -> None:
    settings, wire, chosen = module("addon.settings"), module("backend.wire"), scene().grisaille
    chosen.prompt = "moss"
    ops().lora_add(lora="ink")
    ops().lora_add(lora="fast")
    chosen.loras["ink"].strength = -0.35
    request = settings.to_request(chosen, 64, 64, 1)
    request.check()
    assert request.loras == (wire.LoRA("ink", -0.35), wire.LoRA("fast", 1.0))
    other = bpy.data.scenes.new("other").grisaille  # pyright: ignore[reportAttributeAccessIssue]
    settings.from_request(other, request)
    assert settings.to_request(other, 64, 64, 1).loras == request.loras
    chosen.loras["ink"].use = False
    assert settings.to_request(chosen, 64, 64, 1).loras == (wire.LoRA("fast", 1.0),)


def test_from_scripts(models: Path, fake_link: FakeLink) -> None:
    wire = module("backend.wire")
    ops().lora_add(lora="fast")

    def asked(**given: object) -> Any:
        ops().generate(prompt="moss", controls="none", width=64, height=64, **given)
        return fake_link.submitted[scene().grisaille_history[-1].job_id][0]

    assert asked().loras == (wire.LoRA("fast", 1.0),)
    assert asked(loras="ink:0.4").loras == (wire.LoRA("ink", 0.4),), "in place of the scene's"
    assert asked(loras="none").loras == ()
    request = asked(loras="ink:0.4", few_steps=HYPER, steps=6)
    assert request.loras == (wire.LoRA(HYPER, 0.125), wire.LoRA("ink", 0.4))
    assert (request.steps, request.guidance) == (6, 3.5), "what is given goes before what it was made for"
    with pytest.raises(RuntimeError, match="'ink' is not known as a LoRA that paints in few steps"):
        asked(few_steps="ink")
    hybrid = asked(few_steps="hyper-8-8bit")
    assert (hybrid.loras[0].name, hybrid.steps, hybrid.speed) == (HYPER, 8, "eight_bit")
    with pytest.raises(RuntimeError, match=r"Hyper, 16 steps is not there\. Get it from ByteDance/Hyper-SD"):
        asked(few_steps="hyper-16")


def test_from_the_command_line(models: Path) -> None:
    wire, cli = module("backend.wire"), module("addon.cli")
    base = ["generate", "--prompt", "moss", "--out", "a.png"]

    def request(*arguments: str) -> Any:
        return cli._order(cli.parser().parse_args([*base, *arguments])).request

    assert request("--lora", "ink:0.5", "--lora", "fast").loras == (wire.LoRA("ink", 0.5), wire.LoRA("fast", 1.0))
    few = request("--few-steps", "fast", "--lora", "ink")
    assert few.loras == (wire.LoRA("fast", 1.0), wire.LoRA("ink", 1.0)) and few.steps == 8
    assert request("--few-steps", HYPER, "--steps", "5").steps == 5
    hybrid = request("--few-steps", "turbo-alpha-8bit")
    assert (hybrid.loras, hybrid.steps, hybrid.speed) == ((wire.LoRA("fast", 1.0),), 8, "eight_bit")
    assert request("--few-steps", "turbo-alpha-8bit", "--speed", "exact").speed == "exact"
    for wrong in (("--lora", "../ink"), ("--lora", "ink:lots"), ("--few-steps", "ink")):
        with pytest.raises(wire.FailureError) as caught:
            request(*wrong)
        assert caught.value.failure.kind == "bad_request" and caught.value.failure.hint


def test_they_are_saved_with_the_file(models: Path, tmp_path: Path) -> None:
    ops().lora_add(lora=HYPER)
    path = str(tmp_path / "scene.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    ops().lora_remove(lora=HYPER)
    bpy.ops.wm.open_mainfile(filepath=path)
    assert listed() == [(HYPER, 0.125)] and scene().grisaille.loras[0].few_steps == "hyper-8"
