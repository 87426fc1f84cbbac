"""python -m backend generate: a picture from a prompt and maps in files, or once more from a picture."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import enhance_options

if TYPE_CHECKING:
    from ..outputs import PaintedResult
    from ..pipeline import ProductionPipeline
    from ..wire import Control, ControlMaps, FailureError, GenerationRequest, Progress

DONE, FAILED, USAGE = 0, 1, 2
MAPS = ("depth", "normal", "line")
"""The maps that are controls of the same name."""
FIELDS = (
    "seed", "steps", "guidance", "sampler", "schedule", "negative_prompt", "true_cfg", "strength", "reference_strength",
    "bit_depth", "model", "speed",
)  # fmt: skip
"""Options that are fields of the Request under the same name."""
FEW_STEP_FIELDS = ("loras", "steps", "guidance", "sampler", "schedule", "speed")


def add_to(commands: Any) -> None:
    """Adds the command to what `add_subparsers` made."""
    parser = commands.add_parser(
        "generate",
        help="paint a picture from a prompt, with maps from files, or again from a picture",
        description="Paints one picture. Exit status: 0 done, 1 failed, 2 called wrongly.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("--prompt", help="what the picture shows (needed without --from)")
    add("--from", dest="source", type=Path, metavar="PICTURE", help="paint as this picture says; options change it")
    add("--out", required=True, type=Path, metavar="FILE", help="the picture: .png, .webp, .jpg or .exr")
    add("--models", type=Path, metavar="FOLDER", help="your models, beside those that ship")
    add("--model", metavar="NAME", help="a folder in it (default: the best for this picture on this machine)")
    add("--device", default="auto", help='"auto", "cpu", "cuda:1" …')
    add("--size", type=size, metavar="WIDTHxHEIGHT", help="in pixels (default: that of the maps, else 1024x1024)")
    add("--seed", type=int, help="0 or more (default: a new one)")
    add("--steps", type=int)
    add("--guidance", type=float)
    add("--sampler")
    add("--schedule")
    add("--negative-prompt", metavar="TEXT", help="what the picture should not show; needs --true-cfg")
    add("--true-cfg", type=float, metavar="SCALE", help="how strongly the negative prompt acts, above 1")
    add("--depth", type=Path, metavar="FILE", help="planar depth in scene units, as Blender's Z pass: EXR or .npy")
    add("--normal", type=Path, metavar="FILE", help="normals in camera space: EXR, or a picture of 0.5 + 0.5 n")
    add("--line", type=Path, metavar="FILE", help="lines, white on black")
    add(
        "--control-strength", type=strengths, metavar="NUMBER", help='of all controls, or of each: "depth:0.8,line:0.4"'
    )
    add("--image", type=Path, metavar="FILE", help="a picture to start from, in place of noise")
    add("--mask", type=Path, metavar="FILE", help="a picture that is white where that one may change")
    add("--strength", type=float, help="how far to go from it, up to 1 (default: 0.6)")
    add("--edit", type=Path, metavar="FILE", help="a picture that the prompt says how to change, for Kontext models")
    add("--reference", type=Path, metavar="FILE", help="a picture whose content and style to take up, with Redux")
    add("--reference-strength", type=float, metavar="SCALE", help="how strongly it speaks, up to 2 (default: 1)")
    add("--bit-depth", type=int, choices=(8, 16), help="of the picture's channels (default: 16 for EXR, else 8)")
    add("--speed", metavar="NAME", help='"exact" (the default), or a faster one that changes the picture a little')
    add("--lora", action="append", metavar="NAME[:STRENGTH]", help='a LoRA, such as "woodcut:0.8"; may be given again')
    add(
        "--few-steps", metavar="NAME",
        help='a LoRA that paints in few steps, with its steps and guidance: "turbo-alpha", "hyper-8", "hyper-16" or a '
        'file\'s name; "turbo-alpha-8bit" … multiply in 8 bits too: faster on a graphics card, with a small error',
    )  # fmt: skip
    enhance_options.add_to(parser, "how many times as large the picture is made once it is painted, 1.5 to 8")
    add("--maps-folder", type=Path, metavar="FOLDER", help="where the maps are kept (default: beside the picture)")


def size(text: str) -> tuple[int, int]:
    """ "1024x768" -> (1024, 768)."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 1024x768")
    return int(width), int(height)


