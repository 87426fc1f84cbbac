"""What is done to a finished picture: made larger, its faces restored, finished."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, NoReturn

from .failure import FailureError, FailureKind
from .finishes import BY_STYLE, FINISHES
from .loras import is_lora_name

SCALE_MIN, SCALE_MAX = 1.5, 8.0
DETAIL_MAX = 0.6
"""Further from the picture than this, each tile becomes a picture of its own."""
SIDE_MAX = 65_535
PICTURE_PIXELS_MAX = 20_000 * 20_000
"""Of a picture that is to be enhanced."""
LARGER_PIXELS_MAX = 16_384 * 16_384
"""Of one that is made larger: 16K."""
DATA_KINDS = ("colour", "normal", "data")
"""Colours; normals as 0.5 + 0.5 n, which stay of length 1; numbers, each channel of its own."""


@dataclass(frozen=True, slots=True)
class Enhancement:
    """In this order: larger, with detail, faces, finish.

    scale: how many times as wide and high, 1 or 1.5..8. network: the upscaler's file name without its ending, "" for
    the first there is; at a scale of 1 the name of one that cleans a picture and keeps its size, "" for none.
    upscale_fidelity: 1 for a picture that, made small again, is what it was; 0 for what the network makes of it. faces:
    whether faces are looked for and restored, by face_network ("" for the first there is). fidelity: 0 for what the
    network makes of a face, 1 for the face as it was. finish: a name in `FINISHES`, BY_STYLE for the one that goes with
    the Request's style, "" for none. tileable: whether the picture's borders meet, and go on meeting. data: of
    DATA_KINDS. detail: how far the model goes from the enlarged picture when it paints over each part of it, with the
    Request's prompt, LoRAs and controls, 0..0.6; 0 for not at all. It comes before the last doubling.
    """

    scale: float = 1.0
    network: str = ""
    upscale_fidelity: float = 1.0
    faces: bool = False
    face_network: str = ""
    fidelity: float = 0.5
    finish: str = ""
    tileable: bool = False
    data: str = "colour"
    detail: float = 0.0

    def check(self) -> None:
        """Raises `FailureError` (bad_request), with one sentence and the next step, on the first thing wrong."""
        if self.scale != 1.0 or type(self.scale) not in (int, float):
            _check_number("the enhancement's scale", self.scale, SCALE_MIN, SCALE_MAX, "1 or ")
        _check_number("the fidelity of what is made larger", self.upscale_fidelity, 0.0, 1.0)
        _check_number("the fidelity of faces", self.fidelity, 0.0, 1.0)
        _check_number("the enhancement's detail", self.detail, 0.0, DETAIL_MAX)
        for name in ("faces", "tileable"):
            if type(getattr(self, name)) is not bool:
                _bad(f"The enhancement's field {name} is not true or false.", "Give it as a boolean.")
        for name in (self.network, self.face_network):
            if not isinstance(name, str) or (name and not is_lora_name(name)):
                _bad(f"{name!r} is not the name of a network.", "Give its file's name without the ending.")
        if not isinstance(self.finish, str) or self.finish not in ("", BY_STYLE, *FINISHES):
            _bad(f"There is no finish called {self.finish!r}.", f"Use one of {', '.join((BY_STYLE, *FINISHES))}.")
        if self.data not in DATA_KINDS:
            _bad(f"There is no kind of data called {self.data!r}.", f"Use one of {', '.join(DATA_KINDS)}.")
        if self.data != "colour" and (self.faces or self.finish or self.detail):
            _bad("Faces, finishing and detail are for pictures, not for maps.", "Make a map larger, and nothing else.")
        if self.tileable and self.faces:
            _bad("A tileable picture has no faces to restore.", "Switch one of the two off.")

    @property
    def does_nothing(self) -> bool:
        return self.scale == 1.0 and not (self.network or self.faces or self.finish or self.detail)

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        if not data["detail"]:
            # Left out, so that the digests of Requests stay what they were before there was such a field.
            del data["detail"]
        return data


def read_enhancement(data: object) -> Enhancement | None:
    """An enhancement from JSON; its values are checked with the Request. Raises `FailureError` (bad_request)."""
    if data is None:
        return None
    if not isinstance(data, dict):
        _bad("The field enhancement is not a table of fields.", "Send it as a JSON object.")
    known = {field.name for field in fields(Enhancement)}
    if unknown := sorted(str(key) for key in data if key not in known):
        _bad(f"Unknown field in the enhancement: {unknown[0]!r}.", "Update the side that sent it, or remove the field.")
    return Enhancement(**data)


def larger(width: int, height: int, scale: float) -> tuple[int, int]:
    """The size in pixels that a picture gets."""
    return max(1, round(width * scale)), max(1, round(height * scale))


def check_larger(width: int, height: int, enhancement: Enhancement) -> None:
    """Raises `FailureError` (bad_request) where what comes out would be too large."""
    if enhancement.scale == 1.0:
        return
    wide, high = larger(width, height, enhancement.scale)
    if max(wide, high) > SIDE_MAX or wide * high > LARGER_PIXELS_MAX:
        _bad(
            f"A picture of {wide} x {high} pixels is too large to be made.",
            "Choose a smaller scale: 16384 x 16384 is the most.",
        )


def _check_number(what: str, value: object, low: float, high: float, also: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        _bad(f"{what[0].upper()}{what[1:]} is {value!r}.", f"Choose {also}{low:g} to {high:g}.")


def _bad(message: str, hint: str) -> NoReturn:
    raise FailureError.of(FailureKind.BAD_REQUEST, message, hint)
