"""Pictures made larger by a real network: one that is painted, and images of the file."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from tests.addon.fakes import ops, scene
from tests.addon.test_enhance import colours, directions, image
from tests.end_to_end.conftest import ROOT
from tests.end_to_end.test_spine import history, pixels

WRITE = "import sys; from pathlib import Path; from tests.backend.enhance_samples import write_compact as write; "


@pytest.fixture
def network(models: Path, backend_python: Path) -> Iterator[str]:
    """Real-ESRGAN's compact network with random weights, in the user's folder."""
    path = models / "upscalers" / "tiny-x2.safetensors"
    code = f"{WRITE}write(Path(sys.argv[1]), scale=2)"
    subprocess.run([backend_python, "-c", code, str(path)], cwd=ROOT, check=True, capture_output=True)
    yield "tiny-x2"
    path.unlink()


def test_a_painted_picture_arrives_larger(ready: Any, network: str) -> None:
    ops().generate(seed=1, controls="depth")
    small = history()[-1].image
    chosen = scene().grisaille_enhancement
    chosen.use, chosen.scale, chosen.network = True, 2.0, network
    ops().generate(seed=1, controls="depth")
    large = history()[-1].image
    assert tuple(large.size) == (2 * small.size[0], 2 * small.size[1])
    # The very same enlargement as of the small picture's image.
    ops().enhance(image=small.name)
    again = history()[-1].image
    assert again.name.startswith(f"{small.name} x2") and np.array_equal(pixels(again), pixels(large))
    assert again["grisaille_view"] == small["grisaille_view"], "it can be projected from where it was seen"


def test_normals_stay_unit_and_without_a_network_the_next_step_is_said(ready: Any, network: str) -> None:
    image("bumps", np.rint(directions(24, 32) * 255) / 255, "Non-Color")
    ops().enhance(image="bumps", upscale=2.0)
    made = history()[-1].image
    assert tuple(made.size) == (64, 48) and made.colorspace_settings.name == "Non-Color"
    found = pixels(made).reshape(-1, 4)[:, :3] * 2.0 - 1.0
    assert np.abs(np.linalg.norm(found, axis=1) - 1.0).max() < 0.02
    image("wall", colours(8, 8))
    before = len(bpy.data.images)
    with pytest.raises(RuntimeError, match=r"no network called 'RealESRGAN_x4plus'.*upscalers"):
        ops().enhance(image="wall", upscaler="RealESRGAN_x4plus")
    assert len(bpy.data.images) == before
