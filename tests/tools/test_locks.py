"""What is written in the lock files."""

from __future__ import annotations

import re

import pytest

from tools.console import ROOT
from tools.locks import LOCKS, REQUIREMENTS
from tools.uv import UV_LOCK, UV_VERSION


def requirements_in(lock: str) -> dict[str, str]:
    """Each package of a lock with the whole of its entry."""
    text = "\n".join(line for line in (REQUIREMENTS / lock).read_text().splitlines() if not line.startswith("#"))
    entries = re.findall(r"^([a-zA-Z0-9._-]+)((?:.*\\\n)*.*)$", text, re.MULTILINE)
    return {name.lower(): entry for name, entry in entries}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_has_an_exact_version_and_a_hash(lock: str) -> None:
    entries = requirements_in(lock)
    assert entries
    for name, entry in entries.items():
        assert re.match(r"==[0-9]", entry), name
        assert "--hash=sha256:" in entry, name


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_names_a_host_or_an_index(lock: str) -> None:
    text = (REQUIREMENTS / lock).read_text()
    assert "://" not in text and "--index" not in text and "--find-links" not in text


@pytest.mark.parametrize("lock", ["blender-5.2.lock", "blender-4.5.lock"])
def test_beside_blender_there_is_no_torch(lock: str) -> None:
    entries = requirements_in(lock)
    assert "bpy" in entries and "pytest" in entries
    assert not {"torch", "diffusers", "pillow"} & set(entries)


def test_the_pinned_uv_is_the_one_in_its_lock() -> None:
    assert f"uv=={UV_VERSION} " in UV_LOCK.read_text()


def test_ci_runs_lint_and_then_the_tests() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert lines[-2:] == ["python3 build.py lint", "python3 build.py test"]
    assert "set -euo pipefail" in lines
