"""python -m backend plan: how a picture would be run on a machine, this one or any other, before anything is loaded."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import enhance_options
from .generate import DONE, FAILED, USAGE, size

if TYPE_CHECKING:
    from ..planning import Machine, MemoryPlan, ModelChoice
    from ..wire import GenerationRequest

GB = 1_000_000_000
KINDS = ("cuda", "mps", "cpu")


def add_to(commands: Any) -> None:
    """Adds the command to what `add_subparsers` made."""
    parser = commands.add_parser(
        "plan",
        help="show how a picture would be run on this machine, or on another one",
        description="Prints which model would be taken, how full the device would get and how long it would take. "
        "Loads nothing. Exit status: 0 it fits, 1 it does not or cannot be done, 2 called wrongly.",
        epilog="Another machine is named by --device and --memory; this one is looked at without them.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("--models", type=Path, metavar="FOLDER", help="your models, beside those that ship")
    add("--model", default="", metavar="NAME", help="a folder in it (default: the best for this picture and machine)")
    add("--prompt", default="a picture", help="what the picture shows; it changes nothing here")
    add("--size", type=size, default=(1024, 1024), metavar="WIDTHxHEIGHT", help="in pixels (default: 1024x1024)")
    add("--steps", type=int, default=20)
    add("--sampler", default="euler")
    add("--controls", default="", metavar="KINDS", help='such as "depth,line"')
    add("--loras", default="", metavar="NAMES", help="of files in the models folder, such as turbo,ink")
    add("--true-cfg", type=float, default=1.0, metavar="SCALE", help="above 1 each step takes two passes")
    add("--reference", action="store_true", help="with a reference picture")
    add("--speed", default="exact", metavar="NAME", help='"exact" (the default), or a faster one, such as "eight_bit"')
    add("--device", default="auto", help='"auto", "cpu", "cuda:1" …; with --memory one of cuda, mps and cpu')
    add(
        "--memory",
        type=float,
        default=0.0,
        metavar="GB",
        help="what is free on the device, of a machine that is not here",
    )
    add("--host-memory", type=float, default=0.0, metavar="GB", help="main memory of that machine (default: unknown)")
    add("--cache", type=Path, metavar="FOLDER", help="the cache of earlier runs, which knows how long they took")
    add("--json", action="store_true", help="print all of it as one line of JSON")
    enhance_options.add_to(parser, "how many times as large the picture is made once it is painted, 1.5 to 8")


def run(options: argparse.Namespace) -> int:
    """Returns the exit status."""
    from ..wire import FailureError, FailureKind

    try:
        choice, plan = _planned(options)
    except FailureError as error:
        print(f"grisaille: {error.failure}", file=sys.stderr)
        return USAGE if error.failure.kind == FailureKind.BAD_REQUEST else FAILED
    if options.json:
        print(json.dumps({"folder": choice.folder.name, "choice": choice.reason, **plan.to_json()}, ensure_ascii=False))
    else:
        print(*plan.lines, sep="\n")
        if choice.reason:
            print(f"grisaille: {choice.folder.name}: {choice.reason}", file=sys.stderr)
    return DONE if plan.fits else FAILED


def _planned(options: argparse.Namespace) -> tuple[ModelChoice, MemoryPlan]:
    from ..production.planned import plan_request
    from ..production.stage_times import StageTimes
    from ..wire.model_names import shipped_models

    times = StageTimes(options.cache / "stages.json" if options.cache is not None else None)
    models = options.models if options.models is not None else shipped_models()
    return plan_request(_request(options), models, options.device, _machine(options), times)


def _machine(options: argparse.Namespace) -> Machine:
    from ..planning import Machine
    from ..production.machine import machine_of
    from ..wire import FailureError, FailureKind

    if not options.memory:
        return machine_of(options.device)
    kind = options.device.partition(":")[0]
    if kind not in KINDS:
        raise FailureError.of(
            FailureKind.BAD_REQUEST, f"There is no machine of the kind {kind!r}.", "Give --device cuda, mps or cpu."
        )
    memory, host = round(options.memory * GB), round(options.host_memory * GB)
    return Machine(kind, "", memory, memory, host, host)


def _request(options: argparse.Namespace) -> GenerationRequest:
    from ..wire import Control, GenerationRequest, LoRA

    width, height = options.size
    kinds = [kind.strip() for kind in options.controls.split(",") if kind.strip()]
    loras = [name.strip() for name in options.loras.split(",") if name.strip()]
    return GenerationRequest(
        options.prompt,
        width,
        height,
        steps=options.steps,
        sampler=options.sampler,
        model=options.model,
        controls=tuple(Control(kind) for kind in kinds),
        loras=tuple(LoRA(name) for name in loras),
        negative_prompt="what is away from it" if options.true_cfg > 1.0 else "",
        true_cfg=options.true_cfg,
        reference_strength=1.0 if options.reference else 0.0,
        speed=options.speed,
        enhancement=enhance_options.enhancement(options),
    )
