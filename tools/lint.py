"""Format, rules, types and the import contract."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path

from tools import contract
from tools.console import ROOT, say, title
from tools.environments import BACKEND, prepare
from tools.staging import FOLDERS, PACKAGE, stage
from tools.uv import folder_of_programs

STAGED_PARENT = ROOT / "build"
ALSO_TYPED = ("tests", "tools", "build.py")


def run(fix: bool = False) -> int:
    """Runs all the checks, also after one has failed; returns 0 when all pass, else 1."""
    python = prepare([BACKEND]).python(BACKEND)
    programs = folder_of_programs(python.parent.parent)
    if fix:
        _check("ruff, repairing", [programs / "ruff", "check", "--fix", "."])
        _check("ruff, formatting", [programs / "ruff", "format", "."])
    staged = stage(STAGED_PARENT / PACKAGE)
    passed = {
        "format": _check("ruff format", [programs / "ruff", "format", "--check", "."]),
        "rules": _check("ruff check", [programs / "ruff", "check", "."]),
        "types": check_types(programs, python),
        "layers": check_layers(programs, STAGED_PARENT),
        "imports": check_imports(staged),
    }
    failed = [name for name, is_passed in passed.items() if not is_passed]
    say(f"\nlint: {'failed: ' + ', '.join(failed) if failed else 'all clean'}")
    return 1 if failed else 0


def check_types(
    programs: Path, python: Path, staged_parent: Path = STAGED_PARENT, also: Sequence[str] = ALSO_TYPED
) -> bool:
    """basedpyright on the staged package in `staged_parent`, and on what else the repository has (`also`).

    Paths in the staged package are shown as in the repository.
    """
    title("basedpyright")
    config = staged_parent / "basedpyright.json"
    config.write_text(json.dumps(types_config(staged_parent, also), indent=2))
    command = [programs / "basedpyright", "--project", config, "--pythonpath", python, "--level", "error"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT, check=False)
    say((done.stdout + done.stderr).replace(str(staged_parent / PACKAGE), str(ROOT)).strip())
    return done.returncode == 0


def types_config(staged_parent: Path, also: Sequence[str]) -> dict[str, object]:
    """basedpyright's settings in pyproject.toml, with the add-on and the backend looked at where they are staged.

    The staged package and the repository's tests see each other, by either name.
    """
    package = staged_parent / PACKAGE
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["basedpyright"]
    places = [
        {
            **place,
            "root": str((package if place["root"] in FOLDERS else ROOT) / place["root"]),
            "extraPaths": [str(staged_parent), str(ROOT)],
        }
        for place in settings["executionEnvironments"]
    ]
    staged_too = {"root": str(package), "extraPaths": [str(staged_parent)]}
    return {
        **settings,
        "include": [str(package), *(str(ROOT / name) for name in also)],
        "exclude": ["**/__pycache__"],
        "executionEnvironments": [*places[:-1], staged_too, places[-1]],
    }


def check_layers(programs: Path, staged_parent: Path, config: Path = ROOT / "pyproject.toml") -> bool:
    """import-linter's contracts (in pyproject.toml), on the staged package `grisaille` in `staged_parent`."""
    command = [programs / "lint-imports", "--config", config, "--no-cache"]
    return _check("import-linter", command, staged_parent)


def check_imports(staged: Path) -> bool:
    """What import-linter cannot say: that nothing but the standard library, numpy and Blender's modules comes in."""
    title("what Blender's side imports")
    faults = contract.foreign_imports(staged)
    say("\n".join(faults) if faults else "only the standard library, numpy and Blender's own modules")
    return not faults


def _check(name: str, command: Sequence[str | Path], folder: Path = ROOT) -> bool:
    title(name)
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run([str(word) for word in command], cwd=folder, env=environ, check=False).returncode == 0
