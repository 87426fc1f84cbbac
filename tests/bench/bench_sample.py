"""The first picture: a whole process that loads the sample model and paints 512 x 512 pixels in 12 steps."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.figure import Figure

ROOT = Path(__file__).resolve().parent.parent.parent
ROUNDS = 3
SECONDS_MAX = 15.0
PICTURE = """
from backend.production import Production
from backend.sample.figures import Painting, held_out_cases, look_for
from backend.sample.world.captions import plain_caption
from backend.wire.model_names import shipped_models

case = held_out_cases(1, 512)[0]
Painting(Production(shipped_models(), "cpu"))(case, plain_caption(look_for(case, 0)), "depth", 1)
"""


def run() -> list[Figure]:
    """The median of a few rounds, after one to warm the disk's cache."""
    times = [_time_picture() for _ in range(ROUNDS + 1)][1:]
    seconds = statistics.median(times)
    detail = f"{seconds:.1f} s for a process that imports, loads and paints, median of {ROUNDS}; the reference is 15 s"
    return [Figure("a first picture of 512² in 12 steps, sample model ÷ 15 s", seconds / SECONDS_MAX, 1.0, detail)]


def _time_picture() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", PICTURE], check=True, cwd=ROOT)
    return time.perf_counter() - started


def main() -> None:
    for figure in run():
        print(f"{figure.name}: {figure.ratio:.2f} (target {figure.target}); {figure.detail}")


if __name__ == "__main__":
    main()
