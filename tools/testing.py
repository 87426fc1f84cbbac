"""Runs every test in the environment it belongs to, and adds up what came out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from tools import libraries
from tools.console import ROOT, ToolError, run_quietly, say, title
from tools.environments import ALL, BACKEND, BLENDERS, Environment, Prepared, prepare
from tools.staging import build_zip, validate

REPORTS = ROOT / "build" / "tests"
SUITE_SECONDS = 40 * 60
NO_TESTS = 5
"""pytest's exit code when nothing was collected."""


@dataclass(frozen=True)
class Suite:
    """A folder of tests and the environment that it runs in."""

    folder: str
    environment: Environment

    @property
    def name(self) -> str:
        return f"{self.folder} on {self.environment.purpose}" if self.environment.blender else self.folder


@dataclass(frozen=True)
class Skip:
    """A test that was not run, or all of a suite, and why."""

    suite: str
    test: str
    reason: str


@dataclass
class Outcome:
    """What came out: numbers of tests, the skips, and a line for each fault."""

    passed: int = 0
    failed: int = 0
    skips: list[Skip] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skips += other.skips
        self.faults += other.faults


def suites() -> list[Suite]:
    """All of them, the quick ones first."""
    plain = [Suite(f"tests/{name}", BACKEND) for name in ("tools", "wire", "link", "backend")]
    in_blender = [Suite(f"tests/{name}", blender) for blender in BLENDERS for name in ("addon", "end_to_end")]
    return [*plain, *in_blender, Suite("tests/gui", BACKEND)]


def run(only: Sequence[str], pytest_arguments: Sequence[str], measure: bool = True) -> int:
    """Runs the suites whose name holds one of `only` (all when empty); returns 0 when nothing failed, else 1.

    A selection for pytest (`-k`) may leave a suite without tests; otherwise a suite that runs none is a fault.
    """
    chosen = [suite for suite in suites() if not only or any(word in suite.name for word in only)]
    if not chosen:
        raise ToolError(f"No suite is called {' or '.join(only)}: there are {', '.join(s.name for s in suites())}.")
    prepared = prepare(ALL)
    backend_python = prepared.python(BACKEND)
    if any(suite.environment.blender for suite in chosen):
        libraries.check_libraries()
        if not prepared.blenders():
            raise ToolError("No Blender could be set up: " + " ".join(prepared.missing.values()))
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    archive = build_zip()
    for blender in prepared.blenders():
        validate(archive, prepared.python(blender))
    total = Outcome()
    for suite in chosen:
        total.add(_run_suite(suite, prepared, archive, pytest_arguments, measure))
    if measure:
        _show_coverage(backend_python)
    return _conclude(total)


def _run_suite(
    suite: Suite, prepared: Prepared, archive: Path, pytest_arguments: Sequence[str], measure: bool
) -> Outcome:
    title(suite.name)
    if suite.environment.name in prepared.missing:
        reason = prepared.missing[suite.environment.name]
        say(f"skipped: {reason}")
        return Outcome(skips=[Skip(suite.name, "all of it", reason)])
    report = REPORTS / f"{suite.name.replace('/', '-').replace(' ', '-')}.xml"
    command: list[str | Path] = [prepared.python(suite.environment)]
    if measure:
        command += ["-m", "coverage", "run", f"--rcfile={ROOT / 'pyproject.toml'}"]
    command += ["-m", "pytest", "-q", "-o", "faulthandler_timeout=600", f"--junitxml={report}", suite.folder]
    environ = test_environment(prepared.python(BACKEND), archive, prepared.python(suite.environment))
    code = _run_group([*command, *pytest_arguments], environ)
    selected = any(word in ("-k", "-m", "--deselect") for word in pytest_arguments)
    return judge(suite, code, report, none_is_fine=selected)


def test_environment(backend_python: Path, archive: Path, own_python: Path) -> dict[str, str]:
    """The variables that tests run with: where the backend's Python and the zip are, and how many threads to use."""
    environ = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    # The models of the tests are tiny: one thread is done before several have waited for each other, above all on a
    # machine that has other things to do.
    environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environ |= {"GRISAILLE_PYTHON": str(backend_python), "GRISAILLE_ZIP": str(archive), "GRISAILLE_ROOT": str(ROOT)}
    environ |= {"COVERAGE_FILE": str(REPORTS / ".coverage"), "TOKENIZERS_PARALLELISM": "false"}
    environ |= {"HF_HUB_OFFLINE": "1", "PYTHONFAULTHANDLER": "1"}
    version = run_quietly([own_python, "-c", "import sys; print(sys.version_info >= (3, 12))"]).stdout.strip()
    if version == "True":
        # Tracing by sys.monitoring costs next to nothing; Python 3.11 does not have it.
        environ["COVERAGE_CORE"] = "sysmon"
    return environ


