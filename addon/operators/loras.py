"""The list of LoRAs: add one, take one away, and the settings of those that paint in few steps."""

from __future__ import annotations

from typing import Any

import bpy

from .. import loras, preferences, settings


class _OnLora:
    """An operator on one LoRA, by its name."""

    bl_options = {"REGISTER", "UNDO"}

    lora: bpy.props.StringProperty(name="LoRA", description="The file's name without its ending", options={"SKIP_SAVE"})


class GRISAILLE_OT_lora_add(_OnLora, bpy.types.Operator):
    """Paint with this LoRA, at the strength that its makers recommend"""

    bl_idname = "grisaille.lora_add"
    bl_label = "Add LoRA"

    def execute(self, context: bpy.types.Context) -> set[str]:
        chosen = settings.of(context.scene)
        folder, model = preferences.models_folder(), settings.chosen_model(chosen)
        if self.lora not in loras.available(folder, model):
            self.report({"ERROR"}, f"There is no LoRA called {self.lora!r}. {loras.WHERE}.")
            return {"CANCELLED"}
        loras.add(chosen.loras, self.lora, folder, model)
        return {"FINISHED"}


class GRISAILLE_OT_lora_remove(_OnLora, bpy.types.Operator):
    """Paint without this LoRA. Its file stays"""

    bl_idname = "grisaille.lora_remove"
    bl_label = "Remove LoRA"

    def execute(self, context: bpy.types.Context) -> set[str]:
        loras.remove(settings.of(context.scene).loras, self.lora)
        return {"FINISHED"}


class GRISAILLE_OT_lora_steps(_OnLora, bpy.types.Operator):
    """Set steps, guidance, sampler and strength to what this LoRA was made for"""

    bl_idname = "grisaille.lora_steps"
    bl_label = "Use Its Steps"

    hybrid: bpy.props.BoolProperty(
        name="8-Bit Products", description="Multiply in 8 bits as well", options={"SKIP_SAVE"}
    )

    @classmethod
    def description(cls, context: bpy.types.Context, properties: Any) -> str:
        item = settings.of(context.scene).loras.get(properties.lora)
        return loras.few_steps_words(loras.settings_of(item) if item is not None else None, properties.hybrid)

    def execute(self, context: bpy.types.Context) -> set[str]:
        chosen = settings.of(context.scene)
        item = chosen.loras.get(self.lora)
        few = loras.settings_of(item) if item is not None else None
        if item is None or few is None:
            self.report({"ERROR"}, f"{self.lora!r} is not known as a LoRA that paints in few steps.")
            return {"CANCELLED"}
        loras.use_settings(chosen, item, few, self.hybrid)
        return {"FINISHED"}
