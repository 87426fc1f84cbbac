"""What ships, and the zip it ships in."""

from __future__ import annotations

import os
import shutil
import tomllib
import zipfile
from pathlib import Path

import pytest

from tools import staging
from tools.console import ROOT, ToolError
from tools.environments import BLENDERS, Environment, is_current
from tools.uv import python_of


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A small repository of the real one's shape."""
    root = tmp_path / "repository"
    for name in ("addon/ui", "backend/wire", "addon/__pycache__", "tests"):
        (root / name).mkdir(parents=True)
    for name in ("addon/__init__.py", "addon/ui/panel.py", "backend/wire/frame.py", "tests/test_it.py"):
        (root / name).write_text(f"# {name}\n")
    (root / "addon/__pycache__/ui.cpython-313.pyc").write_bytes(b"\0")
    (root / "addon/.swp").write_text("an editor's")
    for name in staging.FILES:
        shutil.copy(ROOT / name, root / name)
    return root


def test_the_zip_has_the_repositorys_shape_and_nothing_that_does_not_ship(repository: Path) -> None:
    with zipfile.ZipFile(staging.build_zip(root=repository)) as archive:
        assert archive.namelist() == [
            "LICENSE",
            "__init__.py",
            "addon/__init__.py",
            "addon/ui/panel.py",
            "backend/wire/frame.py",
            "blender_manifest.toml",
        ]
        assert "from .addon import register, unregister" in archive.read("__init__.py").decode()


def test_the_same_tree_makes_the_same_bytes(repository: Path, tmp_path: Path) -> None:
    first = staging.build_zip(tmp_path / "first", repository).read_bytes()
    for path in repository.rglob("*.py"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o600)
    assert staging.build_zip(tmp_path / "second", repository).read_bytes() == first
    (repository / "addon/ui/panel.py").write_text("# changed\n")
    assert staging.build_zip(tmp_path / "third", repository).read_bytes() != first


def test_a_zip_that_fails_half_way_leaves_the_old_one(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = staging.build_zip(root=repository)
    old = path.read_bytes()

    def fail(*_args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(OSError, match="no space"):
        staging.build_zip(root=repository)
    assert path.read_bytes() == old


def test_staging_empties_the_folder_first(repository: Path, tmp_path: Path) -> None:
    target = tmp_path / "staged"
    (target / "addon").mkdir(parents=True)
    (target / "addon" / "removed.py").touch()
    staging.stage(target, repository)
    assert not (target / "addon" / "removed.py").exists()
    assert (target / "addon" / "ui" / "panel.py").read_text() == "# addon/ui/panel.py\n"


def test_the_manifest_and_the_project_agree_on_version_and_licence() -> None:
    manifest = tomllib.loads((ROOT / "blender_manifest.toml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert manifest["version"] == project["version"]
    assert manifest["license"] == [f"SPDX:{project['license']}"]
    assert f"## {manifest['version']}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("blender", BLENDERS, ids=lambda blender: blender.purpose)
def test_blenders_own_validator_accepts_the_zip_and_refuses_a_broken_one(blender: Environment, tmp_path: Path) -> None:
    if not is_current(blender):
        pytest.skip(f"{blender.purpose} is not set up: python3 build.py setup")
    python = python_of(ROOT / blender.name)
    archive = staging.build_zip(tmp_path)
    staging.validate(archive, python)
    broken = tmp_path / "broken.zip"
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(broken, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content.replace(b"id =", b"ident =") if name.endswith(".toml") else content)
    with pytest.raises(ToolError, match="does not accept"):
        staging.validate(broken, python)
