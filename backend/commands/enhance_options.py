"""What is done to a finished picture, as the commands `enhance` and `generate` understand it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..wire import Enhancement

FIELDS = {
    "by": "scale",
    "network": "network",
    "upscale_fidelity": "upscale_fidelity",
    "faces": "faces",
    "face_network": "face_network",
    "fidelity": "fidelity",
    "finish": "finish",
    "tileable": "tileable",
    "data": "data",
    "detail": "detail",
}
"""Options, and the fields of `Enhancement` that they are."""


def add_to(parser: argparse.ArgumentParser, scale: str) -> None:
    """Adds the options. scale: what is said of the one that makes a picture larger."""
    # What is not known is refused with the names that there are: to name them here loads what help has no need of.
    add = parser.add_argument_group("enhancement").add_argument
    add("--by", type=float, metavar="SCALE", help=scale)
    add("--network", metavar="NAME", help="a file in the folder upscalers of your models (default: the first there)")
    add(
        "--upscale-fidelity",
        type=float,
        help="0 for what that makes of a picture, 1 to keep to the picture (default: 1)",
    )
    add("--faces", action=argparse.BooleanOptionalAction, help="find faces and restore them")
    add("--face-network", metavar="NAME", help="what restores them (default: the first there)")
    add("--fidelity", type=float, help="0 for what that makes of a face, 1 for the face as it was (default: 0.5)")
    add("--finish", metavar="NAME", help='sharpening, contrast, grain, such as "crisp" or "film"; "style": as it asks')
    add("--tileable", action=argparse.BooleanOptionalAction, help="the picture's borders meet, and go on meeting")
    add("--detail", type=float, metavar="STRENGTH", help="how far the model goes as it paints finer detail, up to 0.6")
    add("--data", metavar="KIND", help="what the picture holds: colour (default), normal or data")


def enhancement(options: argparse.Namespace, base: Enhancement | None = None) -> Enhancement | None:
    """What the options say, over `base`; None where nothing is to be done."""
    from dataclasses import replace

    from ..wire import Enhancement

    given: dict[str, Any] = {
        field: getattr(options, option) for option, field in FIELDS.items() if getattr(options, option) is not None
    }
    found = replace(base or Enhancement(), **given)
    found.check()
    return None if found.does_nothing else found
