"""Open the Log Folder."""

from __future__ import annotations

import bpy

from .. import preferences


class GRISAILLE_OT_log_folder_open(bpy.types.Operator):
    """Open the folder that holds the backend's logs"""

    bl_idname = "grisaille.log_folder_open"
    bl_label = "Open Log Folder"
    bl_options = set()

    def execute(self, context: bpy.types.Context) -> set[str]:
        folder = preferences.data_folder() / "logs"
        if not folder.is_dir():
            self.report({"WARNING"}, "There are no logs yet. They begin with the first picture.")
            return {"CANCELLED"}
        bpy.ops.wm.path_open(filepath=str(folder))
        return {"FINISHED"}
