"""What a picture's file remembers of how it was made, and reading it back."""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from ..wire import FailureError, FailureKind, GenerationRequest
from .exr import MAGIC, read_exr

if TYPE_CHECKING:
    from PIL.Image import Image

REQUEST, DIGESTS, PLAN, PARAMETERS = "grisaille:request", "grisaille:digests", "grisaille:plan", "parameters"
EXIF_FOLDER, SOFTWARE, MAKER_NOTE, USER_COMMENT = 0x8769, 0x0131, 0x927C, 0x9286
"""EXIF's tags."""
MAKER = b"Grisaille\0"
UNICODE = b"UNICODE\0"
TEXT_MAX = 1 << 22
"""Bytes of all texts together; the longest prompts take a thirtieth of it."""


class Remembered(NamedTuple):
    """What a picture says of how it was made.

    request: with the model that ran. digests: "request"; "maps": SHA-256 by the map's name; "weights": by file. plan:
    the engine's settings.
    """

    request: GenerationRequest
    digests: dict[str, Any]
    plan: dict[str, Any]


def read_request(path: str | Path) -> Remembered:
    """Reads back what a PNG, WebP, JPEG or EXR of Grisaille's remembers; the file's content tells its format.

    The same Request with the same maps (`read_maps`) makes the same pixels on the same machine. Raises `FailureError`
    (bad_request) where the file cannot be read, is not whole, is not of ours, or is of a later version.
    """
    place = Path(path)
    texts = _texts(place)
    if REQUEST not in texts:
        _refuse(
            f"{place.name} does not say how it was made.", "Choose a picture that Grisaille wrote, and nobody rewrote."
        )
    try:
        found = [json.loads(texts.get(name, "{}")) for name in (REQUEST, DIGESTS, PLAN)]
    except ValueError as error:
        _refuse(f"What {place.name} says of how it was made is damaged.", "Choose another copy of it.", str(error))
    if not all(isinstance(data, dict) for data in found) or not _are_digests(found[1].get("maps", {})):
        _refuse(f"What {place.name} says of how it was made is damaged.", "Choose another copy of it.")
    try:
        request = GenerationRequest.from_json(found[0])
    except FailureError as error:
        _refuse(
            f"{place.name} was made by another version of Grisaille: {_in_a_sentence(error.failure.message)}",
            "Update Grisaille, or set the picture's values by hand.",
        )
    return Remembered(request, found[1], found[2])


def texts_of_png(png: bytes) -> dict[str, str]:
    """The text chunks of a whole PNG file, by keyword. Raises `ValueError` where it is none."""
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(png), formats=["PNG"])
    except OSError as error:
        raise ValueError("it is not a PNG file") from error
    return _texts_in(image)


def exif_of(texts: dict[str, str]) -> bytes:
    """The texts as EXIF: all of them, packed, as the maker's note; `parameters` as the user's comment as well."""
    from PIL import Image

    exif = Image.Exif()
    exif[SOFTWARE] = texts.get("Software", "Grisaille")
    folder = exif.get_ifd(EXIF_FOLDER)
    folder[MAKER_NOTE] = MAKER + zlib.compress(json.dumps(texts, ensure_ascii=False).encode())
    if PARAMETERS in texts:
        folder[USER_COMMENT] = UNICODE + texts[PARAMETERS].encode("utf-16-be")
    return exif.tobytes()


def _texts(path: Path) -> dict[str, str]:
    """The texts of a picture's file, which has been read to its end."""
    try:
        with path.open("rb") as file:
            is_exr = file.read(len(MAGIC)) == MAGIC
        return read_exr(path)[1] if is_exr else _texts_by_pillow(path)
    except FileNotFoundError:
        _refuse(f"There is no picture {path.name}.", "Check its name and its folder.")
    except (OSError, SyntaxError, ValueError, zlib.error) as error:
        _refuse(
            f"The picture {path.name} cannot be read to its end.",
            "Choose another copy of it: this one is damaged, or no PNG, WebP, JPEG or EXR.",
            str(error),
        )


def _texts_by_pillow(path: Path) -> dict[str, str]:
    from PIL import Image

    with Image.open(path, formats=["PNG", "WEBP", "JPEG"]) as image:
        image.load()
        return _texts_in(image)


def _texts_in(image: Image) -> dict[str, str]:
    from PIL.PngImagePlugin import PngImageFile

    if isinstance(image, PngImageFile):
        return {str(keyword): str(text) for keyword, text in image.text.items()}
    note = image.getexif().get_ifd(EXIF_FOLDER).get(MAKER_NOTE)
    if not isinstance(note, bytes) or not note.startswith(MAKER):
        return {}
    texts = json.loads(zlib.decompressobj().decompress(note[len(MAKER) :], TEXT_MAX))
    return texts if isinstance(texts, dict) else {}


def _are_digests(maps: object) -> bool:
    return isinstance(maps, dict) and all(isinstance(digest, str) for digest in maps.values())


def _in_a_sentence(message: str) -> str:
    return message[:1].lower() + message[1:]


def _refuse(message: str, hint: str, detail: str = "") -> NoReturn:
    raise FailureError.of(FailureKind.BAD_REQUEST, message, hint, detail)
