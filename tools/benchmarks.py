"""Runs the benchmarks, each in its own process and environment, and shows their ratios beside the targets."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.console import ROOT, ToolError, say, title
from tools.environments import ALL, BACKEND, BLENDERS, Environment, Prepared, prepare
from tools.staging import build_zip

BENCHMARKS = ROOT / "tests" / "bench"
IN_BLENDER = re.compile(r"^IN_BLENDER = (True|\"([0-9.]+)\")$", re.MULTILINE)
"""A benchmark module with such a line runs in Blender's environments, or in that of one version; others in .venv."""

HEAD = ("| where | figure | ratio | target | | detail |", "|---|---|---|---|---|---|")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    where: str
    name: str
    ratio: float
    target: float | None
    detail: str

    @property
    def verdict(self) -> str:
        if self.target is None:
            return "reported"
        return "ok" if self.ratio <= self.target else "MISSED"


def run(only: Sequence[str], write: bool = False) -> int:
    """Runs the benchmarks whose name holds one of `only`; returns 0 when all ran and met their targets, else 1."""
    modules = sorted(path for path in BENCHMARKS.glob("bench_*.py") if not only or any(o in path.stem for o in only))
    if not modules:
        raise ToolError("There is no such benchmark: they are tests/bench/bench_*.py.")
    prepared = prepare(ALL)
    archive = build_zip()
    rows: list[Row] = []
    failed: list[str] = []
    for module in modules:
        for environment in environments_of(module.read_text(encoding="utf-8")):
            title(f"{module.stem} on {environment.purpose}")
            if environment.name in prepared.missing:
                say(f"skipped: {prepared.missing[environment.name]}")
                continue
            figures = _run_module(module, environment, prepared, archive)
            if figures is None:
                failed.append(f"{module.stem} on {environment.purpose}")
            else:
                rows += [_row(environment, figure) for figure in figures]
    say(f"\n{markdown(rows)}")
    if write:
        is_whole = not only and not failed and not prepared.missing
        page = ROOT / "docs" / "benchmarks.md"
        before = page.read_text(encoding="utf-8") if page.is_file() else ""
        page.write_text(written(before, rows, is_whole), encoding="utf-8")
    missed = [row.name for row in rows if row.verdict == "MISSED"]
    if failed:
        say(f"\nBenchmarks that failed: {', '.join(failed)}")
    say(f"\nbench: {len(rows)} figures, {len(missed)} missed, {len(failed)} benchmarks failed")
    return 1 if missed or failed else 0


def written(before: str, rows: Sequence[Row], is_whole: bool) -> str:
    """The page with these rows. is_whole: whether all benchmarks ran; else the rows of those that did not stay.

    Sections after the table are others' and stay as they are.
    """
    own, mark, others = before.partition("\n## ")
    lines = {} if is_whole else {_key(line): line for line in own.splitlines() if line.startswith("| ")}
    lines.pop(_key(HEAD[0]), None)
    # In their old places, so that a change shows as one.
    lines |= {_key(line): line for line in map(_line, rows)}
    header = f"# Benchmarks\n\n`python3 build.py bench --write`, on {machine()}. Ratios within one run.\n\n"
    table = "\n".join([*HEAD, *lines.values()])
    return f"{header}{table}\n{mark}{others}"


def _key(line: str) -> tuple[str, ...]:
    """Where a row of the table was measured, and what."""
    return tuple(cell.strip() for cell in line.split("|")[1:3])


def markdown(rows: Sequence[Row]) -> str:
    """The table, as Markdown."""
    return "\n".join([*HEAD, *map(_line, rows)])


def _line(row: Row) -> str:
    target = "" if row.target is None else f"≤ {row.target:g}"
    return f"| {row.where} | {row.name} | {row.ratio:.3g} | {target} | {row.verdict} | {row.detail} |"


def machine() -> str:
    """The machine in a few words: system, processor type, number of cores."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, no statement about any other machine"


def environments_of(source: str) -> list[Environment]:
    """Where the benchmark with this source runs."""
    wanted = IN_BLENDER.search(source)
    if wanted is None:
        return [BACKEND]
    return [blender for blender in BLENDERS if wanted[2] in (None, blender.blender)]


def _run_module(
    module: Path, environment: Environment, prepared: Prepared, archive: Path
) -> list[dict[str, Any]] | None:
    answer = ROOT / "build" / f"{module.stem}{environment.name}.json"
    answer.parent.mkdir(parents=True, exist_ok=True)
    answer.unlink(missing_ok=True)
    environ = {**os.environ, "GRISAILLE_PYTHON": str(prepared.python(BACKEND)), "GRISAILLE_ZIP": str(archive)}
    command = [prepared.python(environment), "-m", "tests.bench.run_one", module.stem, answer]
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0 or not answer.exists():
        return None
    return json.loads(answer.read_text(encoding="utf-8"))


def _row(environment: Environment, figure: dict[str, Any]) -> Row:
    return Row(environment.purpose, figure["name"], figure["ratio"], figure["target"], figure["detail"])
