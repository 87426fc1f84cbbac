"""The scene's colours as its camera renders them: a few Cycles samples of a copy of the scene."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from .. import compat
from .cycles_render import PLAIN_OUTPUT, check_cycles, flush_edits, render_to, scene_copy
from .unkeyed import unkeyed_values_kept
from .view import View

FEW_SAMPLES: dict[str, Any] = {
    "samples": 16,
    "use_adaptive_sampling": False,
    "use_denoising": True,
    "use_sample_subset": False,
    "sample_offset": 0,
    "time_limit": 0.0,
}
"""The rest is the scene's own: its bounces, its lights, its device."""
SHOWN: dict[str, Any] = {**PLAIN_OUTPUT, "film_transparent": False, "dither_intensity": 0.0}


def render_colour(scene: bpy.types.Scene, view_layer: Any, camera: bpy.types.Object, view: View) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 display values, through the scene's own view transform; the top row first.

    Everything made for the render is removed again, also on an error. Raises `FailureError` (capture_failed).
    """
    check_cycles(scene)
    flush_edits(scene)

    with unkeyed_values_kept(view_layer), scene_copy(scene, view_layer, camera, view) as copy:
        compat.set_if_there(copy.render, **SHOWN, resolution_x=view.width, resolution_y=view.height)
        compat.set_if_there(copy.cycles, **FEW_SAMPLES)
        compat.write_bmp(copy.render.image_settings)
        copy.view_layers[0].use = True
        return render_to(copy, "colour.bmp", read_bmp)


def read_bmp(path: Path) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 of an uncompressed BMP of 24 bits a pixel. Raises `OSError`, `ValueError`."""
    data = path.read_bytes()
    try:
        (start,) = struct.unpack_from("<I", data, 10)
        width, height, _planes, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    except struct.error as error:
        raise ValueError(f"{path.name} is cut short") from error
    if data[:2] != b"BM" or bits != 24 or compression != 0 or height <= 0:
        raise ValueError(f"{path.name} is not a plain BMP")
    stride = (3 * width + 3) // 4 * 4
    rows = np.frombuffer(data, np.uint8, stride * height, start).reshape(height, stride)
    # Rows go up, and a pixel is blue, green, red.
    return np.ascontiguousarray(rows[::-1, : 3 * width].reshape(height, width, 3)[..., ::-1])
