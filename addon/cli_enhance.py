"""blender -b FILE --command grisaille enhance PICTURE …: a larger, finer picture. And what `generate` takes of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

from ..backend.wire.enhancement import DATA_KINDS
from ..backend.wire.finishes import BY_STYLE, FINISHES

if TYPE_CHECKING:
    import argparse

    from .operators.jobs import Order

NAME = "enhance"
FIELDS = {
    "by": "scale",
    "upscaler": "network",
    "upscale_fidelity": "upscale_fidelity",
    "faces": "faces",
    "face_network": "face_network",
    "fidelity": "fidelity",
    "finish": "finish",
    "tileable": "tileable",
    "detail": "detail",
}
"""Options, and the fields of `Enhancement` that they are."""


def add_to(commands: Any) -> None:
    """commands: of `argparse.ArgumentParser.add_subparsers`."""
    command = commands.add_parser(NAME, help="make a picture larger and finer", allow_abbrev=False)
    add = command.add_argument
    add("picture", type=Path, help="a picture's file")
    add("--out", required=True, type=Path, metavar="PNG", help="the file for the new picture")
    add_options(command)
    add("--prompt", default="", help="what detail is painted from (default: the scene's)")
    add("--data", choices=("auto", *DATA_KINDS), default="auto", help="what the picture holds (default: colours)")
    add("--non-color", action="store_true", help="it is a map; of normals where its values are directions")
    add("--json", type=Path, metavar="FILE", help="write what was done, or why not, as JSON")
    add("--backend-python", type=Path, metavar="FILE", help="the backend's Python (default: the preferences')")
    add("--models", type=Path, metavar="FOLDER", help="the models folder (default: the preferences')")


def add_options(command: argparse.ArgumentParser) -> None:
    """What is done to a picture; what is not said is as in the scene's settings."""
    import argparse

    add = command.add_argument_group("enhancement").add_argument
    add("--by", type=float, metavar="SCALE", help="how many times as wide and high, 1.5 to 8; 1 for the same size")
    add("--upscaler", metavar="NAME", help="a file in the folder upscalers of the models folder")
    add("--upscale-fidelity", type=float, help="1 to keep to the picture, 0 for what the network makes of it")
    add("--faces", action=argparse.BooleanOptionalAction, help="find faces and restore them")
    add("--face-network", metavar="NAME", help="what restores them")
    add("--fidelity", type=float, help="1 for the face as it was, 0 for what the network makes of it")
    add("--finish", choices=("", BY_STYLE, *FINISHES), help="sharpening, contrast and grain")
    add("--tileable", action=argparse.BooleanOptionalAction, help="the picture's borders fit together")
    add("--detail", type=float, metavar="STRENGTH", help="how far FLUX goes as it paints finer detail, up to 0.6")


def values(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of `Enhancement` that were given; None for the others."""
    return {field: getattr(options, option) for option, field in FIELDS.items()}


def order(options: argparse.Namespace) -> Order:
    """What the command asks for. Raises `FailureError` (bad_request)."""
    from .operators import enhance, start

    name = start.load_image(str(options.picture.absolute()))
    if options.non_color:
        bpy.data.images[name].colorspace_settings.name = "Non-Color"  # pyright: ignore[reportAttributeAccessIssue]
    data = "AUTO" if options.data == "auto" else options.data
    output = str(options.out.absolute())
    return enhance.order_for(bpy.context.scene, name, values(options), data, output, options.prompt)