def strengths(text: str) -> dict[str, float]:
    """ "0.8" -> {"": 0.8}, of all; "depth:0.8,line:0.4" -> by kind."""
    found = {}
    for item in text.split(","):
        kind, _, number = item.strip().rpartition(":")
        try:
            found[kind] = float(number)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor like depth:0.8,line:0.4") from None
    return found


def run(options: argparse.Namespace) -> int:
    """Returns the exit status."""
    from ..wire import FailureError, FailureKind

    try:
        _generate(options)
    except FailureError as error:
        print(f"grisaille: {error.failure}", file=sys.stderr)
        return USAGE if error.failure.kind == FailureKind.BAD_REQUEST else FAILED
    except KeyboardInterrupt:
        print("grisaille: The picture was cancelled.", file=sys.stderr)
        return FAILED
    return DONE


def _generate(options: argparse.Namespace) -> None:
    from ..outputs import check_ending
    from ..pipeline import create_production_pipeline
    from ..wire.disk import disk_failures

    check_ending(options.out)
    if not options.out.absolute().parent.is_dir():
        raise _called_wrongly(f"There is no folder {options.out.absolute().parent}.", "Make it, or choose another one.")
    base, maps = _remembered(options)
    maps = _with_files(options, maps)
    pipeline = create_production_pipeline("", options.models, options.device)
    request = _request(options, base, maps, pipeline)
    result = pipeline.generate(request, maps, _tell)
    with disk_failures(options.out.absolute().parent):
        result.save(options.out, options.maps_folder)
    _say_done(options.out, result)


def _remembered(options: argparse.Namespace) -> tuple[GenerationRequest | None, ControlMaps]:
    """What --from says, and the maps that no option replaces."""
    from ..outputs import read_request
    from ..outputs.map_store import read_maps
    from ..wire import ControlMaps

    if options.source is None:
        if options.prompt is None:
            raise _called_wrongly("There is no prompt.", "Give --prompt, or a picture with --from.")
        return None, ControlMaps()
    replaced = [name for name in (*MAPS, "image", "mask", "reference") if getattr(options, name) is not None]
    replaced += ["image"] if options.edit is not None else []
    return read_request(options.source).request, read_maps(options.source, options.maps_folder, replaced)


def _with_files(options: argparse.Namespace, maps: ControlMaps) -> ControlMaps:
    from dataclasses import replace

    from ..outputs.map_numbers import read_map_files

    if options.mask is not None and options.image is None and maps.image is None:
        raise _called_wrongly("There is a mask without a picture.", "Give --image as well.")
    if options.edit is not None and (options.image is not None or options.mask is not None):
        raise _called_wrongly("A picture is to be edited and to be started from.", "Give --edit or --image.")
    names = ("depth", "normal", "line", "image", "mask", "reference")
    files = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.edit is not None:
        files["image"] = options.edit
    return replace(maps, **read_map_files(files).arrays())


def _request(
    options: argparse.Namespace, base: GenerationRequest | None, maps: ControlMaps, pipeline: ProductionPipeline
) -> GenerationRequest:
    from dataclasses import replace

    values = {name: getattr(options, name) for name in FIELDS if getattr(options, name) is not None}
    values |= _size(options, base, maps) | _task(options, base, maps)
    values["controls"] = _controls(options, base)
    values["enhancement"] = enhance_options.enhancement(options, base.enhancement if base is not None else None)
    if options.bit_depth is None and options.out.suffix.lower() == ".exr":
        values["bit_depth"] = 16
    if options.reference is not None and options.reference_strength is None:
        values["reference_strength"] = 1.0
    if options.few_steps is not None or options.lora:
        values = _loras(options, base, values) | values
    if base is None:
        values.setdefault("seed", random.SystemRandom().randrange(2**32))
        request = pipeline.request(options.prompt, **values)
    else:
        request = replace(base, **values, **({"prompt": options.prompt} if options.prompt is not None else {}))
    request.check()
    return request


