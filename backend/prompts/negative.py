"""What a negative prompt should name, where it counts: only true CFG above 1 reads it at all."""

from __future__ import annotations

from .detect import Said, words_of
from .styles import WORDS
from .vocabulary import SMALL_WORDS


def suggestion(said: Said, style: str, negative_prompt: str, true_cfg: float) -> str:
    """A sentence that suggests words for the negative prompt; "" where there are none, or where it would do nothing.

    said: of the prompt alone, without the negative prompt's words.
    """
    if true_cfg <= 1.0:
        return ""
    there = set(words_of(negative_prompt))
    named = style or next(iter(said.styles), "")
    wanted = [words for words in WORDS[named].avoid if _is_new(words, there, said)] if named else []
    # FLUX reads "no people" as people: what is not wanted works in the negative prompt only.
    unwanted = [word for word in sorted(said.negated) if len(word) > 2 and word not in there and _is_a_thing(word)]
    words = list(dict.fromkeys([*unwanted, *wanted]))
    if not words:
        return ""
    return f"The negative prompt could also name: {', '.join(words)}."


def _is_new(words: str, there: set[str], said: Said) -> bool:
    """Whether words are neither in the negative prompt nor in what the picture should show."""
    return all(word not in there and f" {word} " not in said.words for word in words_of(words))


def _is_a_thing(word: str) -> bool:
    return word.isalpha() and word not in SMALL_WORDS
