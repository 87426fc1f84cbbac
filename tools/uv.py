"""The pinned uv that makes the environments, installed from the package index into .tools/."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools.console import ROOT, ToolError, run_quietly, say

UV_VERSION = "0.13.9"
UV_LOCK = ROOT / "requirements" / "uv.lock"


def folder_of_programs(environment: Path) -> Path:
    """Where a virtual environment keeps its programs."""
    return environment / ("Scripts" if os.name == "nt" else "bin")


def python_of(environment: Path) -> Path:
    """The interpreter of a virtual environment (which may not be there)."""
    return folder_of_programs(environment) / ("python.exe" if os.name == "nt" else "python")


def uv_program(tools_folder: Path | None = None) -> Path:
    """The pinned uv: the one in `.tools`, or the same version on PATH, or a fresh one from the package index.

    Raises `ToolError` when there is none and none can be fetched.
    """
    own = folder_of_programs((tools_folder or ROOT / ".tools") / "uv") / ("uv.exe" if os.name == "nt" else "uv")
    if _is_pinned(own):
        return own
    on_path = shutil.which("uv")
    if on_path and _is_pinned(Path(on_path)):
        return Path(on_path)
    _install(own.parent.parent)
    if not _is_pinned(own):
        raise ToolError(f"uv {UV_VERSION} was installed into {own.parent.parent} but does not run there.")
    return own


def _is_pinned(program: Path) -> bool:
    return run_quietly([program, "--version"], timeout=30).stdout.split()[1:2] == [UV_VERSION]


def _install(environment: Path) -> None:
    say(f"Fetching uv {UV_VERSION}, which makes the environments (25 MB) …")
    shutil.rmtree(environment, ignore_errors=True)
    made = run_quietly([sys.executable, "-m", "venv", environment])
    if made.returncode != 0:
        raise ToolError(
            "This Python cannot make virtual environments (on Debian and Ubuntu: apt install python3-venv)."
        )
    command = [python_of(environment), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--require-hashes", "--no-deps", "--only-binary=:all:", "--requirement", UV_LOCK]
    if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode != 0:
        shutil.rmtree(environment, ignore_errors=True)
        raise ToolError(f"uv {UV_VERSION} could not be fetched: check the connection to the package index.")
