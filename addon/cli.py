"""blender -b FILE --command grisaille generate …: a picture without a window.

Blender writes lines of its own to stdout, so what a program should read goes into the file of --json.
Exit status: 0 done, 1 failed, 2 called wrongly.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

from ..backend.wire import Failure, FailureError, FailureKind
from ..backend.wire.few_steps import PRESETS as FEW_STEP_PRESETS
from ..backend.wire.model_names import model_names
from ..backend.wire.presets import PRESETS
from ..backend.wire.request import SAMPLERS, SCHEDULES
from ..backend.wire.speeds import SPEEDS
from ..backend.wire.styles import STYLES
from . import choices, cli_diagnose, cli_enhance

if TYPE_CHECKING:
    import argparse

    from ..backend.wire import GenerationResult
    from .operators.jobs import Order

DONE, FAILED, USAGE = 0, 1, 2
NAME = "grisaille"


def main(arguments: list[str]) -> int:
    """Runs one command; returns the exit status."""
    try:
        options = parser().parse_args(arguments)
    except SystemExit as stop:  # argparse has said what is wrong, or printed its help
        return DONE if stop.code in (0, None) else USAGE
    if options.command == cli_diagnose.NAME:
        return cli_diagnose.run(options)
    try:
        job_id, result = _generate(options)
    except FailureError as error:
        print(f"grisaille: {error.failure}", file=sys.stderr)
        if error.failure.detail:
            print(error.failure.detail, file=sys.stderr)
        return _report(options, {"ok": False, "failure": error.failure.to_json()}, status_of(error.failure))
    print(f"grisaille: {options.out} is written", file=sys.stderr)
    return _report(options, _summary(options, job_id, result), DONE)


def parser() -> argparse.ArgumentParser:
    """What `main` understands."""
    import argparse

    top = argparse.ArgumentParser(
        prog="blender -b FILE --command grisaille", description="Paint Blender scenes with FLUX.", allow_abbrev=False
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    cli_diagnose.add_to(commands)
    cli_enhance.add_to(commands)
    command = commands.add_parser("generate", help="paint a picture of what a camera sees", allow_abbrev=False)
    add = command.add_argument
    add("--prompt", required=True, help="what the picture shows")
    add("--style", choices=(choices.NO_STYLE, *STYLES), help="a style whose words are added (default: the scene's)")
    add("--enhance", action=argparse.BooleanOptionalAction, help="add words on light and quality where none are")
    add("--out", required=True, type=Path, metavar="PNG", help="the file for the picture")
    add("--camera", default="", metavar="NAME", help="the camera to look through (default: the scene's)")
    add("--size", type=_size, metavar="WIDTHxHEIGHT", help="in pixels (default: the scene's settings)")
    add("--seed", type=int, help="0 or more (default: a new one)")
    add(
        "--negative-prompt", metavar="TEXT", help="what the picture should not show; makes each step take twice as long"
    )
    add("--true-cfg", type=float, metavar="SCALE", help="how strongly the negative prompt acts, above 1 (default: 2)")
    add("--image", metavar="FILE", help="a picture to start from, in place of noise")
    add("--mask", metavar="FILE", help="a picture that is white where that one may change")
    add("--strength", type=float, help="how far to go from it, up to 1 (default: 0.6)")
    add("--edit", metavar="FILE", help="a picture that the prompt says how to change, for Kontext models")
    add("--reference", metavar="FILE", help="a picture whose content and style to take up, for models with Redux")
    add("--reference-strength", type=float, metavar="SCALE", help="how strongly it speaks, up to 2 (default: 1)")
    add("--stages", help='"one", "details", "polish", or a JSON list of stages')
    add("--steps", type=int)
    add("--guidance", type=float)
    add("--sampler", choices=SAMPLERS)
    add("--schedule", choices=SCHEDULES)
    add("--controls", metavar="KINDS", help='"depth,normal:0.5,line,pose" or "none" (default: the scene\'s settings)')
    add("--preset", choices=PRESETS, help="how strictly the controls act; a strength in --controls goes before it")
    add("--lora", action="append", metavar="NAME[:STRENGTH]", help='a LoRA, such as "woodcut:0.8"; may be given again')
    add(
        "--few-steps", metavar="NAME",
        help=f"a LoRA that paints in few steps, with its steps and guidance: {', '.join(FEW_STEP_PRESETS)}, or a "
        "file's name; those on 8bit multiply in 8 bits too: faster on a graphics card, with a small error",
    )  # fmt: skip
    add("--speed", choices=SPEEDS, help="exact (the default), or a faster one that changes the picture a little")
    add("--model", metavar="NAME", help="a folder in the models folder")
    cli_enhance.add_options(command)
    add("--json", type=Path, metavar="FILE", help="write what was done, or why not, as JSON")
    add("--backend-python", type=Path, metavar="FILE", help="the backend's Python (default: the preferences')")
    add("--models", type=Path, metavar="FOLDER", help="the models folder (default: the preferences')")
    return top


def _size(text: str) -> tuple[int, int]:
    import argparse

    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 1024x768")
    return int(width), int(height)


def missing_file(argv: list[str], opened: str) -> str:
    """The .blend that Blender was called with and did not open, or "".

    Blender then says so in a line of its own, and runs the command all the same, on its default scene.
    """
    before = argv[1 : argv.index("--command")] if "--command" in argv else argv[1:]
    files = [argument for argument in before if argument.lower().endswith(".blend") and not argument.startswith("-")]
    if not files or (opened and Path(opened).resolve() == Path(files[-1]).resolve()):
        return ""
    return files[-1]


def _generate(options: argparse.Namespace) -> tuple[str, GenerationResult]:
    from . import preferences, state
    from .operators import jobs
    from .results import kept
    from .results.files import write_whole

    if missing := missing_file(sys.argv, bpy.data.filepath):
        raise FailureError.of(
            FailureKind.BAD_REQUEST, f"{missing} was not opened.", "Check the file's name, and that it is a .blend."
        )
    order = cli_enhance.order(options) if options.command == cli_enhance.NAME else _order(options)
    jobs.check(order)
    place = preferences.backend_place(options.backend_python, options.models)
    try:
        job_id, result = jobs.run(bpy.context, order, place=place, into_scene=False, on_progress=_print_progress)
        if (note := state.get().failure) is not None:
            print(f"grisaille: {note}", file=sys.stderr)
        write_whole(order.output, result.png)
        kept.forget(job_id)
        return job_id, result
    finally:
        state.get().close()


def _order(options: argparse.Namespace) -> Order:
    from . import control_settings, enhance_settings, loras, preferences, settings
    from .operators import jobs, start

    order = jobs.order_from_settings(bpy.context, new_seed=options.seed is None)
    paths = (options.image, options.mask, options.edit, options.reference)
    *sources, reference = [start.load_image(str(Path(path).absolute())) if path else "" for path in paths]
    order = start.with_reference(start.from_names(order, *sources), reference)
    values: dict[str, Any] = {
        name: getattr(options, name) for name in start.REQUEST_NAMES if getattr(options, name, None) is not None
    }
    values |= settings.style(options.style)
    values |= settings.negative_over(order.request, options.negative_prompt, options.true_cfg)
    if options.size:
        values["width"], values["height"] = options.size
    values |= control_settings.controls_over(order.request, options.controls, options.preset)
    values |= enhance_settings.over(order.request.enhancement, cli_enhance.values(options))
    if options.models and not options.model:
        names = model_names(options.models)
        if order.request.model not in names:
            values["model"] = names[0] if names else ""
    chosen = ",".join(options.lora) if options.lora else None
    folder = options.models or preferences.models_folder()
    values = {**loras.over(replace(order.request, **values), chosen, options.few_steps, folder), **values}
    values |= settings.stages_over(bpy.context.scene, replace(order.request, **values), options.stages)
    output = str(options.out.absolute())
    return replace(
        order, request=replace(order.request, **values), source="CAMERA", camera=options.camera, output=output
    )


def _print_progress(progress: Any) -> None:
    if progress.stage == "loading":
        for line in progress.note.splitlines():
            print(f"grisaille: {line}", file=sys.stderr)
    step = f" {progress.step}/{progress.steps}" if progress.steps else ""
    print(f"grisaille: {progress.stage}{step}", file=sys.stderr, flush=True)


def status_of(failure: Failure) -> int:
    """2 for what the caller must write differently, 1 for what went wrong."""
    return USAGE if failure.kind == FailureKind.BAD_REQUEST else FAILED


def _summary(options: argparse.Namespace, job_id: str, result: GenerationResult) -> dict[str, Any]:
    return {
        "ok": True,
        "picture": str(options.out.absolute()),
        "job_id": job_id,
        "request": result.request.to_json(),
        "plan": result.plan,
        "timings": result.timings,
        "peak_memory": result.peak_memory,
    }


def _report(options: argparse.Namespace, summary: dict[str, Any], status: int) -> int:
    """Writes the file of --json; a failure there is the command's."""
    from .results.files import write_whole

    if options.json is None:
        return status
    try:
        write_whole(options.json.absolute(), json.dumps({**summary, "status": status}, indent=2).encode())
    except FailureError as error:
        print(f"grisaille: {error.failure}", file=sys.stderr)
        return status or FAILED
    return status


def register() -> None:
    from . import state

    state.get().command = bpy.utils.register_cli_command(NAME, main)


def unregister() -> None:
    from . import state

    command, state.get().command = state.get().command, None
    if command is not None:
        bpy.utils.unregister_cli_command(command)
