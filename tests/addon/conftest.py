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
PROFILE = tempfile.mkdtemp(prefix="grisaille-profile-")
# Before anything imports bpy, which reads it once.
os.environ["BLENDER_USER_RESOURCES"] = PROFILE


@pytest.fixture(scope="session")
def grisaille() -> Iterator[ModuleType]:
    """The installed, enabled extension's package, as Blender sees it."""
    import bpy

    sys.path.insert(0, str(ROOT))
    from tools.staging import build_zip

    archive = os.environ.get("GRISAILLE_ZIP") or build_zip(Path(PROFILE) / "dist")
    bpy.ops.wm.read_factory_settings()
    bpy.ops.extensions.package_install_files(filepath=str(archive), repo="user_default", enable_on_install=True)
    yield importlib.import_module(PACKAGE)
    bpy.ops.preferences.addon_disable(module=PACKAGE)


@pytest.fixture
def factory(grisaille: ModuleType) -> ModuleType:
    """A fresh factory scene, with the extension on."""
    import bpy

    bpy.ops.wm.read_homefile(use_empty=False, use_factory_startup=True)
    return grisaille


@pytest.fixture
def fake_link(factory: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """The extension with `fakes.FakeLink` in the backend's place, and one model called "tiny"."""
    from tests.addon import fakes

    state = fakes.module("addon.state")
    state.get().close()
    models = tmp_path / "models"
    (models / "tiny").mkdir(parents=True)
    (models / "tiny" / "model.json").write_text("{}")
    monkeypatch.setenv("GRISAILLE_PYTHON", sys.executable)
    monkeypatch.setenv("GRISAILLE_MODELS", str(models))
    monkeypatch.setenv("GRISAILLE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(fakes.module("addon.link"), "Link", fakes.FakeLink)
    fakes.forget_all()
    yield state.get().connect(fakes.module("addon.preferences").backend_place())
    state.get().close()


@pytest.fixture
def shipped(grisaille: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the models that ship with the add-on, with one model in it: "sample"."""
    from tests.addon import fakes

    folder = tmp_path / "shipped"
    (folder / "sample").mkdir(parents=True)
    (folder / "sample" / "model.json").write_text("{}")
    monkeypatch.setattr(fakes.module("backend.wire.model_names"), "shipped_models", lambda: folder)
    return folder
