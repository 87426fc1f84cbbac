"""Prompts on their way through production and the engine: what is read, what is shown, what weights do to a picture."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.flux.model import FluxModel
from backend.flux.text import WeightedText
from backend.production import Production
from backend.wire import ControlMaps, FailureKind, GenerationRequest, GenerationResult
from tests.backend.samples import failed, made, pixels, run, texts_of

REQUEST = GenerationRequest("a red pot", 64, 64, seed=3, steps=2, model="random-weights")
SHOWN = replace(REQUEST, task="show_prompt")
NOTHING = ControlMaps()


def paint(production: Production, prompt: str, **more: object) -> GenerationResult:
    return made(run(production, replace(REQUEST, prompt=prompt, **more), NOTHING))  # pyright: ignore[reportArgumentType]


def apart(one: GenerationResult, other: GenerationResult) -> float:
    """The mean difference of two pictures, 0..255."""
    return float(np.abs(pixels(one.png).astype(int) - pixels(other.png)).mean())


def test_a_weight_of_one_and_escaped_brackets_are_the_plain_prompt_to_the_bit(production: Production) -> None:
    plain = paint(production, "a red pot")
    for same in ("a (red:1) pot", "(a red pot:1.0)", "a ([red]) pot"):
        assert (pixels(paint(production, same).png) == pixels(plain.png)).all(), same
    assert plain.request.prompt == plain.plan["prompt"] == "a red pot" and "note" not in plain.plan


def test_a_weight_moves_the_picture_the_further_the_more_it_is(production: Production) -> None:
    plain = paint(production, "a red pot")
    for weights in ((1.1, 1.3, 1.6, 2.0), (0.9, 0.7, 0.4, 0.1)):
        moved = [apart(paint(production, f"a (red:{weight}) pot"), plain) for weight in weights]
        assert moved == sorted(moved) and moved[0] > 0.0 and moved[-1] > 2 * moved[0], moved


def test_a_weight_of_nought_leaves_the_word_out(production: Production) -> None:
    without = paint(production, "a pot")
    assert apart(paint(production, "a (red:0) pot"), without) == 0.0
    assert apart(paint(production, "a (green and shiny:0) pot"), without) == 0.0
    assert apart(paint(production, "a red pot"), without) > 0.0


def test_weights_act_on_their_own_tokens_by_the_convention(model: FluxModel) -> None:
    words = WeightedText("a red pot", ((2, 5, 1.5),))
    plain, pooled = model.encode_prompt("a red pot")
    weighed, pooled_too = model.encode_prompt(words)
    empty, _ = model.encode_prompt("")
    offsets = model.text.t5_tokenizer(words.text, return_offsets_mapping=True)["offset_mapping"]
    inside = torch.zeros(plain.shape[1], dtype=torch.bool)
    for place, (start, end) in enumerate(offsets):
        inside[place] = bool(words.text[start:end].strip()) and start < 5 and end > 2
    assert inside.sum() == 4, "the mark of a word's start, r, e and d"
    assert torch.equal(weighed[0, ~inside], plain[0, ~inside]) and torch.equal(pooled, pooled_too)
    wanted = empty + 1.5 * (plain - empty)
    torch.testing.assert_close(weighed[0, inside], wanted[0, inside])


def test_a_token_of_two_weights_has_their_mean(model: FluxModel) -> None:
    words = WeightedText("\u00bd", ((0, 1, 3.0),))  # read as 1, a stroke and 2
    weights = model.text._token_weights(words)
    assert weights.max() == 3.0 and weights[len(model.text.t5_tokenizer(words.text).input_ids) :].eq(1.0).all()
    assert model.text._token_weights(WeightedText("a" * 500, ((0, 500, 2.0),)))[:-1].eq(2.0).all()


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=80), st.floats(0.1, 5.0), st.data())
def test_any_text_can_be_weighed(model: FluxModel, text: str, weight: float, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    spans = ((start, end, weight),) if end > start else ()
    weighed, _ = model.encode_prompt(WeightedText(text, spans))
    assert weighed.isfinite().all() and weighed.shape == model.encode_prompt(text)[0].shape


def test_a_negative_prompt_is_weighed_and_chosen_too(production: Production) -> None:
    def against(negative: str) -> GenerationResult:
        return paint(production, "a red pot", negative_prompt=negative, true_cfg=3.0)

    assert apart(against("(fog:1)"), against("fog")) == 0.0 < apart(against("(fog:1.5)"), against("fog"))
    chosen = against("{fog|rain}")
    assert chosen.plan["negative_prompt"] in ("fog", "rain")
    assert apart(chosen, against(chosen.plan["negative_prompt"])) == 0.0


def test_the_final_prompt_is_what_is_painted_and_the_users_is_kept(production: Production) -> None:
    request = replace(REQUEST, prompt="a {red|green|blue|white} pot", style="ink", enhance=True)
    first, again = (made(run(production, request, NOTHING)) for _ in range(2))
    assert first.png == again.png
    assert apart(first, paint(production, first.plan["prompt"])) == 0.0
    texts = texts_of(first.png)
    assert GenerationRequest.from_json(json.loads(texts["grisaille:request"])) == request == first.request
    assert texts["Description"] == request.prompt
    assert json.loads(texts["grisaille:plan"])["prompt"] == first.plan["prompt"]
    others = {paint(production, request.prompt, seed=seed, steps=1).plan["prompt"] for seed in range(12)}
    assert len(others) == 4


def test_a_prompt_that_is_cut_says_so_and_paints_what_is_left(production: Production) -> None:
    notes: list[str] = []
    request = replace(REQUEST, prompt="a red pot on a table " * 9, style="ink")
    result = made(run(production, request, NOTHING, on_progress=lambda progress: notes.append(progress.note)))
    assert "tokens of the 64 that T5 reads: it is cut before “" in result.plan["note"]
    # What is told begins with the plan's own lines.
    assert result.plan["tokens"]["T5"][0] <= 64 and notes[-1].endswith(f"\n{result.plan['note']}")
    assert apart(result, paint(production, result.plan["prompt"])) == 0.0


def test_every_stage_paints_the_same_words(production: Production) -> None:
    from backend.wire import Stage

    stages = (Stage(1.0, 2), Stage(1.0, 2, 0.5))
    request = replace(REQUEST, prompt="a {red|green|blue|white} (pot:1.3)", stages=stages)
    chosen = made(run(production, request, NOTHING))
    assert apart(chosen, made(run(production, replace(request, prompt=chosen.plan["prompt"]), NOTHING))) == 0.0


def test_show_prompt_tells_what_a_picture_would_be_painted_from(production: Production) -> None:
    request = replace(SHOWN, prompt="a {red|green} (pot:1.2)", style="photoreal", enhance=True)
    shown = made(run(production, request, NOTHING))
    painted = made(run(production, replace(request, task="text_to_image"), NOTHING))
    assert shown.png == b"" and shown.control_pngs == {} and shown.request == request
    assert shown.plan["prompt"] == painted.plan["prompt"] and shown.plan["tokens"] == painted.plan["tokens"]
    assert shown.plan["note"].startswith(painted.plan["note"]), "and advice behind it"
    assert "chosen by the seed" in shown.plan["note"] and "chosen by" not in painted.plan["note"]


def test_show_prompt_loads_no_weights(own_models_folder: Path) -> None:
    """It works even where the weights are not there, in a process that then has no torch."""
    for path in own_models_folder.rglob("*"):
        if path.suffix in (".safetensors", ".gguf"):
            path.unlink()
    code = f"""
