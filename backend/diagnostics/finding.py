"""One thing that was looked at, and how it is told: as a line, and as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from ..failures import failure_of

MARKS = ("✓", "✗", "-")
PLAIN_MARKS = ("ok  ", "FAIL", "skip")
"""For a terminal that cannot write the others."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    subject: what, the same in every version: "device", "model NAME". said: one sentence. hint: the next step, where
    there is one. is_needed: whether there are no pictures without it. is_skipped: it was not looked at, and `works`
    says nothing. values: numbers and names by field, for programs: bytes, seconds, versions.
    """

    subject: str
    works: bool
    said: str
    hint: str = ""
    is_needed: bool = True
    is_skipped: bool = False
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def is_fault(self) -> bool:
        """Whether pictures will not work before this is mended."""
        return self.is_needed and not self.works and not self.is_skipped

    def line(self, marks: tuple[str, str, str] = MARKS) -> str:
        """The finding as one line of text."""
        works, fails, skipped = marks
        mark = skipped if self.is_skipped else works if self.works else fails
        text = " ".join(f"{self.said} {self.hint}".split())
        return f"{mark} {self.subject}: {text}"

    def __str__(self) -> str:
        return self.line()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def look(subject: str, examine: Callable[[], Finding], is_needed: bool = True) -> Finding:
    """What `examine` finds; what it raises becomes a finding too, since a diagnosis goes on to the next thing."""
    try:
        return examine()
    except Exception as error:
        failure = failure_of(error)
        values = {"kind": str(failure.kind), "detail": failure.detail}
        return Finding(subject, False, failure.message, failure.hint, is_needed, values=values)


def marks_for(encoding: str | None) -> tuple[str, str, str]:
    """The marks that a terminal of that encoding can write."""
    try:
        "".join(MARKS).encode(encoding or "ascii")
    except (UnicodeError, LookupError):
        return PLAIN_MARKS
    return MARKS


def gigabytes(count: float) -> str:
    """Bytes, for a sentence: "1.5 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
