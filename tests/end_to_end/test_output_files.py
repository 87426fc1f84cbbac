"""Blender and the backend read each other's pictures: EXR both ways, and PNG of 16 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from backend.outputs.exr import encode_exr, read_exr
from backend.outputs.map_files import read_depth
from backend.outputs.png import encode_png

VALUES = np.random.default_rng(0).random((21, 35, 3), np.float32)


@pytest.fixture
def scene() -> Any:
    """The scene that Blender begins with, with a small render of one sample."""
    # Not the factory settings: with them the installed add-on, which other tests need, would be off.
    bpy.ops.wm.read_homefile(use_empty=False, use_factory_startup=True)
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.samples = "CYCLES", 1
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 48, 40, 100
    return scene


def loaded(path: Path) -> np.ndarray:
    """(height, width, 3) as Blender reads a file of the size of VALUES, its numbers as they are; row 0 at the top."""
    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    values = np.empty(len(image.pixels), np.float32)
    image.pixels.foreach_get(values)
    return values.reshape(*VALUES.shape[:2], 4)[::-1, :, :3]


def test_blender_reads_our_exr_exactly(tmp_path: Path) -> None:
    path = tmp_path / "ours.exr"
    path.write_bytes(
        encode_exr({name: VALUES[..., index] for index, name in enumerate("RGB")}, {"grisaille:plan": "é"})
    )
    assert np.array_equal(loaded(path), VALUES)


def test_blender_reads_our_sixteen_bits(tmp_path: Path) -> None:
    path = tmp_path / "ours.png"
    deep = (VALUES * 65535.0).round().astype(np.uint16)
    path.write_bytes(encode_png(deep, {"Description": "é"}))
    assert np.abs(loaded(path) - deep / 65535.0).max() < 1e-6


@pytest.mark.parametrize("codec", ["ZIP", "ZIPS", "NONE"])
@pytest.mark.parametrize("depth", ["16", "32"])
def test_we_read_what_blender_renders(scene: Any, tmp_path: Path, codec: str, depth: str) -> None:
    scene.view_layers[0].use_pass_z = True
    settings = scene.render.image_settings
    if hasattr(settings, "media_type"):
        settings.media_type = "MULTI_LAYER_IMAGE"
    settings.file_format = "OPEN_EXR_MULTILAYER"
    settings.color_depth, settings.exr_codec = depth, codec
    scene.render.filepath = str(tmp_path / "render.exr")
    bpy.ops.render.render(write_still=True)
    channels, _texts = read_exr(tmp_path / "render.exr")
    assert all(channel.shape == (40, 48) for channel in channels.values())
    combined = next(name for name in channels if name.endswith("Combined.R"))
    assert channels[combined].std() > 0.01
    distances = read_depth(tmp_path / "render.exr")
    cube = distances[np.isfinite(distances)]
    assert np.isinf(distances[0]).all() and 0 < cube.size < distances.size
    camera = scene.camera.matrix_world.translation.length
    assert camera - 2.0 < cube.min() < cube.max() < camera + 2.0, "scene units from the camera"
