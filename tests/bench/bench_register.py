"""What the add-on costs when Blender starts: importing and registering it, against starting Blender itself."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from tests.bench.figure import Figure
from tools.staging import build_zip

ROOT = Path(__file__).resolve().parent.parent.parent
TARGET = 0.05
RUNS = 7
START = """
import json, time
before = time.perf_counter()
import bpy
bpy.ops.wm.read_factory_settings()
started = time.perf_counter() - before
before = time.perf_counter()
import addon_utils
addon_utils.enable({package!r})
print("FIGURES", json.dumps([started, time.perf_counter() - before]))
"""
INSTALL = """
import bpy
bpy.ops.wm.read_factory_settings()
bpy.ops.extensions.package_install_files(filepath={archive!r}, repo="user_default", enable_on_install=False)
"""
PACKAGE = "bl_ext.user_default.grisaille"


def run() -> list[Figure]:
    """One figure for each Blender there is an environment for."""
    return [_figure(folder) for folder in (".venv-5.2", ".venv-4.5") if _python(folder).exists()]


def _python(folder: str) -> Path:
    return ROOT / folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _figure(folder: str) -> Figure:
    with tempfile.TemporaryDirectory() as profile:
        archive = build_zip(Path(profile) / "dist")
        _run(folder, profile, INSTALL.format(archive=str(archive)))
        source = START.format(package=PACKAGE)
        pairs = [_measured(_run(folder, profile, source)) for _ in range(RUNS)]
    starts, registers = zip(*pairs[1:], strict=True)  # the first run compiles to bytecode
    start, register = statistics.median(starts), statistics.median(registers)
    version = folder.removeprefix(".venv-")
    return Figure(
        f"register the add-on / start Blender {version}",
        register / start,
        TARGET,
        f"{register * 1000:.1f} ms to import and register, {start * 1000:.0f} ms to start with factory settings",
    )


def _run(folder: str, profile: str, source: str) -> str:
    environ = {**os.environ, "BLENDER_USER_RESOURCES": profile}
    done = subprocess.run(
        [_python(folder), "-c", source], env=environ, capture_output=True, text=True, check=True, cwd=profile
    )
    return done.stdout


def _measured(output: str) -> tuple[float, float]:
    line = next(line for line in output.splitlines() if line.startswith("FIGURES"))
    started, registered = json.loads(line.removeprefix("FIGURES"))
    return started, registered


if __name__ == "__main__":
    for figure in run():
        print(f"{figure.name}: {figure.ratio:.3f} (target {figure.target}): {figure.detail}")
