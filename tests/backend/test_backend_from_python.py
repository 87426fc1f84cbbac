"""The names that scripts import from `backend`: what they do, and what they say when it cannot be done."""

from __future__ import annotations

import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import pytest
import torch

import backend
from backend import (
    CONTROLNETS,
    MODEL_VARIANTS,
    PIPELINE_SETTINGS,
    RECOMMENDED_SAMPLING,
    Control,
    FailureError,
    GenerationRequest,
    create_production_pipeline,
    diagnose_generation_failure,
)
from backend.flux.samplers import SAMPLERS as FLUX_SAMPLERS
from backend.wire.request import SAMPLERS, SCHEDULES
from tests.backend.samples import make_maps, pixels

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = "random-weights"


def test_every_name_is_there_and_importing_loads_nothing() -> None:
    heavy = "('torch', 'numpy', 'diffusers', 'PIL')"
    code = f"import sys, backend; assert not [n for n in {heavy} if n in sys.modules]"
    code += "; [getattr(backend, name) for name in backend.__all__]"
    code += f"; assert not [n for n in {heavy} if n in sys.modules]"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        attrgetter("nothing")(backend)


def test_a_pipeline_paints_with_controls(models_folder: Path, tmp_path: Path) -> None:
    pipeline = create_production_pipeline(MODEL, models_folder, "cpu")
    request = pipeline.request("a red cube", width=64, height=64, controls=(Control("depth"),))
    assert (request.steps, request.guidance, request.model) == (4, 3.5, MODEL), "as the model's description says"
    fractions: list[float] = []
    result = pipeline.generate(request, make_maps(64, 64), lambda progress: fractions.append(progress.fraction))
    assert fractions == sorted(fractions) and 0 < fractions[-1] < 1
    saved = result.save(tmp_path / "picture.png")
    assert saved.read_bytes() == result.png
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grisaille-maps", "picture.png"]
    assert pixels(result.png).shape == (64, 64, 3)


def test_a_picture_can_be_looked_at(models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    pipeline = create_production_pipeline(MODEL, models_folder, "cpu")
    path = pipeline.generate(pipeline.request("a red cube", width=64, height=64, steps=1)).show()
    assert opened == [path.as_uri()] and path.stat().st_size > 0
    path.unlink()


def test_what_cannot_be_done_is_said(models_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FailureError, match="no model called 'other'"):
        create_production_pipeline("other", models_folder)
    pipeline = create_production_pipeline(MODEL, models_folder, "cpu")
    with pytest.raises(FailureError, match="prompt is empty"):
        pipeline.generate(pipeline.request(" "))
    with pytest.raises(FailureError, match="cancelled"):
        pipeline.generate(pipeline.request("a cube", width=64, height=64), is_cancelled=lambda: True)
    request = pipeline.request("a cube", width=64, height=64, steps=1)
    with pytest.raises(OSError, match="No such file"):
        pipeline.generate(request).save(tmp_path / "nowhere" / "picture.png")


def test_an_exception_becomes_a_sentence() -> None:
    assert diagnose_generation_failure(MemoryError()).kind == "out_of_memory"
    failure = diagnose_generation_failure(ValueError("x"))
    assert diagnose_generation_failure(failure) is failure and "ValueError" in failure.message


def test_the_tables_of_settings() -> None:
    assert (PIPELINE_SETTINGS["Q8_0"].steps, PIPELINE_SETTINGS["Q6_K"].steps) == (15, 20)
    assert (PIPELINE_SETTINGS["turbo-alpha"].lora_scale, PIPELINE_SETTINGS["hyper-8"].lora_scale) == (1.0, 0.125)
    guidances = {name: variant.guidance for name, variant in MODEL_VARIANTS.items()}
    assert (guidances["depth-dev"], guidances["canny-dev"], guidances["fill-dev"]) == (10.0, 30.0, 30.0)
    assert MODEL_VARIANTS["schnell"].steps == 4 and not MODEL_VARIANTS["schnell"].has_guidance
    assert "normal" not in CONTROLNETS["union-pro-2"].modes and CONTROLNETS["union-pro"].modes["depth"] == 2
    for family in CONTROLNETS.values():
        for value in (family.strength, family.end):
            assert not isinstance(value, dict) or set(value) == set(family.modes)


def test_samplers_and_schedules_that_go_together() -> None:
    assert {pair.sampler for pair in RECOMMENDED_SAMPLING} == set(SAMPLERS)
    assert {pair.schedule for pair in RECOMMENDED_SAMPLING} <= set(SCHEDULES)
    default = RECOMMENDED_SAMPLING[0]
    assert (default.sampler, default.schedule) == (GenerationRequest("").sampler, GenerationRequest("").schedule)
    assert default.steps[0] <= GenerationRequest("").steps <= default.steps[1]
    for pair in RECOMMENDED_SAMPLING:
        sigmas = torch.linspace(1.0, 0.0, pair.steps[0] + 1)
        calls = len(FLUX_SAMPLERS[pair.sampler].calls(sigmas).levels)
        # The adaptive sampler declares every place that it may call, and calls one a step at most.
        assert pair.sampler == "adaptive" or abs(calls - pair.calls * pair.steps[0]) <= 1
