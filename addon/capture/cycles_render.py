"""Render truth without a graphics card: one Cycles sample of a copy of the scene."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import bpy
import numpy as np

from .. import compat
from .decode import FloatArray
from .errors import capture_error
from .exr import read_exr
from .freestyle import check_face_budget, draw_lines
from .unkeyed import unkeyed_values_kept
from .view import View

Picture = TypeVar("Picture")

SKY = 1e9
"""Scene units. Cycles writes 1e10 where it hit nothing."""
ONE_PLAIN_SAMPLE: dict[str, Any] = {
    "device": "CPU",
    "samples": 1,
    "use_adaptive_sampling": False,
    "use_denoising": False,
    "use_sample_subset": False,
    "sample_offset": 0,
    "time_limit": 0.0,
    "use_layer_samples": "IGNORE",
    "max_bounces": 0,
    "use_light_tree": False,
    "use_fast_gi": False,
    "use_guiding": False,
    "use_auto_tile": False,
    "shading_system": False,
    # The width of a sample's footprint in pixels: the smallest puts it at the pixel's centre.
    "pixel_filter_type": "GAUSSIAN",
    "filter_width": 0.01,
}
PLAIN_OUTPUT: dict[str, Any] = {
    "engine": "CYCLES",
    "resolution_percentage": 100,
    "use_border": False,
    "use_crop_to_border": False,
    "use_motion_blur": False,
    "use_multiview": False,
    "use_compositing": False,
    "use_sequencer": False,
    "use_freestyle": False,
    "line_thickness_mode": "ABSOLUTE",
    "line_thickness": 1.0,
    "use_stamp": False,
    "use_persistent_data": False,
    "use_single_layer": False,
    "use_file_extension": False,
    "use_overwrite": True,
    "use_placeholder": False,
}


def render_maps(
    scene: bpy.types.Scene, view_layer: Any, camera: bpy.types.Object, view: View, freestyle: bool
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Depth (height, width), camera-space normals (height, width, 3) and, with `freestyle`, lines (height, width).

    As the camera would render the view layer; units and axes as in `ControlMaps`. Everything made for the render is
    removed again, also on an error. Raises `FailureError` (capture_failed) when Blender could not render or write the
    picture, or when there are too many faces for Freestyle.
    """
    check_cycles(scene)
    flush_edits(scene)
    if freestyle:
        check_face_budget(view_layer.depsgraph)
    with unkeyed_values_kept(view_layer), geometry_copy(scene, view_layer, camera, view, freestyle) as copy:
        channels = render_channels(copy)
    depth = channels["Depth.Z"]
    depth = np.where(depth < SKY, depth, np.float32(np.inf))
    world = np.stack([channels[f"Normal.{axis}"] for axis in "XYZ"], axis=-1)
    rotation = np.array(view.world_to_view_matrix().to_3x3(), np.float32)
    normal = world @ rotation.T
    length = np.sqrt(np.einsum("hwc,hwc->hw", normal, normal))
    normal *= (np.isfinite(depth) / np.maximum(length, np.float32(1e-6)))[..., None].astype(np.float32)
    lines = channels.get("Freestyle.A", channels.get("Freestyle.Pass.A"))
    return depth, normal, np.clip(lines, 0.0, 1.0) if freestyle and lines is not None else None


def check_cycles(scene: bpy.types.Scene) -> None:
    """Raises `FailureError` (capture_failed) where Cycles is not there."""
    if not hasattr(scene, "cycles"):
        raise capture_error(
            "The Cycles add-on, which renders captures, is switched off.",
            "Switch it on in the preferences, under Add-ons.",
        )


def flush_edits(scene: bpy.types.Scene) -> None:
    """What is edited or sculpted lives beside the mesh until the mode is left; the render reads the mesh."""
    if any(item.mode != "OBJECT" for item in scene.objects):
        bpy.ops.ed.flush_edits()


def render_channels(copy: bpy.types.Scene) -> dict[str, FloatArray]:
    """Renders a scene made by `geometry_copy`; its one view layer's channels by name ("Depth.Z"), top row first."""
    channels = render_to(copy, "capture.exr", read_exr)
    layer = copy.view_layers[0].name
    return {name.removeprefix(f"{layer}."): array for name, array in channels.items()}


