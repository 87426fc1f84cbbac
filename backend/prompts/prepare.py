"""A Request -> the prompt that is really used, and what to say of it. The one entry to this room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..wire import GenerationRequest
from . import weights, wildcards
from .budget import Reader, fit, unread
from .detect import Said, read
from .enhance import additions, conflict
from .negative import suggestion
from .styles import WORDS, title
from .weights import Weighted

GUIDANCE_NEAR = 1.0
"""A guidance nearer than this to a style's is not worth a word."""


@dataclass(frozen=True, slots=True)
class FinalPrompt:
    """What the text encoders get.

    prompt, negative_prompt: as they can be written again, with brackets for weights. positive, negative: the same,
    read. tokens: by reader, how many tokens the prompt has and how many are read. notes: sentences on what was not done
    as it was asked. advice: sentences for one who looks at the prompt before it is used.
    """

    prompt: str
    negative_prompt: str
    positive: Weighted
    negative: Weighted
    tokens: dict[str, tuple[int, int]]
    notes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    def plan(self) -> dict[str, Any]:
        """For the Result's plan."""
        negative = {"negative_prompt": self.negative_prompt} if self.negative_prompt.strip() else {}
        return {
            "prompt": self.prompt,
            "tokens": {name: list(counts) for name, counts in self.tokens.items()},
            **negative,
        }


def prepare(request: GenerationRequest, t5: Reader, clip: Reader) -> FinalPrompt:
    """Resolves wildcards by the Request's seed, adds style and enhancement, and shortens for T5."""
    own = wildcards.resolve(request.prompt, request.seed)
    negative = fit(wildcards.resolve(request.negative_prompt, request.seed, "negative"), [], t5)
    words = weights.parse(own)
    # Words with a weight of 0 are unwanted ones.
    said = read(words.text, f"{words.without}, {negative.weighted.text}")
    final = fit(own, additions(said, request.style, request.enhance), t5)
    notes = [final.note, negative.note.replace("The prompt", "The negative prompt", 1), conflict(said, request.style)]
    notes += [_ignored(words), _not_english(said, request)]
    counts = {reader.name: (reader.count(final.weighted.text), reader.limit) for reader in (t5, clip)}
    return FinalPrompt(
        final.prompt,
        negative.prompt,
        final.weighted,
        negative.weighted,
        counts,
        tuple(filter(None, notes)),
        tuple(filter(None, _advice(request, final.weighted, clip))),
    )


def _advice(request: GenerationRequest, final: Weighted, clip: Reader) -> list[str]:
    said = read(final.text)
    named = request.style or next(iter(said.styles), "")
    wanted = WORDS[named].guidance if named else 0.0
    guidance = ""
    if wanted and abs(request.guidance - wanted) >= GUIDANCE_NEAR and request.true_cfg == 1.0:
        guidance = f"For {title(named)}, a guidance of about {wanted:g} is a good start."
    choices = "The wildcards are chosen by the seed: keep it to have the same again."
    return [
        choices if wildcards.has_wildcards(request.prompt) else "",
        unread(final.text, clip),
        suggestion(said, request.style, request.negative_prompt, request.true_cfg),
        guidance,
    ]


def _ignored(words: Weighted) -> str:
    if not words.ignored:
        return ""
    return f"{words.ignored[0]} is no weight: weights go from 0 to {weights.WEIGHT_MAX:g}."


def _not_english(said: Said, request: GenerationRequest) -> str:
    if said.is_english or not (request.enhance or request.style):
        return ""
    what = "only the style's name" if request.style else "nothing"
    return f"The prompt does not seem to be English, so {what} is added to it."