def _loras(options: argparse.Namespace, base: GenerationRequest | None, values: dict[str, Any]) -> dict[str, Any]:
    """The fields that --lora and --few-steps say. What the picture of --from had goes where --lora is given."""
    from dataclasses import replace

    from ..wire import GenerationRequest
    from ..wire.few_steps import find_few_steps, parse_loras, with_few_steps
    from ..wire.model_names import shipped_models

    found: dict[str, Any] = {"loras": parse_loras(",".join(options.lora))} if options.lora else {}
    if options.few_steps is None:
        return found
    request = replace(base or GenerationRequest(""), **found)
    model = values.get("model", request.model)
    lora, kind = find_few_steps(options.few_steps, options.models or shipped_models(), model)
    fast = with_few_steps(request, lora, kind)
    return {name: getattr(fast, name) for name in FEW_STEP_FIELDS}


def _size(options: argparse.Namespace, base: GenerationRequest | None, maps: ControlMaps) -> dict[str, int]:
    if options.size is not None:
        return {"width": options.size[0], "height": options.size[1]}
    arrays = [array for name, array in maps.arrays().items() if name not in ("pose", "reference")]
    if base is not None or not arrays:
        return {}
    return {"width": arrays[0].shape[1], "height": arrays[0].shape[0]}


def _task(options: argparse.Namespace, base: GenerationRequest | None, maps: ControlMaps) -> dict[str, Any]:
    if options.edit is not None:
        return {"task": "edit", "strength": 1.0}
    if options.image is None and options.mask is None:
        return {}
    task = "inpaint" if maps.mask is not None else "image_to_image"
    is_new = options.strength is None and (base is None or base.task == "text_to_image")
    return {"task": task, **({"strength": 0.6} if is_new else {})}


def _controls(options: argparse.Namespace, base: GenerationRequest | None) -> tuple[Control, ...]:
    """Those that are there, and one for each map that was given; with the strengths of --control-strength."""
    from dataclasses import replace

    from ..wire import Control

    controls = list(base.controls) if base is not None else []
    there = {control.kind for control in controls}
    controls += [Control(kind) for kind in MAPS if getattr(options, kind) is not None and kind not in there]
    wanted: dict[str, float] = options.control_strength or {}
    for kind in wanted:
        if kind and kind not in {control.kind for control in controls}:
            raise _called_wrongly(
                f"There is no {kind} control to be made stronger or weaker.", f"Give --{kind} as well."
            )
    return tuple(
        replace(control, strength=wanted.get(control.kind, wanted.get("", control.strength))) for control in controls
    )


def _tell(progress: Progress) -> None:
    if progress.stage == "loading":
        for line in progress.note.splitlines():
            print(f"grisaille: {line}", file=sys.stderr)
    step = f" {progress.step}/{progress.steps}" if progress.steps else ""
    print(f"grisaille: {progress.fraction:4.0%} {progress.stage}{step}", file=sys.stderr, flush=True)


def _say_done(path: Path, result: PaintedResult) -> None:
    request, why = result.request, result.plan.get("model_choice", "")
    model = f"{request.model} ({why})" if why else request.model
    print(f"grisaille: {path} is written: seed {request.seed}, model {model}", file=sys.stderr)


def _called_wrongly(message: str, hint: str) -> FailureError:
    from ..wire import FailureError, FailureKind

    return FailureError.of(FailureKind.BAD_REQUEST, message, hint)
