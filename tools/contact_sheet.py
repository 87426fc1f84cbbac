"""The contact sheet: what guided the picture, the picture, and the scene it was put on, side by side.

.venv/bin/python -m tools.contact_sheet SHEET DEPTH NORMAL LINES PICTURE RENDER --title TITLE --prompt PROMPT
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

LABELS = ("depth", "normal", "line art", "picture", "textured scene, from the side")
TILE = 384
GAP = 16
MARGIN = 28
HEADER = 64
LABEL = 40
GROUND = (24, 24, 26)
TEXT = (232, 230, 226)
QUIET = (150, 148, 144)


def make_sheet(pictures: Sequence[Image.Image], title: str, prompt: str) -> Image.Image:
    """One row of five tiles, each TILE pixels wide, under a line that says which model painted it."""
    tiles = [_tile(picture) for picture in pictures]
    height = max(tile.height for tile in tiles)
    width = 2 * MARGIN + len(tiles) * TILE + (len(tiles) - 1) * GAP
    sheet = Image.new("RGB", (width, HEADER + height + LABEL + MARGIN), GROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 6), "Grisaille", TEXT, ImageFont.load_default(24))
    note = f"{title}   ·   “{_short(prompt)}”"
    draw.text((width - MARGIN, MARGIN), note, QUIET, ImageFont.load_default(18), anchor="ra")
    for index, (tile, label) in enumerate(zip(tiles, LABELS, strict=True)):
        left = MARGIN + index * (TILE + GAP)
        sheet.paste(tile, (left, HEADER))
        draw.text((left, HEADER + height + 12), label, TEXT, ImageFont.load_default(18))
    return sheet


def _tile(picture: Image.Image) -> Image.Image:
    height = max(1, round(picture.height * TILE / picture.width))
    return picture.convert("RGB").resize((TILE, height), Image.Resampling.LANCZOS)


def _short(prompt: str, length: int = 80) -> str:
    return prompt if len(prompt) <= length else f"{prompt[: length - 1].rstrip()}…"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("pictures", type=Path, nargs=len(LABELS), metavar="PICTURE")
    parser.add_argument("--title", default="")
    parser.add_argument("--prompt", default="")
    arguments = parser.parse_args()
    pictures = [Image.open(path) for path in arguments.pictures]
    partial = arguments.sheet.with_suffix(".part.png")
    make_sheet(pictures, arguments.title, arguments.prompt).save(partial, optimize=True)
    partial.replace(arguments.sheet)


if __name__ == "__main__":
    main()
