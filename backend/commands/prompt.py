"""python -m backend prompt: the prompt that a model will read, before anything is painted."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..wire import GenerationResult

DONE, FAILED, USAGE = 0, 1, 2


def add_to(commands: Any) -> None:
    """Adds the command to what `add_subparsers` made."""
    parser = commands.add_parser(
        "prompt",
        help="show the prompt that a model will read",
        description="Prints the prompt as it would be used; what is to be said of it goes to stderr. "
        "Exit status: 0 done, 1 failed, 2 called wrongly.",
        epilog="A style that there is not is refused, with a list of those that there are.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("prompt", help="(word:1.2) weighs, {a|b} is one of the two by the seed")
    add("--negative-prompt", default="", metavar="TEXT", help="what the picture should not show; needs --true-cfg")
    add("--true-cfg", type=float, default=1.0, metavar="SCALE", help="how strongly the negative prompt acts, above 1")
    add("--style", default="", metavar="NAME", help="a style whose words are added")
    add("--enhance", action="store_true", help="add words on light and quality where none are")
    add("--seed", type=int, default=0, help="what chooses among wildcards (default: 0)")
    add("--models", type=Path, metavar="FOLDER", help="your models, beside those that ship")
    add("--model", default="", metavar="NAME", help="whose tokens are counted (default: the first there is)")
    add("--json", action="store_true", help="print all of it as one line of JSON")


def run(options: argparse.Namespace) -> int:
    """Returns the exit status."""
    from ..wire import FailureError, FailureKind

    try:
        result = _shown(options)
    except FailureError as error:
        print(f"grisaille: {error.failure}", file=sys.stderr)
        return USAGE if error.failure.kind == FailureKind.BAD_REQUEST else FAILED
    plan = result.plan
    if options.json:
        print(json.dumps(plan, ensure_ascii=False))
        return DONE
    print(plan["prompt"])
    counts = ", ".join(f"{name} {count} of {limit}" for name, (count, limit) in plan["tokens"].items())
    print(f"Tokens: {counts}", plan.get("note", ""), sep="\n", file=sys.stderr)
    return DONE


def _shown(options: argparse.Namespace) -> GenerationResult:
    from ..pipeline import create_production_pipeline

    pipeline = create_production_pipeline(options.model, options.models)
    fields = ("negative_prompt", "true_cfg", "style", "enhance", "seed")
    request = pipeline.request(options.prompt, **{name: getattr(options, name) for name in fields})
    return pipeline.show_prompt(request)
