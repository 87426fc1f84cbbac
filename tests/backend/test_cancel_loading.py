"""Cancel while a model is loaded: within a tensor, wherever it is, and without harm to what comes after."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.models import find_model
from backend.production import Production
from backend.wire import Control, Failure, FailureKind, GenerationRequest, GenerationResult, Progress
from tests.backend.samples import failed, kept_model, made, run

REQUEST = GenerationRequest("a red cube", 64, 64, steps=1, model="random-weights", controls=(Control("depth"),))
Outcome = GenerationResult | Failure


class Asked:
    """Counts how often the engine asks in each stage, and says yes from the n-th time on."""

    def __init__(self, stage: str, yes_from: int) -> None:
        self.stage, self.yes_from = stage, yes_from
        self.count = 0
        self.now = ""

    def tell(self, progress: Progress) -> None:
        self.now = progress.stage

    def __call__(self) -> bool:
        self.count += self.now == self.stage
        return self.count >= self.yes_from


def counted(models_folder: Path, stage: str, yes_from: int = 10**9) -> tuple[Asked, Production, Outcome]:
    asked, engine = Asked(stage, yes_from), Production(models_folder, "cpu")
    return asked, engine, run(engine, REQUEST, on_progress=asked.tell, is_cancelled=asked)


def test_loading_asks_at_every_layer(models_folder: Path) -> None:
    asked, engine, result = counted(models_folder, "loading")
    made(result)
    layers = len(list(kept_model(engine).transformer.model.modules()))
    assert asked.count > layers > 30


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_it_stops_at_the_next_tensor_and_the_model_loads_again(models_folder: Path, share: float) -> None:
    whole = counted(models_folder, "loading")[0].count
    place = 1 + round(share * (whole - 1))
    asked, engine, result = counted(models_folder, "loading", place)
    assert failed(result).kind == FailureKind.CANCELLED
    assert asked.count == place and asked.now == "loading", "not one tensor more"
    wanted = made(run(Production(models_folder, "cpu"), REQUEST)).png
    assert made(run(engine, REQUEST)).png == wanted


@pytest.mark.parametrize("weights", ["Q8_0", ""])
def test_a_net_that_is_packed_can_be_stopped(own_models_folder: Path, weights: str) -> None:
    path = own_models_folder / "random-weights" / "model.json"
    path.write_text(path.read_text().replace('"kinds"', f'"weights": "{weights}", "kinds"'))
    assert {net.weights for net in find_model(own_models_folder, "random-weights").controlnets} == {weights}
    whole = counted(own_models_folder, "control")[0].count
    if not weights:
        assert whole < 10, "diffusers loads it in one go"
        return
    assert whole > 30
    asked, engine, result = counted(own_models_folder, "control", whole // 2)
    assert failed(result).kind == FailureKind.CANCELLED and asked.count == whole // 2
    assert made(run(engine, REQUEST)).png == made(run(Production(own_models_folder, "cpu"), REQUEST)).png
