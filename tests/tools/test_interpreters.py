"""The search for Python interpreters, on machines made of scripts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tools import interpreters

pytestmark = pytest.mark.skipif(
    os.name == "nt", reason="the machines are made of shell scripts; run it on Linux or macOS"
)

ABSENT = "3.99"
"""A version that no machine has, so that only what a test makes can be found."""


def make_program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def make_python(path: Path, version: str = ABSENT, free_threaded: int = 0) -> Path:
    """A program that answers the probe like a Python of that version."""
    return make_program(path, f"echo '{version}|{free_threaded}|{path}'")


def machine(tmp_path: Path, *path_folders: Path, **variables: str) -> dict[str, str]:
    path = os.pathsep.join([*map(str, path_folders), "/usr/bin", "/bin"])
    return {"PATH": path, "HOME": str(tmp_path / "home"), **variables}


@pytest.fixture(autouse=True)
def no_homebrew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreters, "HOMEBREW_PREFIXES", ())


def test_a_broken_shim_on_path_is_passed_by(tmp_path: Path) -> None:
    shims, real = tmp_path / "shims", tmp_path / "real"
    make_program(shims / f"python{ABSENT}", "echo 'pyenv: command not found' >&2; exit 127")
    good = make_python(real / f"python{ABSENT}")
    assert interpreters.find_interpreter(ABSENT, machine(tmp_path, shims, real)) == good


def test_behind_a_broken_shim_the_version_is_found_in_pyenv(tmp_path: Path) -> None:
    make_program(tmp_path / "shims" / f"python{ABSENT}", "exit 127")
    make_python(tmp_path / "pyenv" / "versions" / f"{ABSENT}.2" / "bin" / "python")
    newest = make_python(tmp_path / "pyenv" / "versions" / f"{ABSENT}.10" / "bin" / "python")
    environ = machine(tmp_path, tmp_path / "shims", PYENV_ROOT=str(tmp_path / "pyenv"))
    assert interpreters.find_interpreter(ABSENT, environ) == newest


def test_pyenv_is_found_in_the_home_folder_too(tmp_path: Path) -> None:
    python = make_python(tmp_path / "home" / ".pyenv" / "versions" / f"{ABSENT}.1" / "bin" / "python")
    assert interpreters.find_interpreter(ABSENT, machine(tmp_path)) == python


def test_a_shim_that_works_leads_to_the_interpreter_behind_it(tmp_path: Path) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shim = make_program(tmp_path / "shim", f"exec '{sys.executable}' \"$@\"")
    found = interpreters.probe([str(shim)], version)
    assert found is not None and found.samefile(sys.executable)


def test_homebrew_is_searched(tmp_path: Path) -> None:
    python = make_python(tmp_path / "brew" / "opt" / f"python@{ABSENT}" / "bin" / f"python{ABSENT}")
    environ = machine(tmp_path, HOMEBREW_PREFIX=str(tmp_path / "brew"))
    assert interpreters.find_interpreter(ABSENT, environ) == python


def test_a_plain_python3_of_that_version_is_enough(tmp_path: Path) -> None:
    python = make_python(tmp_path / "bin" / "python3")
    assert interpreters.find_interpreter(ABSENT, machine(tmp_path, tmp_path / "bin")) == python


@pytest.mark.parametrize(("version", "free_threaded"), [("3.98", 0), (ABSENT, 1)])
def test_another_version_and_a_free_threaded_build_do_not_do(tmp_path: Path, version: str, free_threaded: int) -> None:
    make_python(tmp_path / "bin" / f"python{ABSENT}", version, free_threaded)
    assert interpreters.find_interpreter(ABSENT, machine(tmp_path, tmp_path / "bin")) is None


def test_uv_is_asked_last_and_a_failed_download_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uv = make_program(tmp_path / "uv", f"echo \"$@\" >> {tmp_path}/calls; echo 'error: no network' >&2; exit 1")
    assert interpreters.fetch_interpreter(uv, ABSENT) is None
    assert any(call.startswith("python install") for call in (tmp_path / "calls").read_text().splitlines())
    assert capsys.readouterr().out.count("\n") == 1
