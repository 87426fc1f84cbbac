"""Which model paints a Request that names none: a table of machines and models."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from backend.planning import Machine, choose_model
from backend.production import Production
from backend.wire import Control, FailureError, GenerationRequest
from tests.backend.plan_models import card, cpu, mac, model
from tests.backend.samples import failed, made, run

REQUEST = GenerationRequest("a cube", 64, 64, steps=1)
ALL = [
    model("dev-full", "BF16", "union-2"),
    model("dev-q8", "Q8_0"),
    model("dev-q4", "Q4_K_S"),
    model("schnell", "BF16", variant="schnell"),
    model("sample", "Q8_0", "union-2 normals lines", is_toy=True),
    model("fill", "Q8_0", variant="fill-dev"),
    model("kontext", "Q8_0", variant="kontext-dev"),
    model("depth", "Q8_0", variant="depth-dev"),
    model("redux", "Q8_0", variant="redux-dev"),
]
WHOLE_DEPTH = (Control("depth", 1.0),)


@pytest.mark.parametrize(
    ("machine", "changes", "wanted"),
    [
        (card(47.0), {}, "dev-full"),
        (card(15.6), {}, "dev-q8"),
        (card(7.2), {}, "dev-q4"),
        (card(3.0), {}, "dev-q4"),
        (card(1.8), {}, "sample"),
        (card(7.2, host=8.0), {"controls": (Control("canny"),)}, "sample"),
        (cpu(64.0), {}, "dev-full"),
        (cpu(32.0), {}, "dev-q8"),
        (cpu(8.0), {}, "sample"),
        (mac(0.0), {}, "dev-full"),
        (card(47.0), {"task": "inpaint", "strength": 0.5}, "fill"),
        (card(7.2), {"task": "inpaint", "strength": 0.5}, "fill"),
        (card(23.0), {"task": "edit"}, "kontext"),
        (card(3.0), {"task": "edit"}, "kontext"),
        (card(47.0), {"reference_strength": 1.0}, "redux"),
        (card(47.0), {"controls": (Control("canny"),)}, "dev-full"),
        (card(7.2), {"controls": (Control("canny"),)}, "dev-full"),
        (card(47.0), {"controls": (Control("normal"),)}, "sample"),
        (card(47.0), {"controls": (Control("line"),)}, "dev-full"),
        (card(23.0), {"controls": WHOLE_DEPTH}, "dev-full"),
        (card(15.6, host=16.0), {"controls": WHOLE_DEPTH}, "depth"),
        (card(23.0), {"controls": (Control("depth", 0.5),)}, "dev-full"),
    ],
)
def test_the_best_for_a_machine_and_a_request(machine: Machine, changes: dict, wanted: str) -> None:
    request = replace(REQUEST, **changes)
    chosen = choose_model(request, ALL, machine)
    assert chosen.folder.name == wanted and chosen.reason
    assert choose_model(request, ALL[::-1], machine) == chosen, "the order on disk does not matter"


def test_the_reason_says_what_was_weighed() -> None:
    assert choose_model(REQUEST, ALL, card(15.6)).reason == (
        "the best of 7 that fit, out of 7: 10.1 GB of 15.6 GB that are free on cuda"
    )
    assert choose_model(replace(REQUEST, task="edit"), ALL, card(3.0)).reason == "the only one here that can do this"
    assert "none fits 1.8 GB that are free on cuda" in choose_model(REQUEST, ALL[:3], card(1.8)).reason


def test_what_none_can_do_is_said() -> None:
    with pytest.raises(FailureError, match=r"'dev-full' .* cannot edit a picture by instruction"):
        choose_model(replace(REQUEST, task="edit"), ALL[:3], card(47.0))
    with pytest.raises(FailureError, match="no ControlNet for grey maps"):
        choose_model(replace(REQUEST, controls=(Control("grey"),)), ALL, card(47.0))
    with pytest.raises(FailureError, match="no model yet"):
        choose_model(REQUEST, [], card(47.0))


def test_the_result_names_the_model_that_ran(own_models_folder: Path) -> None:
    """Beside one with random weights there is always the sample model, which is the larger of the two."""
    first = made(run(Production(own_models_folder, "cpu"), REQUEST))
    assert first.request == replace(REQUEST, model="sample")
    assert "the best of 2 that fit" in first.plan["model_choice"]
    named = made(run(Production(own_models_folder, "cpu"), replace(REQUEST, model="sample")))
    assert "model_choice" not in named.plan and named.request == first.request
    shutil.copytree(own_models_folder / "random-weights", own_models_folder / "broken")
    (own_models_folder / "broken" / "model.json").write_text("{")
    shutil.copytree(own_models_folder / "random-weights", own_models_folder / "a-shell")
    (own_models_folder / "a-shell" / "transformer.gguf").unlink()
    shutil.copytree(own_models_folder / "random-weights", own_models_folder / "for-edits")
    description = own_models_folder / "for-edits" / "model.json"
    description.write_text(json.dumps({**json.loads(description.read_text()), "variant": "kontext-dev"}))
    several = made(run(Production(own_models_folder, "cpu"), REQUEST))
    assert several.request.model == "sample" and "the best of 3 that fit" in several.plan["model_choice"]


def test_no_model_gets_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.wire.model_names.shipped_models", lambda: tmp_path / "shipped")
    assert "There is no model in" in failed(run(Production(tmp_path, "cpu"), REQUEST)).message
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "model.json").write_text("{")
    assert "'bad' cannot be read" in failed(run(Production(tmp_path, "cpu"), REQUEST)).message
