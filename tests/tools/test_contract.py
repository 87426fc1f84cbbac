"""The linter sees a violation: each is planted in a staged copy of what ships."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import contract, lint
from tools.staging import PACKAGE, stage

PROGRAMS = Path(sys.executable).parent


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    return stage(tmp_path / PACKAGE)


def plant(staged: Path, file: str, line: str) -> None:
    path = staged / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + f"\n{line}\n")


def test_what_ships_keeps_every_contract(staged: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert lint.check_layers(PROGRAMS, staged.parent), capfd.readouterr().out
    assert contract.foreign_imports(staged) == []


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("addon/capture/planted.py", "def f():\n    import torch", "The add-on knows nothing of the backend"),
        ("addon/planted.py", "from ..backend import jobs", "The add-on knows nothing of the backend"),
        ("addon/operators/planted.py", "from ...backend.flux import vae", "The add-on knows nothing of the backend"),
        ("backend/flux/planted.py", "import bpy", "The backend knows nothing of Blender"),
        ("backend/planted.py", "from ..addon import link", "The backend knows nothing of Blender"),
        ("backend/wire/planted.py", "from .. import jobs", "The wire imports nothing of ours"),
        ("addon/link/planted.py", "import bpy", "The link needs no Blender"),
        ("addon/capture/planted.py", "from ..operators import planted", "Blender's side"),
        ("backend/flux/planted.py", "from .. import server", "The backend: server, jobs"),
        ("backend/flux/planted.py", "from ..models import model_folder", "The backend: server, jobs"),
    ],
)
def test_a_planted_violation_breaks_its_contract(
    staged: Path, capfd: pytest.CaptureFixture[str], file: str, line: str, broken: str
) -> None:
    (staged / "addon" / "operators").mkdir(exist_ok=True)
    (staged / "addon" / "operators" / "planted.py").write_text("")
    plant(staged, file, line)
    assert not lint.check_layers(PROGRAMS, staged.parent)
    lines = capfd.readouterr().out.splitlines()
    assert any(text.startswith(broken) and text.endswith("BROKEN") for text in lines), "\n".join(lines)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("addon/planted.py", "import requests"),
        ("addon/results/planted.py", "def f():\n    from PIL import Image"),
        ("addon/link/planted.py", "import bpy"),
        ("backend/wire/planted.py", "import torch.nn as nn"),
    ],
)
def test_a_foreign_import_is_named_with_its_line(staged: Path, file: str, line: str) -> None:
    plant(staged, file, line)
    faults = contract.foreign_imports(staged)
    assert faults and all(fault.startswith(f"{file}:") for fault in faults)


def test_blenders_modules_and_relative_imports_are_fine(tmp_path: Path) -> None:
    plant(tmp_path, "addon/fine.py", "import bpy\nimport numpy as np\nimport json\nfrom .link import Link")
    assert contract.foreign_imports(tmp_path) == []


def test_types_are_checked_across_the_wall_and_a_property_is_no_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / PACKAGE
    plant(package, "__init__.py", "from .addon import settings")
    plant(package, "addon/__init__.py", "")
    plant(package, "backend/__init__.py", "")
    plant(package, "backend/wire.py", "def size() -> int:\n    return 1")
    plant(
        package,
        "addon/settings.py",
        "import bpy\nfrom ..backend.wire import size\n\n\n"
        "class Settings(bpy.types.PropertyGroup):\n    steps: bpy.props.IntProperty()\n\n\nVALUE: int = size()",
    )
    python = Path(sys.executable)
    assert lint.check_types(PROGRAMS, python, tmp_path, also=()), capsys.readouterr().out
    plant(package, "addon/settings.py", "WRONG: str = size()")
    plant(package, "addon/settings.py", "bpy.context.no_such_member")
    assert not lint.check_types(PROGRAMS, python, tmp_path, also=())
    said = capsys.readouterr().out
    assert '"int" is not assignable to "str"' in said
    assert "no_such_member" in said
