"""One verb a file: gather, call a room, report."""

from __future__ import annotations

from typing import Any

import bpy

from . import cancel, controls, diagnose, enhance, folders, generate, loras, prompt, render, results, view

CLASSES = (
    generate.GRISAILLE_OT_generate,
    enhance.GRISAILLE_OT_enhance,
    cancel.GRISAILLE_OT_cancel,
    controls.GRISAILLE_OT_show_controls,
    controls.GRISAILLE_OT_control_preset,
    prompt.GRISAILLE_OT_show_prompt,
    loras.GRISAILLE_OT_lora_add,
    loras.GRISAILLE_OT_lora_remove,
    loras.GRISAILLE_OT_lora_steps,
    render.GRISAILLE_OT_render_depth_to_image,
    view.GRISAILLE_OT_view_restore,
    results.GRISAILLE_OT_result_apply,
    results.GRISAILLE_OT_result_settings,
    results.GRISAILLE_OT_result_remove,
    results.GRISAILLE_OT_results_recover,
    results.GRISAILLE_OT_results_discard,
    results.GRISAILLE_OT_materials_restore,
    results.GRISAILLE_OT_failure_dismiss,
    folders.GRISAILLE_OT_log_folder_open,
    diagnose.GRISAILLE_OT_diagnose,
    diagnose.GRISAILLE_OT_diagnosis_copy,
    diagnose.GRISAILLE_OT_diagnosis_cancel,
)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    menu: Any = bpy.types.TOPBAR_MT_render
    menu.append(render.draw_in_render_menu)
    image_menu: Any = bpy.types.IMAGE_MT_image
    image_menu.append(enhance.draw_in_image_menu)


def unregister() -> None:
    image_menu: Any = bpy.types.IMAGE_MT_image
    image_menu.remove(enhance.draw_in_image_menu)
    menu: Any = bpy.types.TOPBAR_MT_render
    menu.remove(render.draw_in_render_menu)
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
