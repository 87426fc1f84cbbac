"""Checks, by name, the system libraries that Blender itself needs."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

from tools.console import ToolError

LIBRARIES = {
    "libX11.so.6": "libx11-6",
    "libXrender.so.1": "libxrender1",
    "libXfixes.so.3": "libxfixes3",
    "libXi.so.6": "libxi6",
    "libXxf86vm.so.1": "libxxf86vm1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libSM.so.6": "libsm6",
    "libICE.so.6": "libice6",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
}
"""Each library of Blender's on Linux, with the Debian or Ubuntu package that has it."""


def can_load(library: str) -> bool:
    """Whether the dynamic loader finds the library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def missing_libraries(loads: Callable[[str], bool] = can_load) -> list[str]:
    """The names of those that are not there; none on systems other than Linux, whose Blender brings its own."""
    if sys.platform != "linux":
        return []
    return [library for library in LIBRARIES if not loads(library)]


def missing_packages(loads: Callable[[str], bool] = can_load) -> list[str]:
    """The Debian and Ubuntu packages that have them."""
    return [LIBRARIES[library] for library in missing_libraries(loads)]


def check_libraries(loads: Callable[[str], bool] = can_load) -> None:
    """Raises `ToolError`, with the command that installs them, when libraries are missing."""
    missing = missing_libraries(loads)
    if missing:
        packages = " ".join(missing_packages(loads))
        raise ToolError(f"Blender needs {', '.join(missing)}. On Debian and Ubuntu: sudo apt install {packages}")
