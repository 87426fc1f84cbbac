"""Stages the extension's tree in the shape Blender wants and zips it."""

from __future__ import annotations

import shutil
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAGED_INIT = '"""Grisaille: see addon/."""\n\nfrom .addon import register, unregister\n\n__all__ = ["register", "unregister"]\n'
FOLDERS = ("addon", "backend")
FILES = ("blender_manifest.toml", "LICENSE")
NOT_SHIPPED = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
ZIP_DATE = (2026, 1, 1, 0, 0, 0)
"""One date for all members, so that the same tree makes the same bytes."""


def version() -> str:
    return tomllib.loads((ROOT / "blender_manifest.toml").read_text())["version"]


def stage(target: Path) -> Path:
    """Copies what ships into `target` (emptied first), with the __init__.py that Blender wants beside the manifest."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, target / name, ignore=NOT_SHIPPED)
    for name in FILES:
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, target / name)
    (target / "__init__.py").write_text(STAGED_INIT)
    return target


def build_zip(folder: Path | None = None) -> Path:
    """Stages the tree and writes <folder or dist>/grisaille-<version>.zip, whole or not at all."""
    folder = folder or ROOT / "dist"
    folder.mkdir(parents=True, exist_ok=True)
    staged = stage(ROOT / "build" / "grisaille")
    path = folder / f"grisaille-{version()}.zip"
    partial = path.with_suffix(".part")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in sorted(p for p in staged.rglob("*") if p.is_file()):
            info = zipfile.ZipInfo(member.relative_to(staged).as_posix(), ZIP_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, member.read_bytes())
    partial.replace(path)
    return path
