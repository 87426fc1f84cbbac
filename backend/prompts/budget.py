"""How many tokens of a prompt its readers take, and what is left out of one that is too long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import weights
from .enhance import Addition, with_additions
from .weights import Weighted

QUOTED = 48
"""Characters of the prompt that a sentence quotes."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A text encoder's tokenizer. name: as it is called in a sentence. limit: tokens that it reads, its own marks among
    them. marks: how many it adds itself. split: a text -> the place of each token in it, start and end in characters.
    """

    name: str
    limit: int
    marks: int
    split: Callable[[str], list[tuple[int, int]]]

    def count(self, text: str) -> int:
        """Tokens of the text, with the reader's own marks."""
        return len(self.split(text)) + self.marks


@dataclass(frozen=True, slots=True)
class Fitted:
    """A prompt that its reader takes whole. prompt: with brackets. note: a sentence on what is left out, or ""."""

    prompt: str
    weighted: Weighted
    note: str = ""


def fit(prompt: str, added: list[Addition], reader: Reader) -> Fitted:
    """The prompt with as many of the additions, the first before the last, as the reader has room for.

    A prompt that is too long alone loses its end, at a word's end where there is one.
    """
    whole = weights.parse(with_additions(prompt, added))
    tokens = reader.count(whole.text)
    if tokens <= reader.limit:
        return Fitted(with_additions(prompt, added), whole)
    head = f"The prompt has {tokens:,} tokens of the {reader.limit} that {reader.name} reads"
    for kept in range(len(added) - 1, -1, -1):
        shorter = weights.parse(with_additions(prompt, added[:kept]))
        if reader.count(shorter.text) <= reader.limit:
            lost = ", ".join(addition.words for addition in added[kept:])
            return Fitted(with_additions(prompt, added[:kept]), shorter, f"{head}: {_quoted(lost)} is not added.")
    own = weights.parse(prompt)
    short = weights.cut(own, _length_for(own.text, reader))
    lost = own.text[len(short.text) :].strip()
    note = f"{head}: it is cut before {_quoted(lost)}."
    return Fitted(weights.render(short), short, note)


def unread(text: str, reader: Reader) -> str:
    """A sentence on the end of a text that the reader does not get to; "" where it reads all."""
    places = reader.split(text)
    tokens, room = len(places) + reader.marks, reader.limit - reader.marks
    if tokens <= reader.limit:
        return ""
    lost = text[places[room][0] :].strip()
    return f"{reader.name} reads {reader.limit} of the prompt's {tokens:,} tokens, not from {_quoted(lost)} on."


def _length_for(text: str, reader: Reader) -> int:
    """How many characters of the text the reader takes; up to a word's end where there is one."""
    places = reader.split(text)
    room = reader.limit - reader.marks
    length = places[room - 1][1]
    if not text[length : length + 1].isspace():
        # Within a word: back to its start, unless the text is one word from there on, as in languages without spaces.
        length = next((i for i in range(length, 0, -1) if text[i - 1].isspace()), length)
    length = len(text[:length].rstrip()) or length
    # A word's beginning can have more tokens than it has within the whole word.
    while length > 0 and reader.count(text[:length]) > reader.limit:
        length -= 1
    return length


def _quoted(text: str) -> str:
    return f"“{text}”" if len(text) <= QUOTED else f"“{text[: QUOTED - 1].rstrip()}…”"