def judge(suite: Suite, code: int, report: Path, none_is_fine: bool = False) -> Outcome:
    """Reads pytest's report. A suite that crashed, left no report or ran no test is a fault of its own."""
    outcome = read_report(suite.name, report) if report.exists() else Outcome()
    if code == NO_TESTS and none_is_fine:
        return outcome
    count = outcome.passed + outcome.failed + len(outcome.skips)
    if code == NO_TESTS or (code == 0 and count == 0):
        outcome.faults.append(f"{suite.name}: it has no tests")
    elif code != 0 and outcome.failed == 0:
        how = f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        outcome.faults.append(f"{suite.name}: {how} without a failed test")
    else:
        return outcome
    outcome.failed += 1
    return outcome


def read_report(name: str, report: Path) -> Outcome:
    """The numbers, skips and failures in pytest's JUnit file; a report that is cut off counts as a failure."""
    try:
        cases = list(ElementTree.parse(report).iter("testcase"))
    except ElementTree.ParseError:
        return Outcome(failed=1, faults=[f"{name}: its report is cut off"])
    outcome = Outcome()
    for case in cases:
        test = f"{case.get('classname', '').rpartition('.')[2]}.{case.get('name')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.failed += 1
            outcome.faults.append(f"{name}: {test}")
        elif skipped is not None:
            outcome.skips.append(Skip(name, test, skipped.get("message") or "no reason given"))
        else:
            outcome.passed += 1
    return outcome


def _run_group(command: Sequence[str | Path], environ: dict[str, str]) -> int:
    """Runs a suite in a process group of its own, which is ended with it when it hangs or is interrupted."""
    words = [str(word) for word in command]
    own_group = os.name == "posix"
    process = subprocess.Popen(words, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, start_new_session=own_group)
    try:
        return process.wait(SUITE_SECONDS)
    except subprocess.TimeoutExpired:
        say(f"It did not end within {SUITE_SECONDS // 60} minutes.")
        return 124
    finally:
        if process.poll() is None:
            _end(process, own_group)


def _end(process: subprocess.Popen[bytes], own_group: bool) -> None:
    if own_group and sys.platform != "win32":
        import signal

        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _show_coverage(python: Path) -> None:
    """Combines what all suites measured, in the repository's paths, and prints the table."""
    title("coverage")
    environ = {**os.environ, "COVERAGE_FILE": str(REPORTS / ".coverage"), "GRISAILLE_ROOT": str(ROOT)}
    command = [python, "-m", "coverage"]
    rcfile = f"--rcfile={ROOT / 'pyproject.toml'}"
    combined = run_quietly([*command, "combine", "--quiet", rcfile, REPORTS], environ)
    table = run_quietly([*command, "report", rcfile, "--include=addon/*,backend/*"], environ)
    say((table.stdout if table.returncode == 0 else combined.stderr + table.stdout + table.stderr).strip())
    measured = {line.split()[0] for line in table.stdout.splitlines() if line.startswith(("addon/", "backend/"))}
    files = (path for folder in ("addon", "backend") for path in (ROOT / folder).rglob("*.py") if path.stat().st_size)
    never = sorted(path.relative_to(ROOT).as_posix() for path in files)
    unseen = [name for name in never if name not in measured]
    if unseen:
        say(f"Not run by any test: {', '.join(unseen)}")


def skip_lines(skips: Sequence[Skip]) -> list[str]:
    """One line for each reason in a suite: the test's name, or how many have it (their names are in the report)."""
    tests: dict[tuple[str, str], list[str]] = {}
    for skip in skips:
        tests.setdefault((skip.suite, skip.reason), []).append(skip.test)
    return [
        f"{suite}: {names[0] if len(names) == 1 else f'{len(names)} tests'}: {reason}"
        for (suite, reason), names in tests.items()
    ]


def _conclude(total: Outcome) -> int:
    if total.skips:
        title("skipped")
        say("\n".join(skip_lines(total.skips)))
    if total.faults:
        title("failed")
        say("\n".join(total.faults))
    say()
    say(f"{total.passed} passed, {total.failed} failed, {len(total.skips)} skipped")
    return 1 if total.failed or total.faults else 0