import sys
from pathlib import Path
from backend.production import Production
from backend.wire import Control, ControlMaps, GenerationRequest
request = GenerationRequest("a red pot", 64, 64, task="show_prompt", model="random-weights", enhance=True,
                            controls=(Control("depth"),))
result = Production(Path({str(own_models_folder)!r})).run(request, ControlMaps(), on_progress=lambda progress: None,
                                                         on_preview=lambda image: None, is_cancelled=lambda: False)
assert result.plan["prompt"].startswith("a red pot, "), result
assert "torch" not in sys.modules and "diffusers" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("tokenizer_2/tokenizer.json", "{", FailureKind.MODEL_BROKEN),
        ("tokenizer_2/tokenizer.json", None, FailureKind.MODEL_MISSING),
        ("tokenizer/vocab.json", None, FailureKind.MODEL_MISSING),
        ("tokenizer/vocab.json", "[]", FailureKind.MODEL_BROKEN),
        ("tokenizer/tokenizer_config.json", None, FailureKind.MODEL_MISSING),
    ],
)
def test_a_tokenizer_that_cannot_be_read_is_named(
    own_models_folder: Path, name: str, text: str | None, kind: FailureKind
) -> None:
    path = own_models_folder / "random-weights" / name
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    failure = failed(run(Production(own_models_folder, "cpu"), SHOWN, NOTHING))
    assert failure.kind == kind and "Download" in failure.hint
    assert path.parent.name in failure.message


