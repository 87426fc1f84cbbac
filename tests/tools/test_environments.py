"""Making environments, with a uv made of a script: what is set up when, and what a person is told."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tools import environments
from tools.console import ToolError
from tools.environments import STAMP, Environment, is_current, prepare

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the fake uv is a shell script; run it on Linux or macOS")

FAKE_UV = """#!/bin/sh
echo "$@" >> {folder}/calls
if [ "$1" = venv ]; then
  for last; do :; done
  mkdir -p "$last/bin" && ln -sf {python} "$last/bin/python"
elif [ -e {folder}/offline ]; then
  exit 1
fi
"""
FIRST = Environment(".venv-first", "the first", "first.lock", ("3.11",), 0.1, 0.1)
SECOND = Environment(".venv-second", "the second", "second.lock", ("3.99",), 0.2, 0.2)


class Machine:
    """A repository's root and a uv that writes down how it is called."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uv = root / "uv"
        self.uv.write_text(FAKE_UV.format(folder=root, python=sys.executable))
        self.uv.chmod(0o755)
        (root / "requirements").mkdir()
        self.write_lock("one==1")

    def write_lock(self, text: str) -> None:
        for environment in (FIRST, SECOND):
            (self.root / "requirements" / environment.lock).write_text(text)

    def take_calls(self) -> list[str]:
        """The first words of uv's calls since the last time."""
        path = self.root / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [line.split()[0] for line in lines]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setattr(environments, "uv_program", lambda: made.uv)
    found = {"3.11": Path(sys.executable)}
    monkeypatch.setattr(environments, "find_interpreter", lambda version: found.get(version))
    monkeypatch.setattr(environments, "fetch_interpreter", lambda uv, version: None)
    return made


def test_the_second_run_sets_nothing_up_and_says_nothing(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    prepare([FIRST], machine.root)
    assert machine.take_calls() == ["venv", "pip"]
    assert "0.1 GB" in capsys.readouterr().out
    prepared = prepare([FIRST], machine.root)
    assert machine.take_calls() == []
    assert capsys.readouterr().out == ""
    assert prepared.python(FIRST) == machine.root / ".venv-first" / "bin" / "python"


def test_a_changed_lock_brings_the_environment_up_to_date(machine: Machine) -> None:
    prepare([FIRST], machine.root)
    machine.take_calls()
    machine.write_lock("one==2")
    assert not is_current(FIRST, machine.root)
    prepare([FIRST], machine.root)
    assert machine.take_calls() == ["pip"]
    assert is_current(FIRST, machine.root)


def test_an_interrupted_set_up_is_made_anew(machine: Machine) -> None:
    (machine.root / "offline").touch()
    with pytest.raises(ToolError, match=r"\.venv-first could not be made"):
        prepare([FIRST], machine.root)
    assert not is_current(FIRST, machine.root)
    half = machine.root / ".venv-first" / "half-installed"
    half.touch()
    (machine.root / "offline").unlink()
    machine.take_calls()
    prepare([FIRST], machine.root)
    assert machine.take_calls() == ["venv", "pip"]
    assert not half.exists()


def test_an_interrupted_update_is_not_taken_for_finished(machine: Machine) -> None:
    prepare([FIRST], machine.root)
    machine.write_lock("one==2")
    (machine.root / "offline").touch()
    with pytest.raises(ToolError):
        prepare([FIRST], machine.root)
    machine.write_lock("one==1")
    assert not is_current(FIRST, machine.root)


def test_an_environment_whose_interpreter_is_gone_is_made_anew(machine: Machine) -> None:
    prepare([FIRST], machine.root)
    python = machine.root / ".venv-first" / "bin" / "python"
    python.unlink()
    python.symlink_to(machine.root / "uninstalled")
    machine.take_calls()
    prepare([FIRST], machine.root)
    assert machine.take_calls() == ["venv", "pip"]


def test_a_missing_interpreter_is_one_line_and_the_rest_is_made(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = prepare([FIRST, SECOND], machine.root)
    lines = [line for line in capsys.readouterr().out.splitlines() if ".venv-second" in line]
    assert len(lines) == 1 and "3.99" in lines[0]
    assert list(prepared.pythons) == [".venv-first"]
    with pytest.raises(ToolError, match=r"3\.99"):
        prepared.python(SECOND)


def test_a_full_disk_is_said_before_anything_is_fetched(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = Environment(".venv-huge", "too much", "first.lock", ("3.11",), 1e9, 1e9)
    with pytest.raises(ToolError, match="GB free"):
        prepare([huge], machine.root)
    assert machine.take_calls() == []


def test_a_broken_stamp_counts_as_none(machine: Machine) -> None:
    prepare([FIRST], machine.root)
    (machine.root / ".venv-first" / STAMP).write_text("{")
    assert not is_current(FIRST, machine.root)


def test_the_backend_stands_on_every_python_from_3_11_and_blender_on_its_own() -> None:
    assert environments.BACKEND.pythons[-1] == "3.11"
    assert [blender.pythons for blender in environments.BLENDERS] == [("3.13",), ("3.11",)]
