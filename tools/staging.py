"""Stages the extension's tree in the shape Blender wants, zips it, and has Blender's own validator look at it."""

from __future__ import annotations

import shutil
import tomllib
import zipfile
from pathlib import Path

from tools.console import ROOT, ToolError, run_quietly

PACKAGE = "grisaille"
STAGED_INIT = (
    '"""Grisaille: see addon/."""\n\nfrom .addon import register, unregister\n\n__all__ = ["register", "unregister"]\n'
)
FOLDERS = ("addon", "backend")
FILES = ("blender_manifest.toml", "LICENSE")
ZIP_DATE = (2026, 1, 1, 0, 0, 0)
"""One date for all members, so that the same tree makes the same bytes."""


def version(root: Path = ROOT) -> str:
    """The extension's version, from its manifest."""
    return tomllib.loads((root / "blender_manifest.toml").read_text(encoding="utf-8"))["version"]


def members(root: Path = ROOT) -> dict[str, bytes]:
    """Everything that ships, by its path in the zip, sorted: the repository's tree and a generated __init__.py."""
    contents = {"__init__.py": STAGED_INIT.encode()}
    for name in FILES:
        contents[name] = (root / name).read_bytes()
    for folder in FOLDERS:
        for path in (root / folder).rglob("*"):
            if path.is_file() and _ships(path.relative_to(root)):
                contents[path.relative_to(root).as_posix()] = path.read_bytes()
    return dict(sorted(contents.items()))


def stage(target: Path, root: Path = ROOT) -> Path:
    """Writes what ships into `target` (emptied first); returns it."""
    shutil.rmtree(target, ignore_errors=True)
    for name, content in members(root).items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return target


def build_zip(folder: Path | None = None, root: Path = ROOT) -> Path:
    """Writes <folder or dist>/grisaille-<version>.zip, whole or not at all; the same tree makes the same bytes."""
    folder = folder or root / "dist"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{PACKAGE}-{version(root)}.zip"
    partial = path.with_suffix(".part")
    with zipfile.ZipFile(partial, "w") as archive:
        for name, content in members(root).items():
            info = zipfile.ZipInfo(name, ZIP_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            # The system that wrote it is part of the bytes, and differs on Windows.
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    partial.replace(path)
    return path


def validate(archive: Path, blender_python: Path) -> None:
    """Runs Blender's own validator, from inside the bpy wheel; raises `ToolError` with what it says against the zip."""
    site = run_quietly([blender_python, "-c", "import sysconfig; print(sysconfig.get_path('platlib'))"])
    validators = list(Path(site.stdout.strip()).glob("bpy/*/scripts/addons_core/bl_pkg/cli/blender_ext.py"))
    if site.returncode != 0 or len(validators) != 1:
        raise ToolError(f"Blender's validator, blender_ext.py, is not beside {blender_python}: run build.py setup.")
    done = run_quietly([blender_python, validators[0], "validate", archive])
    if done.returncode != 0:
        raise ToolError(f"Blender does not accept {archive.name}: {(done.stdout + done.stderr).strip()}")


def _ships(path: Path) -> bool:
    return path.suffix != ".pyc" and not any(part == "__pycache__" or part.startswith(".") for part in path.parts)
