"""Adding up the suites: nothing that went wrong is lost in the sum."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import testing
from tools.console import ROOT, ToolError
from tools.environments import BACKEND, BLENDER_5_2, Prepared
from tools.testing import Outcome, Skip, Suite, judge, skip_lines

SUITE = Suite("tests/wire", BACKEND)
PASSING = "def test_a():\n    pass\n"
MIXED = """
import pytest
def test_a(): pass
def test_b(): assert False
@pytest.fixture
def broken(): raise RuntimeError
def test_c(broken): pass
@pytest.mark.skip(reason="no screen: set DISPLAY")
def test_d(): pass
"""


def run_pytest(folder: Path, source: str, *arguments: str) -> tuple[int, Path]:
    """pytest's exit code and report for one test file."""
    (folder / "test_it.py").write_text(source)
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={folder}", str(folder)]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    done = subprocess.run([*command, f"--junitxml={report}", *arguments], capture_output=True, check=False, env=environ)
    return done.returncode, report


def test_failures_errors_and_skips_are_counted_and_named(tmp_path: Path) -> None:
    outcome = judge(SUITE, *run_pytest(tmp_path, MIXED))
    assert (outcome.passed, outcome.failed) == (1, 2)
    assert [fault.rpartition(".")[2] for fault in outcome.faults] == ["test_b", "test_c"]
    assert outcome.skips == [Skip("tests/wire", "test_it.test_d", "no screen: set DISPLAY")]


def test_a_suite_without_tests_is_a_failure_unless_they_were_selected(tmp_path: Path) -> None:
    assert judge(SUITE, *run_pytest(tmp_path, "")).failed == 1
    code, report = run_pytest(tmp_path, PASSING, "-k", "nothing_like_it")
    assert judge(SUITE, code, report).failed == 1
    assert judge(SUITE, code, report, none_is_fine=True).failed == 0


def test_a_crash_after_the_last_test_is_a_failure(tmp_path: Path) -> None:
    _, report = run_pytest(tmp_path, PASSING)
    outcome = judge(SUITE, -11, report)
    assert (outcome.passed, outcome.failed) == (1, 1)
    assert "signal 11" in outcome.faults[0]


def test_a_crash_without_a_report_and_a_torn_report_are_failures(tmp_path: Path) -> None:
    assert judge(SUITE, -9, tmp_path / "none.xml").failed == 1
    torn = tmp_path / "torn.xml"
    torn.write_text("<testsuites><testsuite>")
    assert judge(SUITE, 1, torn).failed == 1


def test_the_last_line_is_the_sum(capsys: pytest.CaptureFixture[str]) -> None:
    total = Outcome(passed=2, skips=[Skip("a", "test_y", "no screen")])
    total.add(Outcome(passed=3, failed=1, faults=["b: test_x"]))
    assert testing._conclude(total) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "5 passed, 1 failed, 1 skipped"
    assert "a: test_y: no screen" in lines and "b: test_x" in lines
    assert testing._conclude(Outcome(passed=1)) == 0


def test_a_suite_whose_environment_is_missing_is_skipped_by_name(tmp_path: Path) -> None:
    prepared = Prepared(missing={BLENDER_5_2.name: "Blender 5.2 needs Python 3.13."})
    outcome = testing._run_suite(Suite("tests/addon", BLENDER_5_2), prepared, tmp_path, [], measure=False)
    assert outcome.failed == 0
    line = "tests/addon on Blender 5.2: all of it: Blender 5.2 needs Python 3.13."
    assert skip_lines(outcome.skips) == [line]


def test_skips_of_one_reason_are_one_line() -> None:
    skips = [Skip("a", "x", "no screen"), Skip("a", "y", "no screen"), Skip("b", "z", "no screen")]
    assert skip_lines(skips) == ["a: 2 tests: no screen", "b: z: no screen"]


def test_every_folder_of_tests_belongs_to_a_suite() -> None:
    folders = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    known = {suite.folder for suite in testing.suites()}
    assert {folder for folder in folders if not any(folder.startswith(name) for name in known)} <= {"tests/gpu"}


def test_an_unknown_suite_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ToolError, match=r"tests/end_to_end on Blender 4\.5"):
        testing.run(["no_such_suite"], [])


def test_the_backends_python_and_the_zip_are_handed_to_the_tests(tmp_path: Path) -> None:
    environ = testing.test_environment(Path("python-of-the-backend"), tmp_path / "it.zip", Path(sys.executable))
    assert environ["GRISAILLE_PYTHON"] == "python-of-the-backend"
    assert environ["GRISAILLE_ZIP"] == str(tmp_path / "it.zip")
    assert "PYTHONPATH" not in environ
