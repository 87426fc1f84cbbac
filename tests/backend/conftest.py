"""A tiny model with random weights, made once for all tests."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backend.models import ModelFolder, find_model
from backend.production import Production
from tests.backend.samples import CONFIG

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel

    from backend.flux.model import FluxModel

FAMILIES = ("dev", "depth-dev", "fill-dev", "kontext-dev", "redux-dev")
# Tensors this small gain nothing from threads, and the threads' waiting costs much on a machine that is shared.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder that holds "random-weights". Not to be written to."""
    from tools.random_model import write_random_model

    folder = tmp_path_factory.mktemp("models")
    write_random_model(folder)
    return folder


@pytest.fixture(scope="session")
def families_folder(tmp_path_factory: pytest.TempPathFactory, reference: FluxTransformer2DModel) -> Path:
    """A models folder that holds a random model of each of FLUX.1's families. Not to be written to."""
    from tests.backend.random_lora import write_lora_model
    from tools.random_model import write_random_model

    folder = tmp_path_factory.mktemp("families")
    for variant in FAMILIES:
        write_random_model(folder, variant=variant)
    write_lora_model(folder, reference.state_dict())
    return folder


@pytest.fixture
def own_models_folder(models_folder: Path, tmp_path: Path) -> Path:
    """A copy of the models folder, to damage."""
    return Path(shutil.copytree(models_folder, tmp_path / "models"))


@pytest.fixture(scope="session")
def production(models_folder: Path) -> Production:
    return Production(models_folder, "cpu")


@pytest.fixture(scope="session")
def folder(models_folder: Path) -> ModelFolder:
    return find_model(models_folder, "random-weights")


@pytest.fixture(scope="session")
def model(folder: ModelFolder) -> FluxModel:
    """The random model in our engine."""
    from tests.backend.diffusers_reference import load_engine

    return load_engine(folder)


@pytest.fixture(scope="session")
def reference() -> FluxTransformer2DModel:
    """The random model's transformer in diffusers."""
    from tests.backend.diffusers_reference import reference_transformer

    return reference_transformer()


@pytest.fixture(scope="session")
def plain() -> FluxTransformer2DModel:
    """A small transformer with random weights. Not to be changed."""
    from diffusers import FluxTransformer2DModel

    from tools.random_model import randomised

    return randomised(FluxTransformer2DModel(**CONFIG), 0)


@pytest.fixture
def config_path(tmp_path: Path) -> Path:
    """Its config.json."""
    path = tmp_path / "transformer" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"_class_name": "FluxTransformer2DModel", "_diffusers_version": "0.30.0", **CONFIG}))
    return path
