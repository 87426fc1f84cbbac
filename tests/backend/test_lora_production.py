"""LoRAs of a Request, through the production: found, used, told, and gone with the next Request."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from diffusers import FluxTransformer2DModel

from backend.production import Production
from backend.wire import GenerationRequest, GenerationResult, LoRA
from tests.backend.lora_samples import random_ranks, write_lora
from tests.backend.samples import failed, kept_model, made, pixels, run, texts_of

REQUEST = GenerationRequest("a red cube", 64, 64, seed=2, steps=2, model="random-weights")


@pytest.fixture
def models(own_models_folder: Path, reference: FluxTransformer2DModel) -> Path:
    """A models folder: one LoRA for all models, one of the model's own, and one of the same name in both."""
    state = reference.state_dict()
    own = own_models_folder / "random-weights" / "loras"
    for seed, path in enumerate(
        (own_models_folder / "loras" / "ink", own_models_folder / "loras" / "both", own / "both", own / "oil")
    ):
        write_lora(path.with_suffix(".safetensors"), random_ranks(state, seed))
    return own_models_folder


def painted(production: Production, *loras: LoRA) -> GenerationResult:
    return made(run(production, replace(REQUEST, loras=loras)))


def test_pictures_with_and_without(models: Path) -> None:
    production = Production(models, "cpu")
    before = painted(production)
    model = kept_model(production)
    with_ink, with_more = painted(production, LoRA("ink", 0.5)), painted(production, LoRA("ink", 1.0))
    both = painted(production, LoRA("ink", 0.5), LoRA("oil", -0.5))
    after = painted(production)
    assert kept_model(production) is model, "nothing is loaded again"
    assert (pixels(before.png) == pixels(after.png)).all()
    pictures = [pixels(result.png).astype(int) for result in (before, with_ink, with_more, both)]
    assert all(np.abs(a - b).mean() > 1.0 for i, a in enumerate(pictures) for b in pictures[:i])
    assert "loras" not in before.plan and "loras" not in after.plan
    assert set(both.plan["loras"]) == {"ink", "oil"} and "rank 4" in both.plan["loras"]["ink"]
    fresh = painted(Production(models, "cpu"), LoRA("ink", 0.5), LoRA("oil", -0.5))
    assert (pixels(fresh.png) == pixels(both.png)).all(), "what was used before leaves no trace"


def test_what_a_picture_remembers_and_whose_lora_comes_first(models: Path) -> None:
    result = painted(Production(models, "cpu"), LoRA("both", 0.7), LoRA("ink"))
    texts = texts_of(result.png)
    files = models / "random-weights" / "loras" / "both.safetensors", models / "loras" / "ink.safetensors"
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert json.loads(texts["grisaille:digests"])["loras"] == digests
    request = GenerationRequest.from_json(json.loads(texts["grisaille:request"]))
    assert request.loras == (LoRA("both", 0.7), LoRA("ink"))
    assert set(json.loads(texts["grisaille:plan"])["loras"]) == {"both", "ink"}


def test_one_that_is_not_there_is_named_with_those_that_are(models: Path) -> None:
    production = Production(models, "cpu")
    failure = failed(run(production, replace(REQUEST, loras=(LoRA("woodcut"),))))
    assert failure.kind == "model_missing" and "'woodcut'" in failure.message
    assert "both, oil, ink" in failure.hint and production._keeper.loaded is None, "said before anything is loaded"


def test_one_for_another_model_leaves_the_model_as_it_was(models: Path, reference: FluxTransformer2DModel) -> None:
    production = Production(models, "cpu")
    before = painted(production, LoRA("ink"))
    wrong = {name: (down[:, :32], up) for name, (down, up) in random_ranks(reference.state_dict(), 1).items()}
    write_lora(models / "loras" / "wrong.safetensors", wrong)
    failure = failed(run(production, replace(REQUEST, loras=(LoRA("ink"), LoRA("wrong")))))
    assert failure.kind == "model_unsupported" and "The LoRA wrong is for another model" in failure.message
    assert (pixels(painted(production, LoRA("ink")).png) == pixels(before.png)).all()


def test_a_kept_picture_is_found_by_its_loras_too(
    models: Path, reference: FluxTransformer2DModel, tmp_path: Path
) -> None:
    """By name, strength and the file's bytes."""
    production = Production(models, "cpu", cache_folder=tmp_path)
    first, same = painted(production, LoRA("ink", 0.5)), painted(production, LoRA("ink", 0.5))
    assert same.plan.get("from_cache") and same.png == first.png
    stronger, plain = painted(production, LoRA("ink", 1.0)), painted(production)
    write_lora(models / "loras" / "ink.safetensors", random_ranks(reference.state_dict(), 9))
    other = painted(production, LoRA("ink", 0.5))
    assert not any(one.plan.get("from_cache") for one in (first, stronger, plain, other))
    assert len({one.png for one in (first, stronger, plain, other)}) == 4
