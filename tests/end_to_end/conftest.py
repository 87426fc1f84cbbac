"""Real Blender, the real backend in its own Python, and a whole tiny model of random weights."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.addon.conftest import factory, grisaille  # noqa: F401  (fixtures)

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="session")
def backend_python() -> Path:
    """The backend's Python: $GRISAILLE_PYTHON, else the repository's own environment."""
    own = ROOT / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    python = Path(os.environ.get("GRISAILLE_PYTHON") or own)
    assert python.exists(), f"no backend environment at {python}: python3 build.py test makes it"
    return python


@pytest.fixture(scope="session")
def models(backend_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with one model, `random-weights`."""
    folder = tmp_path_factory.mktemp("models")
    subprocess.run([backend_python, "-m", "tools.random_model", str(folder)], cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where results are kept and logs are written."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def one_backend(grisaille: ModuleType) -> Iterator[None]:  # noqa: F811
    """The tests share a backend, because its start takes seconds: it is closed at the end."""
    from tests.addon.fakes import module

    yield
    module("addon.state").get().close()


@pytest.fixture
def ready(
    factory: ModuleType,  # noqa: F811
    one_backend: None,
    backend_python: Path,
    models: Path,
    data_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Any]:
    """The add-on's state, with the backend's place set and a small picture in the settings."""
    import bpy

    from tests.addon.fakes import forget_all, module

    monkeypatch.setenv("GRISAILLE_PYTHON", str(backend_python))
    monkeypatch.setenv("GRISAILLE_MODELS", str(models))
    monkeypatch.setenv("GRISAILLE_DATA", str(data_folder))
    forget_all()
    shutil.rmtree(data_folder / "results", ignore_errors=True)
    chosen = bpy.context.scene.grisaille  # pyright: ignore[reportAttributeAccessIssue]
    chosen.prompt, chosen.size_mode, chosen.width, chosen.height, chosen.steps = "a clay pot", "CUSTOM", 128, 96, 2
    _settle()
    yield module("addon.state").get()
    state = module("addon.state").get()
    if state.link is not None:
        state.link.cancel_all()
        while state.link.jobs():
            time.sleep(0.05)
        state.link.poll()


def _settle() -> None:
    """Has Blender 4.5 work out which sockets are enabled: it puts that off until a node tree changes or is rendered."""
    import bpy

    for material in bpy.data.materials:
        if material.node_tree is not None:
            material.node_tree.nodes.remove(material.node_tree.nodes.new("NodeReroute"))
