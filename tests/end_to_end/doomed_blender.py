"""A Blender that paints until it is killed. Says in one line of JSON who its backend is.

python doomed_blender.py EXTENSION.zip; the profile and the backend's place are in the environment.
"""

from __future__ import annotations

import importlib
import json
import sys
import time

import bpy

PACKAGE = "bl_ext.user_default.grisaille"


def main(archive: str) -> None:
    bpy.ops.wm.read_factory_settings()
    bpy.ops.extensions.package_install_files(filepath=archive, repo="user_default", enable_on_install=True)
    state, jobs, arrivals = (
        importlib.import_module(f"{PACKAGE}.addon.{name}") for name in ("state", "operators.jobs", "results.arrivals")
    )
    chosen = bpy.context.scene.grisaille  # pyright: ignore[reportAttributeAccessIssue]
    chosen.prompt, chosen.size_mode, chosen.width, chosen.height, chosen.steps = "a clay pot", "CUSTOM", 256, 256, 200
    job_id = jobs.begin(bpy.context, jobs.order_from_settings(bpy.context))
    job = state.get().jobs[job_id]
    while job.progress is None or job.progress.step < 1:
        arrivals.pump()
        if job_id not in state.get().jobs:
            sys.exit(f"the job ended before it was killed: {state.get().failure}")
        time.sleep(0.02)
    sys.stdout.write("\n" + json.dumps({"backend": state.get().link.backend_pid}) + "\n")
    sys.stdout.flush()
    time.sleep(600)


if __name__ == "__main__":
    main(sys.argv[1])
