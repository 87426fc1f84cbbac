r"""Weights in prompts, as users of other tools write them.

(word) is 1.1 times as strong, [word] 1 / 1.1, (word:1.3) 1.3; brackets within brackets multiply. A backslash before
one of \ ( ) [ ] { } | makes it a plain character, and a bracket without its other half is one too. A weight of 0 takes
the words out of the prompt. A number outside 0 to 5 is no weight: "(at 10:30)" says the time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SPECIAL = "\\()[]{}|"
"""What a backslash makes plain."""
STEP = 1.1
WEIGHT_MAX = 5.0
NUMBER = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*")
NUMBER_LENGTH = 12
"""Characters; a longer number is no weight."""
PRODUCT_MAX = 1e6
CLOSERS = {")": "(", "]": "["}
DIGITS = 4

Span = tuple[int, int, float]


@dataclass(frozen=True, slots=True)
class Weighted:
    """A prompt as the text encoders get it.

    text: without the brackets. spans: start, end (characters of `text`) and weight, of those parts whose weight is not
    1; sorted, apart from each other, weights above 0 to 5. without: the words that had a weight of 0. ignored: the
    numbers that stood in a weight's place and are none, as written.
    """

    text: str
    spans: tuple[Span, ...] = ()
    without: str = ""
    ignored: tuple[str, ...] = ()


def parse(prompt: str) -> Weighted:
    """Reads the brackets of a prompt whose wildcards are resolved. In linear time, and of any text."""
    symbols, is_bracket = _symbols(prompt)
    pairs = _pairs(symbols, is_bracket)
    factors, skipped, ignored = _factors(symbols, is_bracket, pairs)
    return _walk(symbols, pairs, factors, skipped, tuple(ignored))


def render(weighted: Weighted) -> str:
    """The prompt that `parse` reads as this text with these weights."""
    parts, done = [], 0
    for start, end, weight in weighted.spans:
        parts += [_escaped(weighted.text[done:start]), f"({_escaped(weighted.text[start:end])}:{weight:g})"]
        done = end
    return "".join([*parts, _escaped(weighted.text[done:])])


def cut(weighted: Weighted, length: int) -> Weighted:
    """The first `length` characters, with their weights."""
    spans = tuple((start, min(end, length), weight) for start, end, weight in weighted.spans if start < length)
    return Weighted(weighted.text[:length], spans, weighted.without, weighted.ignored)


def _escaped(text: str) -> str:
    return re.sub(r"([\\()\[\]{}])", r"\\\1", text)


def _symbols(prompt: str) -> tuple[list[str], list[bool]]:
    """The characters without the backslashes that make others plain, and which of them are brackets still."""
    symbols: list[str] = []
    is_bracket: list[bool] = []
    index = 0
    while index < len(prompt):
        is_escaped = prompt[index] == "\\" and prompt[index + 1 : index + 2] in (*SPECIAL,)
        index += is_escaped
        symbols.append(prompt[index])
        is_bracket.append(not is_escaped and prompt[index] in "()[]")
        index += 1
    return symbols, is_bracket


def _pairs(symbols: list[str], is_bracket: list[bool]) -> dict[int, int]:
    """Where each bracket that has another half has it, both ways; of crossing brackets those that close first."""
    pairs: dict[int, int] = {}
    open_: list[int] = []
    waiting = {"(": 0, "[": 0}
    for index, symbol in enumerate(symbols):
        if not is_bracket[index]:
            continue
        if symbol in waiting:
            open_.append(index)
            waiting[symbol] += 1
            continue
        wanted = CLOSERS[symbol]
        while waiting[wanted]:
            start = open_.pop()
            waiting[symbols[start]] -= 1
            if symbols[start] == wanted:
                pairs[start], pairs[index] = index, start
                break
    return pairs


def _factors(
    symbols: list[str], is_bracket: list[bool], pairs: dict[int, int]
) -> tuple[dict[int, float], dict[int, int], list[str]]:
    """By the opening bracket its weight; by a weight's colon where its bracket closes; the numbers that are none."""
    factors: dict[int, float] = {}
    skipped: dict[int, int] = {}
    ignored: list[str] = []
    for start, end in sorted(pairs.items()):
        if start > end:
            continue
        if symbols[start] == "[":
            factors[start] = 1.0 / STEP
            continue
        factors[start] = STEP
        colon = end - 1
        while colon > max(start, end - NUMBER_LENGTH) and symbols[colon] != ":" and not is_bracket[colon]:
            colon -= 1
        found = NUMBER.fullmatch("".join(symbols[colon + 1 : end])) if symbols[colon] == ":" else None
        if found is None or colon <= start:
            continue
        if float(found[1]) <= WEIGHT_MAX:
            factors[start], skipped[colon] = float(found[1]), end
        else:
            ignored.append(found[1])
    return factors, skipped, ignored


def _walk(
    symbols: list[str],
    pairs: dict[int, int],
    factors: dict[int, float],
    skipped: dict[int, int],
    ignored: tuple[str, ...],
) -> Weighted:
    """Collects the text with the weight of each character, and what is left out."""
    out: list[str] = []
    without: list[str] = []
    spans: list[Span] = []
    weights = [1.0]
    has_gap = False
    index = 0
    while index < len(symbols):
        if index in skipped:
            index = skipped[index]
        if index in factors:
            weights.append(min(weights[-1] * factors[index], PRODUCT_MAX))
        elif index in pairs:
            weights.pop()
        elif (weight := round(min(weights[-1], WEIGHT_MAX), DIGITS)) == 0.0:
            without.append(symbols[index])
            has_gap = True
        elif not (has_gap and _is_left_over(out, symbols[index])):
            has_gap = False
            out.append(symbols[index])
            _note(spans, len(out), weight)
        index += 1
    text = "".join(out)
    if has_gap:
        text = text.rstrip().removesuffix(",").rstrip()
    whole = Weighted(text, tuple(spans), "".join(without), ignored)
    return cut(whole, len(text))


def _is_left_over(out: list[str], symbol: str) -> bool:
    """Whether a character parts what is left from what was taken out: a second space or comma, or one at the start."""
    if symbol.isspace():
        return not out or out[-1].isspace()
    if symbol != ",":
        return False
    # Only the last few can be spaces after a comma in what people write.
    before = "".join(out[-8:]).rstrip()
    return before.endswith(",") or not before


def _note(spans: list[Span], end: int, weight: float) -> None:
    """Adds the last character of a text of length `end` to the span before it, or begins one."""
    if weight == 1.0:
        return
    if spans and spans[-1][1] == end - 1 and spans[-1][2] == weight:
        spans[-1] = (spans[-1][0], end, weight)
    else:
        spans.append((end - 1, end, weight))
