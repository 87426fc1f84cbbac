"""Runs one benchmark in this process and writes its figures as JSON: python -m tests.bench.run_one MODULE FILE."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path


def main(module: str, answer: str) -> None:
    """`module` is a name such as bench_wire, whose run() gives a list of Figures; stdout stays free for its words."""
    figures = import_module(f"tests.bench.{module}").run()
    Path(answer).write_text(json.dumps([asdict(figure) for figure in figures]), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:3])
