"""A tiny model with random weights, made once for all tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from backend.production import Production

# Tensors this small gain nothing from threads, and the threads' waiting costs much on a machine that is shared.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder that holds "random-weights". Not to be written to."""
    from tools.random_model import write_random_model

    folder = tmp_path_factory.mktemp("models")
    write_random_model(folder)
    return folder


@pytest.fixture
def own_models_folder(models_folder: Path, tmp_path: Path) -> Path:
    """A copy of the models folder, to damage."""
    return Path(shutil.copytree(models_folder, tmp_path / "models"))


@pytest.fixture(scope="session")
def production(models_folder: Path) -> Production:
    return Production(models_folder, "cpu")
