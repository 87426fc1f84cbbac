"""Many Requests out of one, and the sheet that shows what came of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from ..wire import FailureError, FailureKind, GenerationRequest
from ..wire.request import SEED_MAX

VARIATIONS_MAX = 1000
TILE = 320
GAP = 12
MARGIN = 20
LABEL = 34
SIDE_LABEL = 190
GROUND = (24, 24, 26)
TEXT = (232, 230, 226)
LABEL_SIZE = 16
LABEL_MAX = 24


def with_seeds(request: GenerationRequest, count: int) -> list[GenerationRequest]:
    """`count` Requests (1..1000) that differ in the seed alone, the first with the Request's own."""
    _check_count(count)
    return [replace(request, seed=(request.seed + index) % (SEED_MAX + 1)) for index in range(count)]


def with_prompts(request: GenerationRequest, prompts: Sequence[str]) -> list[GenerationRequest]:
    """A Request for each prompt (1..1000)."""
    _check_count(len(prompts))
    return [replace(request, prompt=prompt) for prompt in prompts]


def grid(
    request: GenerationRequest, rows: tuple[str, Sequence[Any]], columns: tuple[str, Sequence[Any]]
) -> list[GenerationRequest]:
    """A Request for each pair of values, row by row. rows, columns: a field of the Request and its values.

    Raises `FailureError` (bad_request) for a field that there is not, or that is on both sides.
    """
    known = [field.name for field in fields(GenerationRequest)]
    for name in (rows[0], columns[0]):
        if name not in known:
            raise FailureError.of(
                FailureKind.BAD_REQUEST, f"A Request has no field {name!r}.", f"Use one of {', '.join(known)}."
            )
    if rows[0] == columns[0]:
        raise FailureError.of(
            FailureKind.BAD_REQUEST, f"Rows and columns both vary {rows[0]}.", "Vary another field in one of them."
        )
    _check_count(len(rows[1]) * len(columns[1]))
    return [replace(request, **{rows[0]: row, columns[0]: column}) for row in rows[1] for column in columns[1]]


def contact_sheet(pngs: Sequence[bytes], row_labels: Sequence[str], column_labels: Sequence[str]) -> bytes:
    """A PNG of a grid of pictures, row by row, with a label at each row and over each column.

    pngs: one a place; an empty one leaves its place dark. Each picture is scaled to the same width of 320 pixels.
    """
    from PIL import Image, ImageDraw, ImageFont

    tiles = [_tile(png) if png else None for png in pngs]
    height = max((tile.height for tile in tiles if tile is not None), default=TILE)
    width = 2 * MARGIN + SIDE_LABEL + len(column_labels) * (TILE + GAP) - GAP
    sheet = Image.new("RGB", (width, 2 * MARGIN + LABEL + len(row_labels) * (height + GAP) - GAP), GROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(LABEL_SIZE)
    for column, label in enumerate(column_labels):
        left = MARGIN + SIDE_LABEL + column * (TILE + GAP)
        draw.text((left + TILE // 2, MARGIN), _short(label, 2 * LABEL_MAX), TEXT, font, anchor="ma")
    for row, label in enumerate(row_labels):
        top = MARGIN + LABEL + row * (height + GAP)
        draw.text((MARGIN, top + height // 2), _short(label, LABEL_MAX), TEXT, font, anchor="lm")
        for column in range(len(column_labels)):
            tile = tiles[row * len(column_labels) + column]
            if tile is not None:
                sheet.paste(tile, (MARGIN + SIDE_LABEL + column * (TILE + GAP), top))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def grid_labels(varied: tuple[str, Sequence[Any]]) -> list[str]:
    """("steps", [4, 8]) -> ["steps 4", "steps 8"]."""
    return [f"{varied[0].replace('_', ' ')} {value}" for value in varied[1]]


def _tile(png: bytes) -> Any:
    from PIL import Image

    picture = Image.open(io.BytesIO(png), formats=["PNG"]).convert("RGB")
    size = TILE, max(1, round(picture.height * TILE / picture.width))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def _check_count(count: int) -> None:
    if not 1 <= count <= VARIATIONS_MAX:
        raise FailureError.of(
            FailureKind.BAD_REQUEST,
            f"{count:,} pictures were asked for at once.",
            f"Ask for 1 to {VARIATIONS_MAX:,}.",
        )
