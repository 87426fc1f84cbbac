"""One picture of each of FLUX.1's families, from a Blender scene through the real backend."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from tests.addon.fakes import ops
from tests.end_to_end.conftest import ROOT
from tests.end_to_end.test_spine import history, pixels

VARIANTS = ("depth-dev", "canny-dev", "fill-dev", "kontext-dev", "redux-dev")


@pytest.fixture(scope="module")
def families(models: Path, backend_python: Path) -> Iterator[None]:
    """A random model of each family, in the models folder for as long as these tests run: others take the first."""
    command = [backend_python, "-m", "tools.random_model", str(models), "--variant", *VARIANTS]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    yield
    for variant in VARIANTS:
        shutil.rmtree(models / f"random-{variant}")


@pytest.fixture
def photo() -> Any:
    """An image of two colours."""
    image = bpy.data.images.new("photo", 128, 96)
    values = np.ones((96, 128, 4), np.float32)
    values[:48, :, :3] = (0.8, 0.4, 0.2)
    values[48:, :, :3] = (0.2, 0.4, 0.8)
    image.pixels.foreach_set(values.ravel())
    return image


def painted() -> np.ndarray:
    """(96, 128, 3) of the last picture, rows from below."""
    return pixels(history()[-1].image).reshape(96, 128, 4)[..., :3]


def test_depth(families: None, ready: Any) -> None:
    ops().generate(seed=1, model="random-depth-dev", controls="depth:1")
    with_depth = painted()
    assert with_depth.std() > 0.02
    ops().generate(seed=1, model="random-depth-dev", controls="depth:1,normal:0.7")
    assert np.abs(painted() - with_depth).mean() > 0.005
    with pytest.raises(RuntimeError, match="whole and in all steps"):
        ops().generate(seed=1, model="random-depth-dev", controls="depth:0.5")


def test_canny(families: None, ready: Any) -> None:
    ops().generate(seed=1, model="random-canny-dev", controls="canny:1")
    with_canny = painted()
    ops().generate(seed=1, model="random-canny-dev", controls="canny:1,depth")
    assert with_canny.std() > 0.02 and np.abs(painted() - with_canny).mean() > 0.005
    with pytest.raises(RuntimeError, match="paints from a canny map"):
        ops().generate(seed=1, model="random-canny-dev", controls="depth")


def test_fill(families: None, ready: Any, photo: Any) -> None:
    mask = bpy.data.images.new("mask", 128, 96)
    values = np.ones((96, 128, 4), np.float32)
    values[:48, :, :3] = 0.0  # rows from below: the lower half stays
    mask.pixels.foreach_set(values.ravel())
    options = {"model": "random-fill-dev", "controls": "none", "image": "photo", "mask": "mask", "strength": 1.0}
    ops().generate(seed=1, **options)
    before = pixels(photo).reshape(96, 128, 4)[..., :3]
    assert np.abs(painted()[:48] - before[:48]).max() < 1.0 / 255.0
    assert np.abs(painted()[48:] - before[48:]).mean() > 0.02


def test_kontext(families: None, ready: Any, photo: Any) -> None:
    ops().generate(seed=1, model="random-kontext-dev", controls="none")
    alone = painted()
    ops().generate(seed=1, model="random-kontext-dev", controls="none", edit="photo")
    assert np.abs(painted() - alone).mean() > 0.005
    with pytest.raises(RuntimeError, match="cannot edit a picture by instruction"):
        ops().generate(seed=1, model="random-weights", controls="none", edit="photo")


def test_redux(families: None, ready: Any, photo: Any) -> None:
    ops().generate(seed=1, model="random-redux-dev", controls="depth")
    alone = painted()
    ops().generate(seed=1, model="random-redux-dev", controls="depth", reference="photo", reference_strength=0.8)
    assert np.abs(painted() - alone).mean() > 0.002
    with pytest.raises(RuntimeError, match="has no Redux"):
        ops().generate(seed=1, model="random-weights", controls="none", reference="photo")
