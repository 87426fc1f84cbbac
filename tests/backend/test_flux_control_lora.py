"""A control LoRA beside a dev transformer is a Depth model: against diffusers' pipeline on merged weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

from backend.flux.model import FluxModel
from backend.flux.quantised_linear import LowRankLinear
from backend.models import find_model
from backend.production import Production
from backend.wire import Control, GenerationRequest
from tests.backend.diffusers_reference import REQUEST, control_inputs, load_engine, ours
from tests.backend.families_reference import controlled
from tests.backend.random_lora import FILE, LORA_MODEL, RandomLora, random_control_lora, write_lora
from tests.backend.samples import failed, made, run, texts_of
from tools.random_model import transformer_config

SMALL = GenerationRequest("a red cube", 64, 64, steps=1, model=LORA_MODEL, controls=(Control("depth", 1.0),))


@pytest.fixture(scope="module")
def lora(reference: FluxTransformer2DModel) -> RandomLora:
    return random_control_lora(reference.state_dict())


@pytest.fixture
def own_folder(families_folder: Path, tmp_path: Path) -> Path:
    """A models folder with a copy of the model with a LoRA, to change."""
    shutil.copytree(families_folder / LORA_MODEL, tmp_path / LORA_MODEL)
    return tmp_path


@pytest.mark.parametrize("naming", ["by_bfl", "by_diffusers"])
def test_equal_to_diffusers(own_folder: Path, lora: RandomLora, naming: str) -> None:
    write_lora(own_folder / LORA_MODEL / FILE, getattr(lora, naming))
    folder = find_model(own_folder, LORA_MODEL)
    model = load_engine(folder)
    merged = FluxTransformer2DModel(**transformer_config("depth-dev")).eval()
    merged.load_state_dict(lora.state)
    depth = replace(control_inputs(folder, [("depth", 1.0, 0.0, 1.0)])[0], folder=None, mode=None)
    (tokens, _), (wanted, _) = ours(model, REQUEST, [depth]), controlled(model, merged, REQUEST, depth)
    assert (tokens - wanted).norm() <= 1e-3 * wanted.norm()
    assert_packed_stay_packed(model)


def assert_packed_stay_packed(model: FluxModel) -> None:
    layers = [layer for layer in model.transformer.model.modules() if isinstance(layer, LowRankLinear)]
    assert {getattr(layer.base, "type_name", "") for layer in layers} >= {"Q8_0"}
    assert model.transformer.model.x_embedder.in_features == 128


def test_through_production(families_folder: Path) -> None:
    result = made(run(Production(families_folder, "cpu"), SMALL))
    assert FILE in json.loads(texts_of(result.png)["grisaille:digests"])["weights"]


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(("do", "kind"), [(Path.unlink, "model_missing"), (cut_off, "model_broken")])
def test_a_file_that_is_not_whole(own_folder: Path, do: Callable[[Path], object], kind: str) -> None:
    do(own_folder / LORA_MODEL / FILE)
    failure = failed(run(Production(own_folder, "cpu"), SMALL))
    assert failure.kind == kind and FILE in failure.message and failure.hint


def without(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in tensors.items() if key != name}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: without(without(t, "img_in.lora_A.weight"), "img_in.lora_B.weight"), "not one that takes a control"),
        (lambda t: without(t, "txt_in.lora_B.weight"), "without its other half"),
        (lambda t: {**t, "txt_in.lora_A.weight": torch.zeros(4, 7)}, "does not fit the transformer's layer"),
        (lambda t: {**t, "txt_in.lora_A.weight": torch.zeros(5, 64)}, "other half does not fit"),
        (lambda t: {**t, "vae.decoder.weight": torch.zeros(4, 4)}, "which a control LoRA does not have"),
        (lambda t: {**t, "double_blocks.0.magic.lora_A.weight": torch.zeros(4, 64),
                    "double_blocks.0.magic.lora_B.weight": torch.zeros(64, 4)}, "which FLUX.1 does not have"),
        (lambda t: {**t, "double_blocks.9.img_mlp.0.lora_A.weight": torch.zeros(4, 128),
                    "double_blocks.9.img_mlp.0.lora_B.weight": torch.zeros(512, 4)}, "transformer does not have"),
        (lambda t: {**t, "single_blocks.0.norm.key_norm.scale": torch.ones(3)}, "has a norm"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit(own_folder: Path, lora: RandomLora, change: Any, said: str) -> None:
    write_lora(own_folder / LORA_MODEL / FILE, change(lora.by_bfl))
    failure = failed(run(Production(own_folder, "cpu"), SMALL))
    assert failure.kind == "model_unsupported" and said in failure.message and failure.hint


@pytest.mark.parametrize(
    ("change", "said"),
    [({"variant": "fill-dev"}, "makes no fill-dev model"), ({"variant": None}, "does not say which variant")],
)
def test_a_description_that_does_not_fit(own_folder: Path, change: dict[str, Any], said: str) -> None:
    path = own_folder / LORA_MODEL / "model.json"
    data = {name: value for name, value in {**json.loads(path.read_text()), **change}.items() if value is not None}
    path.write_text(json.dumps(data))
    failure = failed(run(Production(own_folder, "cpu"), SMALL))
    assert failure.kind == "model_broken" and said in failure.message and failure.hint
