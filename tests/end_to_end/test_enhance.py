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
from tests.addon.test_texturing import rendered
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


def test_the_larger_picture_is_what_is_projected(ready: Any, network: str, tmp_path: Path) -> None:
    """As a step of Generate: rendered from its view, in its own size, the object shows the larger picture."""
    cube: Any = bpy.data.objects["Cube"]
    cube.select_set(True)
    ops().generate(seed=1, controls="depth", destination="MATERIAL", upscale=2.0, upscaler=network)
    made = history()[-1].image
    assert tuple(made.size) == (256, 192) and shown_by(cube) == made
    seen = rendered(tmp_path, size=(256, 192))
    inside = seen[..., 3] > 0.999
    assert inside.mean() > 0.05
    larger = light(pixels(made).reshape(192, 256, 4)[..., :3])
    coarse = larger.reshape(96, 2, 128, 2, 3).mean((1, 3)).repeat(2, 0).repeat(2, 1)
    off, off_coarse = (np.abs(seen[..., :3] - soft(one)).max(-1)[inside].mean() for one in (larger, coarse))
    assert off < 0.6 * off_coarse, f"each of its pixels, not means of four: {off} and {off_coarse}"


def test_the_larger_picture_lies_where_the_small_one_would(ready: Any, network: str) -> None:
    """Hung in the scene or behind the camera it has the same place; what is enhanced later is projected as well."""
    places = []
    for scale in (1.0, 2.0):
        name = network if scale > 1.0 else ""
        ops().generate(seed=1, controls="depth", destination="IMAGE_EMPTY", upscale=scale, upscaler=name)
        empty: Any = next(found for found in bpy.data.objects if found.data == history()[-1].image)
        places.append((np.array(empty.matrix_world), empty.empty_display_size))
        ops().result_apply(destination="CAMERA_BACKGROUND")
        background: Any = scene().camera.data.background_images[-1]
        assert background.image == history()[-1].image and background.frame_method == "CROP"
    assert np.allclose(places[0][0], places[1][0]) and places[0][1] == places[1][1]
    cube: Any = bpy.data.objects["Cube"]
    cube.select_set(True)
    ops().enhance(image=history()[0].image.name, upscale=2.0, upscaler=network)
    ops().result_apply(destination="MATERIAL")
    assert tuple(shown_by(cube).size) == (256, 192)


def shown_by(found: Any) -> bpy.types.Image:
    """What is projected on an object."""
    return next(node.image for node in found.material_slots[0].material.node_tree.nodes if node.type == "TEX_IMAGE")


def soft(values: np.ndarray) -> np.ndarray:
    """What a pixel shows on average of a texture that is interpolated between its own, when both have one size."""
    for axis in (0, 1):
        values = (np.roll(values, 1, axis) + np.roll(values, -1, axis) + 6.0 * values) / 8.0
    return values


def light(display: np.ndarray) -> np.ndarray:
    """sRGB's display values -> linear light (IEC 61966-2-1)."""
    return np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** 2.4)


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
