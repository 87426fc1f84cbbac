"""An exception, with all that its cause can be told from."""

from __future__ import annotations

import math
import re
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..wire import Failure, FailureKind, snap_size
from ..wire.request import spoken

if TYPE_CHECKING:
    from ..wire import GenerationRequest

SIZE_SMALL = 512 * 512
"""Pixels; a picture of so few does not get any smaller for want of memory."""


@dataclass(frozen=True, slots=True)
class Case:
    """text: what the error says. detail: its whole traceback. request: what was to be painted, where that is known."""

    error: BaseException
    text: str
    detail: str
    request: GenerationRequest | None = None

    def failure(self, kind: FailureKind, message: str, hint: str) -> Failure:
        return Failure(kind, message, hint, self.detail)

    def says(self, *patterns: str) -> re.Match[str] | None:
        """The first of the regular expressions that the text holds, in any case of letters."""
        found = (re.search(pattern, self.text, re.IGNORECASE | re.DOTALL) for pattern in patterns)
        return next(filter(None, found), None)

    def is_a(self, *names: str) -> bool:
        """Whether a class of that name is among the error's own; by name, because its library is not imported here."""
        return any(kind.__name__ in names for kind in type(self.error).__mro__)

    def passed_through(self, *words: str) -> bool:
        """Whether a function or a file whose name holds one of the words is in the error's traceback."""
        frames = traceback.extract_tb(self.error.__traceback__)
        return any(word in f"{frame.filename} {frame.name}".lower() for frame in frames for word in words)


def painted(request: GenerationRequest | None) -> str:
    """What was to be painted, for a sentence: "a picture of 1024 x 768 pixels with 2 controls (depth, line)"."""
    if request is None:
        return "this picture"
    controls = ", ".join(spoken(control.kind) for control in request.controls)
    count = len(request.controls)
    words = f" with {count} control{'s' if count > 1 else ''} ({controls})" if count else ""
    return f"a picture of {request.width} x {request.height} pixels{words}"


def smaller(request: GenerationRequest | None) -> str:
    """What to ask for instead, so that it takes less memory: the start of a hint, without its end."""
    if request is None:
        return "Choose a smaller size or fewer controls"
    fewer = " or fewer controls" if request.controls else ""
    if request.width * request.height <= SIZE_SMALL:
        return "Choose a model in a smaller number format" + fewer
    half = math.sqrt(0.5)
    width, height = snap_size(int(request.width * half), int(request.height * half))
    return f"Choose {width} x {height} pixels" + fewer
