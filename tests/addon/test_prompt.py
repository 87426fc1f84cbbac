"""Style, Enhance and Show Prompt: in the panel, in scripts and on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
import pytest

from tests.addon.fakes import FakeLink, module, ops, scene
from tests.addon.test_ui import drawn

SMALL = {"width": 64, "height": 64, "steps": 2, "controls": "none"}

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def last(fake_link: FakeLink) -> tuple[object, object]:
    """The Request and the maps that were sent last."""
    request, maps, _ = list(fake_link.submitted.values())[-1]
    return request, maps


def test_every_style_can_be_chosen_and_none_is(fake_link: FakeLink) -> None:
    styles, properties = module("backend.wire.styles").STYLES, scene().grisaille.bl_rna.properties
    items = properties["style"].enum_items
    assert [item.identifier for item in items] == ["none", *styles]
    assert [item.name for item in items][1:] == [title for title, _ in styles.values()]
    assert (scene().grisaille.style, scene().grisaille.enhance) == ("none", False)


def test_style_and_enhance_reach_the_request_and_come_back(fake_link: FakeLink) -> None:
    settings, chosen = module("addon.settings"), scene().grisaille
    chosen.prompt = "moss"
    request = settings.to_request(chosen, 64, 64, 1)
    assert (request.style, request.enhance) == ("", False)
    chosen.style, chosen.enhance = "toon", True
    styled = settings.to_request(chosen, 64, 64, 1)
    styled.check()
    assert (styled.style, styled.enhance) == ("toon", True)
    settings.from_request(chosen, request)
    assert (chosen.style, chosen.enhance) == ("none", False)
    settings.from_request(chosen, styled)
    assert (chosen.style, chosen.enhance) == ("toon", True)


def test_scripts_name_a_style_over_the_scenes(fake_link: FakeLink) -> None:
    def asked(**given: object) -> tuple[str, bool]:
        ops().generate(prompt="a clay pot", **SMALL, **given)
        request = fake_link.submitted[bpy.context.scene.grisaille_history[-1].job_id][0]  # pyright: ignore
        return request.style, request.enhance

    assert asked() == ("", False)
    assert asked(style="ink", enhance=True) == ("ink", True)
    scene().grisaille.style, scene().grisaille.enhance = "felt", True
    assert asked() == ("felt", True)
    assert asked(style="none", enhance=False) == ("", False)
    with pytest.raises(TypeError, match='"wild" not found'):
        asked(style="wild")


def test_show_prompt_captures_nothing_and_is_seen_in_the_panel(fake_link: FakeLink) -> None:
    chosen, state = scene().grisaille, module("addon.state").get()
    for item in list(bpy.data.objects):
        bpy.data.objects.remove(item)  # no camera either
    chosen.prompt, chosen.style, chosen.start, chosen.strength = "a clay pot", "ink", "image_to_image", 0.5
    shown = drawn("generate")
    assert {"op:grisaille.show_prompt", "prop:style", "prop:enhance"} <= set(shown)
    assert ops().show_prompt() == {"FINISHED"}
    request, maps = last(fake_link)
    assert (request.task, request.prompt, request.style, request.controls) == ("show_prompt", "a clay pot", "ink", ())  # pyright: ignore
    assert maps.arrays() == {}  # pyright: ignore
    assert len(bpy.context.scene.grisaille_history) == 0 and not fake_link.on_disk and not state.jobs  # pyright: ignore
    words = " ".join(drawn("generate"))
    assert "a clay pot, well lit" in words and "Tokens: T5 9 of 512, CLIP 8 of 77" in words and "Look." in words
    for changed, value in (("prompt", "a pot"), ("style", "none"), ("enhance", True)):
        before = getattr(chosen, changed)
        setattr(chosen, changed, value)
        assert "well lit" not in " ".join(drawn("generate")), "it is of other words"
        setattr(chosen, changed, before)
    assert "well lit" in " ".join(drawn("generate"))


def test_show_prompt_in_a_window_returns_at_once(fake_link: FakeLink) -> None:
    jobs, state = module("addon.operators.jobs"), module("addon.state").get()
    scene().grisaille.prompt = "a clay pot"
    job_id = jobs.begin(bpy.context, jobs.show_prompt_order(jobs.order_from_settings(bpy.context)))
    assert "op:grisaille.cancel" in drawn("generate") and state.shown_prompt is None
    fake_link.finish(job_id)
    module("addon.results.arrivals").pump()
    assert state.shown_prompt.prompt == "a clay pot, well lit" and not fake_link.on_disk


@pytest.mark.parametrize("prompt", ["", "  "])
def test_an_empty_prompt_has_nothing_to_show(fake_link: FakeLink, prompt: str) -> None:
    scene().grisaille.prompt = prompt
    with pytest.raises(RuntimeError, match=r"The prompt is empty. Describe"):
        ops().show_prompt()
    assert fake_link.submitted == {}


def test_the_command_line_takes_a_style(
    fake_link: FakeLink, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", "--prompt", "a pot", "--size", "64x64", "--controls", "none", "--out", str(tmp_path / "a.png")]
    main, summary = module("addon.cli").main, tmp_path / "a.json"
    scene().grisaille.enhance = True
    for more, wanted in ((["--style", "clay", "--no-enhance"], ("clay", False)), ([], ("", True))):
        assert main([*words, *more, "--json", str(summary)]) == 0
        request = json.loads(summary.read_text())["request"]
        assert (request["style"], request["enhance"]) == wanted
    assert main([*words, "--style", "wild"]) == 2
    assert "invalid choice: 'wild'" in capsys.readouterr().err
