"""python -m backend bench: FLUX at its real size with random weights, ours against diffusers, as ratios."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

DONE, FAILED, USAGE = 0, 1, 2


def add_to(commands: Any) -> None:
    """Adds the command to what `add_subparsers` made."""
    parser = commands.add_parser(
        "bench",
        help="measure this device with a model of FLUX's real size and random weights",
        description="Goes on where it was stopped: what is measured is kept in the scratch folder. "
        "Exit status: 0 all parts ran, 1 some did not, 2 called wrongly.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("--scratch", type=Path, metavar="FOLDER", help="for models and results (default: ~/.cache/grisaille/bench)")
    add("--size", choices=("real", "tiny"), default="real", help="tiny runs on a CPU in moments, and says nothing")
    add("--device", default="auto", help='"auto", "cpu", "cuda:1" …')
    add("--parts", metavar="NAMES", help='of the parts, such as "floors,exact,stock" (default: all)')
    add("--limit", type=float, metavar="SECONDS", help="for each part (default: 460)")
    add("--isolated", action=argparse.BooleanOptionalAction, help="a process for each part (default, but for tiny)")
    add("--profile", action="store_true", help="also tell, in files, which operators a step of ours spends its time in")
    add("--write", type=Path, metavar="FILE", help="put the table into this file, such as docs/benchmarks.md")
    add("--list", action="store_true", help="list the parts and end")
    add("--part", help=argparse.SUPPRESS)
    add("--answer", type=Path, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Returns the exit status."""
    from ..bench.runner import LIMIT, Run, answer_to, go_on
    from ..bench.table import markdown, section, write_section
    from ..wire import FailureError

    scratch = options.scratch or Path.home() / ".cache" / "grisaille" / "bench"
    isolated = options.size != "tiny" if options.isolated is None else options.isolated
    plan = Run(scratch, options.size, options.device, options.limit or LIMIT, isolated, _say, options.profile)
    if options.part:
        answer_to(options.answer, plan, options.part)
        return DONE
    from ..bench.parts import PARTS

    if options.list:
        for name, part in PARTS.items():
            print(f"{name}: {part.title}")
        return DONE
    names = [name.strip() for name in options.parts.split(",")] if options.parts else list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        _say(f"There is no part called {unknown[0]!r}. Use some of {', '.join(PARTS)}.")
        return USAGE
    try:
        state = go_on(plan, names)
        if options.write is not None:
            write_section(options.write, section(state))
    except FailureError as error:
        _say(str(error.failure))
        return FAILED
    print(markdown({name: told["values"] for name, told in state["parts"].items() if "values" in told}))
    return FAILED if any("failed" in state["parts"][name] for name in names) else DONE


def _say(words: str) -> None:
    print(f"grisaille: {words}", file=sys.stderr, flush=True)
