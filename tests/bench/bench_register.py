"""What the add-on adds to Blender's start: importing and registering it, against starting with factory settings."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.figure import Figure
from tools.staging import build_zip

IN_BLENDER = True

ROUNDS = 7
TARGET = 0.05
PACKAGE = "bl_ext.user_default.grisaille"
INSTALL = "import bpy, sys; bpy.ops.extensions.package_install_files(filepath=sys.argv[1], repo='user_default')"
MEASURE = f"""
import sys, time
begun = time.perf_counter()
import bpy
bpy.ops.wm.read_factory_settings()
started = time.perf_counter()
import addon_utils
module = addon_utils.enable({PACKAGE!r}, default_set=False)
registered = time.perf_counter()
assert module is not None
with open(sys.argv[1], "w") as file:
    file.write(f"[{{started - begun}}, {{registered - started}}]")
"""


def run() -> list[Figure]:
    """Medians over processes of their own, after one that writes the bytecode."""
    with tempfile.TemporaryDirectory(prefix="grisaille-bench-") as folder:
        environ = {**os.environ, "BLENDER_USER_RESOURCES": str(Path(folder, "profile"))}
        _run(INSTALL, build_zip(Path(folder)), environ)
        rounds = [_measure(Path(folder, "times.json"), environ) for _ in range(ROUNDS + 1)][1:]
    start, register = (statistics.median(times) for times in zip(*rounds, strict=True))
    detail = f"{register * 1000:.0f} ms ÷ {start * 1000:.0f} ms, medians of {ROUNDS}"
    return [Figure("importing and registering the add-on ÷ starting Blender", register / start, TARGET, detail)]


def _measure(answer: Path, environ: dict[str, str]) -> tuple[float, float]:
    """Seconds that Blender's start took, and then the add-on's."""
    _run(MEASURE, answer, environ)
    start, register = json.loads(answer.read_text())
    return start, register


def _run(program: str, argument: Path, environ: dict[str, str]) -> None:
    command = [sys.executable, "-c", program, str(argument)]
    subprocess.run(command, env=environ, check=True, stdout=subprocess.DEVNULL)
