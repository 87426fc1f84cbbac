"""Real Blender (the bpy wheel), with the built zip installed into a throw-away profile by Blender's own installer."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = "bl_ext.user_default.grisaille"


@pytest.fixture(scope="session")
def grisaille() -> Iterator[ModuleType]:
    """The installed, enabled extension's package, as Blender sees it."""
    profile = tempfile.mkdtemp(prefix="grisaille-profile-")
    os.environ["BLENDER_USER_RESOURCES"] = profile
    import bpy

    sys.path.insert(0, str(ROOT))
    from tools.staging import build_zip

    archive = build_zip(Path(profile) / "dist")
    bpy.ops.wm.read_factory_settings()
    bpy.ops.extensions.package_install_files(
        filepath=str(archive), repo="user_default", enable_on_install=True
    )
    yield importlib.import_module(PACKAGE)
    bpy.ops.preferences.addon_disable(module=PACKAGE)


@pytest.fixture
def factory(grisaille: ModuleType) -> ModuleType:
    """A fresh factory scene, with the extension on."""
    import bpy

    bpy.ops.wm.read_homefile(use_empty=False, use_factory_startup=True)
    return grisaille
