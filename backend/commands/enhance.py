"""python -m backend enhance: a picture made larger, its faces restored, finished."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import enhance_options

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..pipeline import ProductionPipeline
    from ..wire import ControlMaps, GenerationRequest, Progress

DONE, FAILED, USAGE = 0, 1, 2
MAPS = ("depth", "normal", "line")
"""The maps that may guide detail, as controls of the same name."""


def add_to(commands: Any) -> None:
    """Adds the command to what `add_subparsers` made."""
    parser = commands.add_parser(
        "enhance",
        help="make a picture larger, restore its faces, finish it",
        description="Writes a new picture beside the old one, or to --out. "
        "Exit status: 0 done, 1 failed, 2 called wrongly.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("picture", type=Path, help="PNG, JPEG, WebP, EXR …")
    add("--out", type=Path, metavar="FILE", help=".png, .webp, .jpg or .exr (default: PICTURE-enhanced.png)")
    enhance_options.add_to(parser, "how many times as wide and high, 1.5 to 8 (default: 1)")
    add("--reference", type=Path, metavar="FILE", help="a picture towards whose colours the finish goes")
    add("--seed", type=int, default=0, help="of the grain and of the detail (default: 0)")
    add("--style", default="", metavar="NAME", help="what the finish is for")
    add("--bit-depth", type=int, choices=(8, 16), help="of the channels (default: as the picture's; 16 for EXR)")
    add("--prompt", default="", help="what the picture shows; needed with --detail")
    add("--model", default="", metavar="NAME", help="what paints detail (default: the best there is)")
    for name in MAPS:
        add(f"--{name}", type=Path, metavar="FILE", help=f"the picture's {name} map, which the detail follows")
    add("--models", type=Path, metavar="FOLDER", help="your models, beside those that ship")
    add("--device", default="auto", help='"auto", "cpu", "cuda:1" …')


def run(options: argparse.Namespace) -> int:
    """Returns the exit status."""
    from ..wire import FailureError, FailureKind

    try:
        out = _enhance(options)
    except FailureError as error:
        print(f"grisaille: {error.failure}", file=sys.stderr)
        return USAGE if error.failure.kind == FailureKind.BAD_REQUEST else FAILED
    except KeyboardInterrupt:
        print("grisaille: The picture was cancelled.", file=sys.stderr)
        return FAILED
    print(f"grisaille: {out} is written", file=sys.stderr)
    return DONE


def _enhance(options: argparse.Namespace) -> Path:
    from dataclasses import replace

    from ..outputs import check_ending
    from ..outputs.map_files import read_colours
    from ..pipeline import create_production_pipeline
    from ..production.picture_files import read_picture
    from ..wire import ControlMaps
    from ..wire.disk import disk_failures

    out: Path = options.out or options.picture.with_name(f"{options.picture.stem}-enhanced.png")
    check_ending(out)
    picture = read_picture(options.picture, options.data or "colour")
    reference = read_colours(options.reference) if options.reference is not None else None
    pipeline = create_production_pipeline("", options.models, options.device)
    request = _request(options, picture, out, pipeline)
    maps = replace(_maps(options) if request.has_detail else ControlMaps(), picture=picture, reference=reference)
    result = pipeline.generate(request, maps, _tell)
    with disk_failures(out.absolute().parent):
        # Without the maps: the picture itself is there already, under its own name.
        from ..outputs import save_picture

        save_picture(result.png, out)
    return out


def _maps(options: argparse.Namespace) -> ControlMaps:
    from ..outputs.map_numbers import read_map_files

    return read_map_files({name: getattr(options, name) for name in MAPS if getattr(options, name) is not None})


def _request(
    options: argparse.Namespace, picture: NDArray[Any], out: Path, pipeline: ProductionPipeline
) -> GenerationRequest:
    from ..wire import Control, GenerationRequest

    is_deep = picture.dtype != "uint8" or out.suffix.lower() == ".exr"
    wanted = enhance_options.enhancement(options)
    values: dict[str, Any] = {
        "width": picture.shape[1],
        "height": picture.shape[0],
        "seed": options.seed,
        "task": "enhance",
        "style": options.style,
        "bit_depth": options.bit_depth or (16 if is_deep else 8),
        "enhancement": wanted,
    }
    if wanted is None or not wanted.detail:
        request = GenerationRequest("", **values)
    else:
        controls = tuple(Control(name) for name in MAPS if getattr(options, name) is not None)
        GenerationRequest(options.prompt, **values).check()
        request = pipeline.request(options.prompt, model=options.model, controls=controls, **values)
    request.check()
    return request


def _tell(progress: Progress) -> None:
    step = f" {progress.step}/{progress.steps}" if progress.steps else ""
    print(f"grisaille: {progress.fraction:4.0%} {progress.stage}{step}", file=sys.stderr, flush=True)