def test_new_tokenizer_files_are_read_again(own_models_folder: Path) -> None:
    production = Production(own_models_folder, "cpu")
    assert made(run(production, SHOWN, NOTHING)).plan["tokens"]["CLIP"] == [9, 77]
    config = own_models_folder / "random-weights" / "tokenizer" / "tokenizer_config.json"
    data = json.loads(config.read_text())
    config.write_text(json.dumps({**data, "model_max_length": 32}))
    assert made(run(production, SHOWN, NOTHING)).plan["tokens"]["CLIP"] == [9, 32]


def test_importing_the_room_of_prompts_loads_the_standard_library_alone() -> None:
    code = "import sys, backend.prompts; assert not {'torch', 'numpy', 'transformers', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "backend", "prompt", *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)


def test_the_command_shows_a_prompt(models_folder: Path, production: Production) -> None:
    words: tuple[str, ...] = (
        "a {red|green} (pot:1.2)",
        "--seed",
        "3",
        "--style",
        "ink",
        "--models",
        str(models_folder),
    )
    words += ("--model", "random-weights")
    done = command(*words)
    wanted = made(run(production, replace(SHOWN, prompt=words[0], style="ink"), NOTHING)).plan
    assert (done.returncode, done.stdout) == (0, wanted["prompt"] + "\n"), done.stderr
    assert f"Tokens: T5 {wanted['tokens']['T5'][0]} of 64, CLIP" in done.stderr and wanted["note"] in done.stderr
    assert json.loads(command(*words, "--json").stdout) == wanted


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        ([], 2, "required: prompt"),
        (["a pot", "--style", "wild"], 2, "There is no style called 'wild'. Use one of photoreal"),
        (["  "], 2, "The prompt is empty. Describe"),
        (["a pot", "--model", "nothing"], 1, "There is no model called 'nothing'."),
    ],
)
def test_the_command_called_wrongly(models_folder: Path, arguments: list[str], status: int, sentence: str) -> None:
    done = command(*arguments, "--models", str(models_folder))
    assert (done.returncode, done.stdout) == (status, "")
    assert sentence in done.stderr and "Traceback" not in done.stderr


def test_scripts_have_it_all_by_name(models_folder: Path) -> None:
    from backend import STYLES, TEMPLATES, create_production_pipeline, from_template

    pipeline = create_production_pipeline("random-weights", models_folder, "cpu")
    words = from_template(next(iter(TEMPLATES)), "a pot").prompt()
    shown = pipeline.show_prompt(pipeline.request(words, style=next(iter(STYLES))))
    assert shown.png == b"" and shown.plan["tokens"]["T5"][1] == 64 and "a pot" in shown.plan["prompt"]
