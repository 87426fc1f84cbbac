"""What an operator may say of the enhancement in scripts; what it does not say is the scene's."""

from __future__ import annotations

from typing import Any

import bpy

NAMES = {
    "upscale": "scale",
    "upscaler": "network",
    "upscale_fidelity": "upscale_fidelity",
    "faces": "faces",
    "face_network": "face_network",
    "fidelity": "fidelity",
    "finish": "finish",
    "tileable": "tileable",
    "detail": "detail",
}
"""Properties, and the fields of `Enhancement` that they are."""


class EnhanceOptions:
    """Mixed into an operator."""

    upscale: bpy.props.FloatProperty(
        name="Upscale By", description="1.5 to 8 times as wide and high; 1 for the same size", options={"SKIP_SAVE"}
    )
    upscaler: bpy.props.StringProperty(
        name="Upscaler", description="A file in the folder upscalers of the models folder", options={"SKIP_SAVE"}
    )
    upscale_fidelity: bpy.props.FloatProperty(
        name="Keep to Picture",
        description="1 to keep to the picture, 0 for what the network makes",
        options={"SKIP_SAVE"},
    )
    faces: bpy.props.BoolProperty(name="Faces", description="Find faces and restore them", options={"SKIP_SAVE"})
    face_network: bpy.props.StringProperty(name="Face Network", options={"SKIP_SAVE"})
    fidelity: bpy.props.FloatProperty(
        name="Face Fidelity",
        description="1 for the face as it was, 0 for what the network makes",
        options={"SKIP_SAVE"},
    )
    finish: bpy.props.StringProperty(
        name="Finish",
        description='"style", "crisp", "photo", "film", "ink" …',
        options={"SKIP_SAVE"},
    )
    tileable: bpy.props.BoolProperty(name="Tileable", description="The borders fit together", options={"SKIP_SAVE"})
    detail: bpy.props.FloatProperty(
        name="Detail", description="How far FLUX goes as it paints finer detail, up to 0.6", options={"SKIP_SAVE"}
    )

    def enhancement_values(self: Any) -> dict[str, Any]:
        """The fields of `Enhancement` that were given; None for the others."""
        return {field: self._given_value(name) for name, field in NAMES.items()}

    def _given_value(self: Any, name: str) -> Any:
        """As it was written: Blender keeps single precision, in which 0.8 is 0.800000012."""
        if not self.properties.is_property_set(name):
            return None
        value = getattr(self, name)
        return round(value, 4) if isinstance(value, float) else value
