"""The list of LoRAs: add one, take one away, and the settings of those that paint in few steps."""

from __future__ import annotations

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
    """Set steps, guidance and sampler to what this LoRA was made for, and its own strength"""

    bl_idname = "grisaille.lora_steps"
    bl_label = "Use Its Steps"

    def execute(self, context: bpy.types.Context) -> set[str]:
        chosen = settings.of(context.scene)
        item = chosen.loras.get(self.lora)
        few = loras.settings_of(item) if item is not None else None
        if item is None or few is None:
            self.report({"ERROR"}, f"{self.lora!r} is not known as a LoRA that paints in few steps.")
            return {"CANCELLED"}
        item.use, item.strength = True, few.strength
        chosen.steps, chosen.guidance = few.steps, few.guidance
        chosen.sampler, chosen.schedule = few.sampler, few.schedule
        return {"FINISHED"}
