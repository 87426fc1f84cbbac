"""Failures as values: what went wrong, said to a user, with the next step."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class FailureKind(StrEnum):
    """Every way a job or a command can end without a picture."""

    BAD_REQUEST = "bad_request"
    """The Request asks for something impossible: no prompt, a size of 0, an unknown control."""
    CAPTURE_FAILED = "capture_failed"
    """The scene could not be captured: no camera, nothing to draw on, a render in the way."""
    MODEL_MISSING = "model_missing"
    MODEL_BROKEN = "model_broken"
    """A model file is there but truncated or damaged."""
    MODEL_UNSUPPORTED = "model_unsupported"
    """A model file is whole but not one that this version can run."""
    OUT_OF_MEMORY = "out_of_memory"
    DEVICE_UNUSABLE = "device_unusable"
    """No driver, one too old, a PyTorch without the device: nothing can be computed there."""
    ACCESS_DENIED = "access_denied"
    """A model is given only to those who have accepted its licence."""
    PICTURE_BLANK = "picture_blank"
    """A picture came out in which there is nothing: all black, or of one colour."""
    DISK_FULL = "disk_full"
    NOT_WRITABLE = "not_writable"
    CANCELLED = "cancelled"
    BACKEND_NOT_FOUND = "backend_not_found"
    """No Python, or no Grisaille environment, where the preferences say it is."""
    BACKEND_DIED = "backend_died"
    PROTOCOL = "protocol"
    """The other side broke the rules of the door; the connection is closed."""
    INTERNAL = "internal"
    """A fault of ours; the detail holds the traceback."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no picture.

    `message` is one sentence that says what is wrong, `hint` one that says what to do next, both for an
    artist; `detail` is for a bug report (a traceback, a path) and may be empty.
    """

    kind: FailureKind
    message: str
    hint: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Failure:
        """Raises `ValueError` when `data` is not exactly what `to_json` writes."""
        if not isinstance(data, dict) or set(data) != {"kind", "message", "hint", "detail"}:
            raise ValueError("a failure has exactly kind, message, hint and detail")
        if not all(isinstance(value, str) for value in data.values()):
            raise ValueError("the fields of a failure are strings")
        return cls(FailureKind(data["kind"]), data["message"], data["hint"], data["detail"])


class FailureError(Exception):
    """Carries a `Failure` up to the edge that turns it into a value (production.py, an operator)."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure

    @classmethod
    def of(cls, kind: FailureKind, message: str, hint: str, detail: str = "") -> FailureError:
        return cls(Failure(kind, message, hint, detail))
