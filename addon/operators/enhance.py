"""Enhance Image: a larger, finer copy of an image of the file; the image itself stays as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import bpy

from ...backend.wire import Enhancement, FailureError, FailureKind, GenerationRequest
from ...backend.wire.maps import check_picture_sendable
from .. import enhance_settings, settings
from ..capture import image_pixels
from . import jobs, start
from .enhance_options import EnhanceOptions
from .painting import PaintingOperator

DATA_ITEMS = (
    ("AUTO", "As the Image Says", "A Non-Color image is a map: of normals where its values are directions"),
    ("colour", "Colours", "A picture, or a texture's colours"),
    ("normal", "Normals", "A normal map: directions stay of length 1"),
    ("data", "Numbers", "Roughness, height, masks: each channel for itself"),
)


class GRISAILLE_OT_enhance(EnhanceOptions, PaintingOperator, bpy.types.Operator):
    """Make a larger, finer copy of this image. In scripts, waits for it; what is not given is the scene's"""

    bl_idname = "grisaille.enhance"
    bl_label = "Enhance Image"

    image: bpy.props.StringProperty(
        name="Image", description="Its name; empty for the one in the Image Editor", options={"SKIP_SAVE"}
    )
    prompt: bpy.props.StringProperty(
        name="Prompt", description="What detail is painted from; empty for the scene's", options={"SKIP_SAVE"}
    )
    data: bpy.props.EnumProperty(name="Holds", items=DATA_ITEMS, options={"SKIP_SAVE"})
    filepath: bpy.props.StringProperty(
        name="File", description="A file for the picture, besides the image", subtype="FILE_PATH", options={"SKIP_SAVE"}
    )

    def order(self, context: bpy.types.Context) -> jobs.Order:
        values = self.enhancement_values()
        output = bpy.path.abspath(self.filepath) if self.filepath else ""
        name = self.image or shown_image(context)
        return order_for(context.scene, name, values, self.data, output, self.prompt)


def shown_image(context: bpy.types.Context) -> str:
    """The name of the image in the Image Editor under the mouse, or "". Its panel has it as `edit_image`."""
    image = getattr(context.space_data, "image", None) or getattr(context, "edit_image", None)
    return image.name if image is not None else ""


def order_for(
    scene: bpy.types.Scene,
    name: str,
    values: dict[str, Any],
    data: str = "AUTO",
    output: str = "",
    prompt: str = "",
) -> jobs.Order:
    """The order that enhances the image of that name. Raises `FailureError` (bad_request).

    values: fields of `Enhancement`; where all are None, the scene's settings. data: one of DATA_ITEMS. prompt: what
    detail is painted from; "" for the scene's.
    """
    if not name:
        raise FailureError.of(
            FailureKind.BAD_REQUEST, "There is no image to enhance.", "Open one in the Image Editor, or name it."
        )
    image: Any = start.named_image(name)
    width, height = image.size
    # What is transparent in it makes it larger still; that is seen when its pixels are read.
    channels, size = (1 if image.channels < 3 else 3), (2 if image.is_float else 1)
    check_picture_sendable(width, height, width * height * channels * size)
    kind = data if data != "AUTO" else image_pixels.kind_of(image)
    chosen = enhance_settings.enhancement(enhance_settings.of(scene))
    said = enhance_settings.over(chosen, values)
    wanted: Enhancement = replace(said.get("enhancement", chosen) or Enhancement(), data=kind)
    if kind != "colour":
        # What the scene asks of pictures is not for maps.
        wanted = replace(wanted, faces=False, face_network="", finish="", detail=0.0)
    chosen_settings = settings.of(scene)
    if wanted.detail:
        # The scene's view need not be what the image shows, so nothing of it guides the detail.
        painted = settings.to_request(chosen_settings, width, height, chosen_settings.seed)
        words = {"prompt": prompt} if prompt else {}
        base = replace(painted, strength=1.0, controls=(), stages=(), reference_strength=0.0, **words)
    else:
        named = settings.style(chosen_settings.style) if wanted.finish == "style" else {}
        base = GenerationRequest("", width=width, height=height, seed=chosen_settings.seed, **named)
    request = replace(base, task="enhance", bit_depth=16 if image.is_float else 8, enhancement=wanted)
    reference = chosen_settings.reference_image.name if chosen_settings.reference_image else ""
    return jobs.Order(request, image=name, output=output, reference=reference)


def draw_in_image_menu(self: Any, context: bpy.types.Context) -> None:
    self.layout.separator()
    self.layout.operator(GRISAILLE_OT_enhance.bl_idname, icon="IMAGE_DATA")
