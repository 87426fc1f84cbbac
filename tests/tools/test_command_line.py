"""build.py as it is typed."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tools import benchmarks, staging
from tools.benchmarks import Row
from tools.command_line import main
from tools.console import ROOT, progress_bar


def test_an_old_python_reads_build_py_and_is_told_what_it_needs() -> None:
    source = (ROOT / "build.py").read_text()
    ast.parse(source, feature_version=(3, 4))
    program = f"import sys; sys.version_info = (3, 9, 1); exec({source!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "3.11 or later, and this is Python 3.9" in done.stderr


def test_build_py_and_its_tools_are_standard_library_only() -> None:
    # -S leaves site-packages out: an import of anything else fails.
    done = subprocess.run(
        [sys.executable, "-S", "build.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    modules = "benchmarks command_line contract environments interpreters libraries lint locks staging testing uv demo"
    imports = "; ".join(f"import tools.{name}" for name in modules.split())
    done = subprocess.run([sys.executable, "-S", "-c", imports], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [["paint"], ["zip", "--nonsense"]])
def test_bad_usage_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2


def test_a_fault_of_a_tool_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise staging.ToolError("The disk is full.")

    monkeypatch.setattr(staging, "build_zip", fail)
    assert main([]) == 1
    assert capsys.readouterr().out == "build.py: The disk is full.\n"


def test_a_progress_bar_stays_within_its_ends() -> None:
    assert progress_bar(0.5, "denoising", 10) == "[#####.....]  50%  denoising"
    assert progress_bar(7, width=4) == "[####] 100%"
    assert progress_bar(-1, width=4) == "[....]   0%"


def test_the_benchmarks_table_says_what_was_missed() -> None:
    rows = [
        Row("the backend", "bytes", 1.2, 1.3, "0.1 s"),
        Row("Blender 5.2", "capture", 3.5, 3.0, "1 s"),
        Row("Blender 5.2", "memory", 2.0, None, "2 MB"),
    ]
    lines = benchmarks.markdown(rows).splitlines()
    assert lines[2] == "| the backend | bytes | 1.2 | ≤ 1.3 | ok | 0.1 s |"
    assert "MISSED" in lines[3] and "reported" in lines[4]


def test_a_benchmark_says_where_it_runs() -> None:
    names = {
        line: [place.name for place in benchmarks.environments_of(f"import os\n{line}\n")]
        for line in ("", "IN_BLENDER = True", 'IN_BLENDER = "5.2"')
    }
    assert list(names.values()) == [[".venv"], [".venv-5.2", ".venv-4.5"], [".venv-5.2"]]
