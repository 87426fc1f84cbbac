"""The add-on's link from the staged tree, without Blender, with real backend processes that have a fake production."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import pytest

from tools.staging import stage

ROOT = Path(__file__).resolve().parent.parent.parent
STAGED = "grisaille_staged"
GIVE_UP_SECONDS = 60.0
"""A bound for a broken test, not a measure of speed."""


@pytest.fixture(scope="session")
def link_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """`addon.link` of the staged tree."""
    folder = tmp_path_factory.mktemp("staged")
    stage(folder / STAGED)
    sys.path.insert(0, str(folder))
    yield importlib.import_module(f"{STAGED}.addon.link")
    sys.path.remove(str(folder))


@pytest.fixture(scope="session")
def wire(link_module: ModuleType) -> ModuleType:
    """`backend.wire` of the staged tree: other classes than those of the repository's own."""
    return importlib.import_module(f"{STAGED}.backend.wire")


@pytest.fixture
def make_link(link_module: ModuleType, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Makes Links to a fake backend; `make_link(device=…, transport=…)` changes fields of the place."""
    links: list[Any] = []

    def make(**changes: Any) -> Any:
        place = {
            "python": Path(sys.executable),
            "models_folder": tmp_path / "models",
            "data_folder": tmp_path / "data",
            "program": (str(ROOT / "tests" / "fake_backend.py"),),
        }
        link = link_module.Link(link_module.BackendPlace(**{**place, **changes}))
        links.append(link)
        return link

    yield make
    for link in links:
        link.close()


@pytest.fixture
def link(make_link: Callable[..., Any]) -> Any:
    return make_link()


@pytest.fixture
def request_of(wire: ModuleType) -> Callable[..., Any]:
    """A small Request whose prompt tells the fake production what to do."""

    def make(prompt: str = "steps=2", **changes: Any) -> Any:
        return wire.GenerationRequest(**{"prompt": prompt, "width": 64, "height": 64, **changes})

    return make


@pytest.fixture
def maps(wire: ModuleType) -> Any:
    return wire.ControlMaps(depth=np.ones((64, 64), np.float32), normal=np.zeros((64, 64, 3), np.float32))


def until(condition: Callable[[], Any], what: str, seconds: float = GIVE_UP_SECONDS) -> Any:
    """Waits for `condition` to be true and gives its value; fails saying what never happened."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"never happened: {what}")
        time.sleep(0.01)
    return value


def events_until(link: Any, name: str) -> list[Any]:
    """Polls as a timer would, until an event of the class `name` has come; all the events up to then."""
    events: list[Any] = []

    def has_come() -> bool:
        events.extend(link.poll())
        return any(type(event).__name__ == name for event in events)

    until(has_come, name)
    return events


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
