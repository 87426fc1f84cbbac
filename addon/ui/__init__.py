"""The Grisaille tab of the 3D view's sidebar: drawn from state, changing nothing."""

from __future__ import annotations

import bpy

from . import controls, diagnosis, enhance, generate, loras, results

CLASSES = (
    generate.GRISAILLE_PT_generate,
    controls.GRISAILLE_PT_controls,
    loras.GRISAILLE_MT_loras,
    loras.GRISAILLE_PT_loras,
    enhance.GRISAILLE_PT_enhance,
    enhance.GRISAILLE_PT_enhance_image,
    results.GRISAILLE_UL_results,
    results.GRISAILLE_PT_results,
)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    diagnosis.register()


def unregister() -> None:
    diagnosis.unregister()
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
