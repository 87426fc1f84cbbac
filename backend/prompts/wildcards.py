r"""Wildcards in prompts: {red|green|blue} becomes one of the three, by the picture's seed.

Options may hold wildcards; {3::red|green} takes red three times as often; \{ \| \} are plain characters, and a brace
without its other half is one too. The same seed makes the same choices on every machine and in every Python.
"""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise

SHARE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)::")
SHARE_LENGTH = 16
"""Characters in which an option's share is looked for."""


def resolve(prompt: str, seed: int, stream: str = "prompt") -> str:
    """The prompt with one option in the place of each wildcard; backslashes stay for `weights.parse`.

    seed: the Request's. stream: another name chooses otherwise, so that a prompt and a negative prompt are not tied to
    each other. In linear time, and of any text; what comes out has no wildcards.
    """
    pairs, bars = _groups(prompt)
    found: list[str] = []
    choices = 0
    work = [(0, len(prompt))]
    while work:
        start, end = work.pop()
        index = start
        while index < end and index not in pairs:
            index += 1
        found.append(prompt[start:index])
        if index < end:
            work.append((pairs[index] + 1, end))
            work.append(_choose(prompt, [index, *bars[index], pairs[index]], _chance(seed, stream, choices)))
            choices += 1
    return "".join(found)


def has_wildcards(prompt: str) -> bool:
    """Whether the seed decides anything in the prompt."""
    return any(_groups(prompt)[1].values())


def _groups(prompt: str) -> tuple[dict[int, int], dict[int, list[int]]]:
    """Where each group's brace is closed, and where its options part, by the place of its opening brace."""
    pairs: dict[int, int] = {}
    bars: dict[int, list[int]] = {}
    open_: list[int] = []
    index = 0
    while index < len(prompt):
        match prompt[index]:
            case "\\":
                index += 1
            case "{":
                open_.append(index)
                bars[index] = []
            case "|" if open_:
                bars[open_[-1]].append(index)
            case "}" if open_:
                pairs[open_.pop()] = index
        index += 1
    return pairs, {start: bars[start] for start in pairs}


def _choose(prompt: str, marks: list[int], chance: float) -> tuple[int, int]:
    """The start and the end of one option. marks: the places of the braces and bars around them."""
    options, shares = [], []
    for left, right in pairwise(marks):
        share = SHARE.match(prompt[left + 1 : min(right, left + 1 + SHARE_LENGTH)])
        options.append((left + 1 + (share.end() if share else 0), right))
        shares.append(float(share[1]) if share else 1.0)
    total = sum(shares)
    if total <= 0.0:
        shares, total = [1.0] * len(options), float(len(options))
    left_over = chance * total
    for option, share in zip(options, shares, strict=True):
        left_over -= share
        if left_over < 0.0:
            return option
    # Rounding alone leads here: the last one that can be taken at all.
    return next(option for option, share in zip(reversed(options), reversed(shares), strict=True) if share > 0.0)


def _chance(seed: int, stream: str, number: int) -> float:
    """0 to below 1, for the choice of that number."""
    digest = hashlib.sha256(f"{stream}:{seed}:{number}".encode()).digest()
    # 53 bits are what a float holds exactly: more could round up to 1.
    return (int.from_bytes(digest[:8]) >> 11) / 2.0**53
