"""Printing the backend's help against starting Python at all."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.figure import Figure

ROOT = Path(__file__).resolve().parent.parent.parent
ROUNDS = 15
TARGET = 5.0


def run() -> list[Figure]:
    """Interleaved medians, after one round to warm the disk's cache and write the bytecode."""
    rounds = [(_time("-m", "backend", "--help"), _time("-c", "pass")) for _ in range(ROUNDS + 1)][1:]
    shown, nothing = (statistics.median(times) for times in zip(*rounds, strict=True))
    detail = f"{shown * 1000:.0f} ms ÷ {nothing * 1000:.0f} ms, medians of {ROUNDS}"
    return [Figure("python -m backend --help ÷ python -c pass", shown / nothing, TARGET, detail)]


def _time(*arguments: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    for figure in run():
        print(f"{figure.name}: {figure.ratio:.2f} (target {figure.target}); {figure.detail}")


if __name__ == "__main__":
    main()
