"""A stand-in for Blender: has a Link, submits a job, says so, and waits to be killed.

python parent.py STAGED_FOLDER DATA_FOLDER MODE; MODE: "job", "fork" (another child holds the backend's stdin open), or
"unwritable" (gives up root's powers, and says how its job failed).
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def main(staged: str, data: str, mode: str) -> None:
    sys.path[:0] = [staged, str(ROOT)]
    link_module = importlib.import_module("grisaille_staged.addon.link")
    wire = importlib.import_module("grisaille_staged.backend.wire")
    from tests.fake_backend import drop_privileges

    python = Path(sys.executable)
    if mode == "unwritable":
        # Any program will do: the folder is looked at before it is run.
        python = Path("/bin/sh")
        drop_privileges()
    program = (str(ROOT / "tests" / "fake_backend.py"),)
    link = link_module.Link(link_module.BackendPlace(python, Path(data), Path(data), program=program))
    request = wire.GenerationRequest("steps=100000 pause=0.1 ignore", 64, 64)
    job_id = link.submit(request, wire.ControlMaps(), {})
    if mode == "unwritable":
        say(failure=link.wait(job_id).to_json())
        return
    while not any(job.progress.step for job in link.jobs()):
        time.sleep(0.01)
    other = 0
    if mode == "fork":
        other = os.fork()
        if other == 0:
            time.sleep(600)
            os._exit(0)
    say(backend=link.backend_pid, other=other)
    time.sleep(600)


def say(**words: object) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
