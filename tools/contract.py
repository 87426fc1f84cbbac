"""The part of the import contract that is an allow-list: what the code inside Blender may import at all."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

BLENDER_MODULES = frozenset(
    {"bpy", "bpy_extras", "bpy_types", "mathutils", "gpu", "gpu_extras", "bmesh", "blf", "imbuf", "bl_math"}
    | {"idprop", "freestyle", "addon_utils", "aud", "rna_prop_ui", "nodeitems_utils"}
)
ALLOWED = {
    "addon": sys.stdlib_module_names | {"numpy"} | BLENDER_MODULES,
    "backend/wire": sys.stdlib_module_names | {"numpy"},
    "addon/link": sys.stdlib_module_names | {"numpy"},
}
"""For each folder of the staged package, the top-level modules it may import; its own come by relative imports."""


def foreign_imports(staged: Path) -> list[str]:
    """One line, `path:line: what`, for each absolute import that is not allowed in its folder of the staged package."""
    faults: list[str] = []
    for folder, allowed in ALLOWED.items():
        for path in sorted((staged / folder).rglob("*.py")):
            for line, module in absolute_imports(path.read_text(encoding="utf-8")):
                if module.partition(".")[0] not in allowed:
                    where = path.relative_to(staged).as_posix()
                    faults.append(f"{where}:{line}: {folder} may not import {module}")
    return sorted(set(faults))


def absolute_imports(source: str) -> list[tuple[int, str]]:
    """The line and the module's name of each import without a leading dot, wherever in the source it stands."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.append((node.lineno, node.module))
    return found