def render_to(copy: bpy.types.Scene, name: str, read: Callable[[Path], Picture]) -> Picture:
    """Renders a copied scene to a temporary file of that name, and returns what `read` makes of it.

    Raises `FailureError` (capture_failed).
    """
    try:
        with tempfile.TemporaryDirectory(prefix="grisaille-capture-") as folder:
            path = Path(folder) / name
            copy.render.filepath = str(path)
            bpy.ops.render.render("EXEC_DEFAULT", write_still=True, scene=copy.name)
            return read(path)
    except (RuntimeError, OSError, ValueError) as error:
        raise capture_error(
            "Blender could not render the scene for its capture.",
            "Look at Blender's console for the reason, and check that the temporary folder has free space.",
            str(error),
        ) from error


@contextmanager
def geometry_copy(
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    camera: bpy.types.Object,
    view: View,
    freestyle: bool = False,
) -> Iterator[bpy.types.Scene]:
    """A copy of the scene set for a render of one Cycles sample that gives depth and normals."""
    material = style = None
    try:
        if not _surface_moves_geometry(view_layer):
            material = bpy.data.materials.new("grisaille capture")
            compat.give_nodes(material)

        with scene_copy(scene, view_layer, camera, view) as copy:
            _set_for_capture(copy, view, material)
            if freestyle:
                style = draw_lines(copy)
            yield copy
    finally:
        if material is not None:
            bpy.data.materials.remove(material)
        if style is not None:
            bpy.data.linestyles.remove(style)


@contextmanager
def scene_copy(
    scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, camera: bpy.types.Object, view: View
) -> Iterator[bpy.types.Scene]:
    """A copy of the scene with one view layer and a plain, still camera."""
    evaluated = camera.evaluated_get(view_layer.depsgraph)
    copy = scene.copy()
    lens = stand_in = None
    try:
        lens = _still_lens(camera, evaluated.data)
        stand_in = bpy.data.objects.new("grisaille capture", lens)
        stand_in.matrix_world = view.world_to_view_matrix().inverted_safe()
        _keep_one_layer(copy, view_layer.name)
        # Markers can switch the camera.
        copy.timeline_markers.clear()
        copy.collection.objects.link(stand_in)
        copy.camera = stand_in
        yield copy
    finally:
        bpy.data.scenes.remove(copy)
        if stand_in is not None:
            bpy.data.objects.remove(stand_in)
        if lens is not None:
            bpy.data.cameras.remove(lens)


def _still_lens(camera: Any, evaluated: Any) -> bpy.types.Camera:
    """A copy of the camera's lens as it stands at this frame, with nothing that would move or blur it."""
    lens = camera.data.copy()
    lens.animation_data_clear()
    for name in (
        "lens",
        "ortho_scale",
        "shift_x",
        "shift_y",
        "clip_start",
        "clip_end",
        "sensor_width",
        "sensor_height",
    ):
        setattr(lens, name, getattr(evaluated, name))
    lens.dof.use_dof = False
    return lens


def _keep_one_layer(copy: bpy.types.Scene, name: str) -> None:
    for layer in list(copy.view_layers):
        if layer.name != name:
            # Blender forgets to give these up with the layer.
            layer.material_override = layer.world_override = None
            copy.view_layers.remove(layer)


def _set_for_capture(copy: bpy.types.Scene, view: View, material: bpy.types.Material | None) -> None:
    # The world and its textures cost time and change no geometry.
    copy.world = None
    compat.set_if_there(copy.render, **PLAIN_OUTPUT, resolution_x=view.width, resolution_y=view.height)
    compat.set_if_there(copy.cycles, **ONE_PLAIN_SAMPLE)
    compat.write_multilayer_exr(copy.render.image_settings)
    layer = copy.view_layers[0]
    for name in list(layer.bl_rna.properties.keys()):
        if name.startswith("use_pass_"):
            setattr(layer, name, name in ("use_pass_z", "use_pass_normal"))
    layer.use = True
    layer.use_freestyle = False
    layer.world_override = None
    layer.material_override = material
    layer.pass_alpha_threshold = 0.0


def _surface_moves_geometry(view_layer: bpy.types.ViewLayer) -> bool:
    """Whether a material in use displaces the surface, which one plain material for all would undo."""
    materials = {
        slot.material for item in view_layer.objects for slot in item.material_slots if slot.material is not None
    }
    return any(_displaces(material) for material in materials)


def _displaces(material: bpy.types.Material) -> bool:
    tree = material.node_tree
    if tree is None or getattr(material, "displacement_method", "BUMP") == "BUMP":
        return False
    return any(node.type == "OUTPUT_MATERIAL" and node.inputs["Displacement"].is_linked for node in tree.nodes)
