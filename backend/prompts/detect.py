"""What a prompt says: on which subjects, in which style, and what it does not want."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

from .styles import WORDS, Phrase
from .vocabulary import (
    CLAUSE_ENDS,
    ENGLISH,
    FILLERS,
    FOREIGN,
    NEGATED_PREFIXES,
    NEGATION_REACH,
    NEGATIONS,
    SMALL_WORDS,
    SUBJECT_WORDS,
)

SUBJECTS = tuple(SUBJECT_WORDS)
TOKEN = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*|[,.;:!?]")
SENSELESS = SMALL_WORDS | {"true", "small", "large"}
"""Words of a style's phrases that a negation does not concern."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a prompt says.

    words: all of them, as `words_of` writes them, a space around each. subjects: those of `SUBJECTS` that it says
    something on, wanting it or not. negated: words that it does not want. styles: names, the one that its words ask for
    most clearly first. is_english: whether the rest can be relied on.
    """

    words: str
    subjects: frozenset[str]
    negated: frozenset[str]
    styles: tuple[str, ...]
    is_english: bool

    def allows(self, phrase: Phrase) -> bool:
        """Whether a phrase can be added: its subject is not spoken of, and none of its words is unwanted or there."""
        subject, text = phrase
        if subject in self.subjects or f" {' '.join(words_of(text))} " in self.words:
            return False
        return self.negated.isdisjoint(word for word in words_of(text) if word not in SENSELESS)


def words_of(text: str) -> list[str]:
    """Its words: lower case, without accents and a plural's s; hyphens part them."""
    return [token for token in _tokens(text) if token not in CLAUSE_ENDS]


def read(prompt: str, unwanted: str = "") -> Said:
    """Reads a prompt without brackets and wildcards. unwanted: what else is not wanted, such as a negative prompt.

    In linear time, and of any text.
    """
    tokens = _tokens(prompt)
    words = [token for token in tokens if token not in CLAUSE_ENDS]
    spoken_of = {*words, *words_of(unwanted)}
    negated = _negated(tokens) | set(words_of(unwanted))
    # "unlit" speaks of light as "lit" does.
    spoken_of |= {bare for word in spoken_of for bare in _bare(word)}
    subjects = frozenset(name for name, known in _subjects().items() if not known.isdisjoint(spoken_of))
    line = f" {' '.join(words)} "
    return Said(line, subjects, frozenset(negated), _styles(line, negated), _is_english(prompt, words))


def detect_styles(prompt: str) -> tuple[str, ...]:
    """The names of the styles that a prompt asks for, in `wire.styles.STYLES`; the clearest first."""
    return read(prompt).styles


def _tokens(text: str) -> list[str]:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(symbol for symbol in decomposed if not unicodedata.combining(symbol))
    return [_singular(token.replace("\u2019", "'")) for token in TOKEN.findall(plain)]


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "'s")) else word


def _bare(word: str) -> list[str]:
    return [word.removeprefix(prefix) for prefix in NEGATED_PREFIXES if word.startswith(prefix) and word != prefix]


def _negated(tokens: list[str]) -> set[str]:
    """The words that stand after a negation in its clause, before "-free", or behind "un-"."""
    found: set[str] = set()
    left = 0
    for index, token in enumerate(tokens):
        if token in CLAUSE_ENDS:
            left = 0
        elif token == "free" and index:
            found.add(tokens[index - 1])
        elif token in NEGATIONS:
            left = NEGATION_REACH
        elif left:
            left -= 1
            found.add(token)
    return found | {bare for token in tokens for bare in _bare(token)}


def _styles(line: str, negated: set[str]) -> tuple[str, ...]:
    found = []
    for name, needles in _needles().items():
        hits = [needle for needle in needles if needle in line and negated.isdisjoint(needle.split())]
        if hits:
            found.append((-max(len(needle.split()) for needle in hits), -len(hits), line.index(hits[0]), name))
    return tuple(item[-1] for item in sorted(found))


def _is_english(prompt: str, words: list[str]) -> bool:
    """Whether it is likely English: Latin letters, and not mostly another language's small words."""
    letters = [symbol for symbol in prompt if symbol.isalpha()]
    latin = sum(symbol < "\u0250" for symbol in letters)
    if latin < 0.9 * len(letters):
        return False
    english = sum(word in ENGLISH for word in words)
    return all(sum(word in small for word in words) <= english for small in _foreign())


@cache
def _subjects() -> dict[str, frozenset[str]]:
    return {name: frozenset(words_of(known)) - FILLERS for name, known in SUBJECT_WORDS.items()}


@cache
def _needles() -> dict[str, list[str]]:
    return {name: [f" {' '.join(words_of(text))} " for text in style.detect] for name, style in WORDS.items()}


@cache
def _foreign() -> list[frozenset[str]]:
    return [frozenset(words_of(text)) - ENGLISH for text in FOREIGN.values()]
