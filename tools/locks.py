"""Makes the lock files anew from the .in files: for developers, when a version changes."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tools.console import ROOT, ToolError, say
from tools.uv import uv_program

REQUIREMENTS = ROOT / "requirements"
LOCKS = {
    "uv.lock": ("3.11", ("uv.in",)),
    "backend.lock": ("3.11", ("backend.in", "tools.in")),
    "blender-5.2.lock": ("3.13", ("blender-5.2.in",)),
    "blender-4.5.lock": ("3.11", ("blender-4.5.in",)),
}
"""Each lock with the oldest Python it is for, and what it is made from."""
OVERRIDES = "overrides.in"
"""What counts in the place of what packages say of their own needs."""
WINDOWS_LOCK = "backend-windows.lock"
TORCH_INDEX = "https://download.pytorch.org/whl/cu130"


def make_locks() -> None:
    """Rewrites every lock; the Windows one only where PyTorch's index can be reached, as it has CUDA builds for it."""
    uv = uv_program()
    for name, (python, sources) in LOCKS.items():
        if not _compile(uv, name, python, sources, ["--universal"]):
            raise ToolError(f"requirements/{name} could not be made: see the lines above.")
        say(f"requirements/{name}")
    options = ["--python-platform", "windows", "--index", TORCH_INDEX, "--index-strategy", "unsafe-best-match"]
    if _compile(uv, WINDOWS_LOCK, "3.13", ("backend.in", "tools.in", "windows.in"), options):
        say(f"requirements/{WINDOWS_LOCK} (made here, not tested on Windows)")
    else:
        say(f"requirements/{WINDOWS_LOCK} was not made: it needs PyTorch's own index, {TORCH_INDEX}")


def _compile(uv: Path, name: str, python: str, sources: tuple[str, ...], options: list[str]) -> bool:
    command = [str(uv), "pip", "compile", "--quiet", "--generate-hashes", "--no-annotate", "--no-emit-index-url"]
    command += ["--custom-compile-command", "python3 build.py lock", "--python-version", python, *options]
    if "backend.in" in sources:
        command += ["--override", OVERRIDES]
    command += [*sources, "--output-file", name]
    return subprocess.run(command, cwd=REQUIREMENTS, stdin=subprocess.DEVNULL, check=False).returncode == 0
