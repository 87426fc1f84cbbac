"""What is added to a prompt: a style's words, and what it leaves open. Never what it contradicts, and never unseen."""

from __future__ import annotations

from dataclasses import dataclass

from .detect import Said
from .styles import WORDS, Phrase, title

BY_MEDIUM: dict[str, tuple[Phrase, ...]] = {
    "photo": (("quality", "finely detailed"), ("focus", "sharp focus"), ("lighting", "soft natural light")),
    "rendered": (("quality", "clean and detailed"), ("lighting", "soft even light")),
    "drawn": (("quality", "clean confident lines"),),
    "painted": (("quality", "confident brushwork"), ("lighting", "clear light and shade")),
    "made": (("quality", "careful handmade detail"), ("lighting", "soft even light")),
    "": (("medium", "realistic"), ("quality", "finely detailed"), ("lighting", "soft even light")),
}
"""What enhancement adds for each of `styles.MEDIA`; "" where the prompt names none."""
OWN_MEDIA = {
    "photo": ("photo", "photograph", "photography", "photographic", "photoreal", "photorealistic", "polaroid"),
    "rendered": ("render", "rendered", "rendering", "cgi", "3d"),
    "drawn": ("drawing", "drawn", "sketch", "illustration", "comic", "cartoon", "vector", "lineart"),
    "painted": ("painting", "painted", "painterly", "fresco", "mural"),
}
"""Words that name a medium without one of the styles."""


@dataclass(frozen=True, slots=True)
class Addition:
    """Words that stand behind the user's own. by: "style" or "enhance"."""

    words: str
    by: str


def additions(said: Said, style: str, enhance: bool) -> list[Addition]:
    """What to add to a prompt that says `said`, the style's first; what is dispensable last.

    style: a name in `wire.styles.STYLES`, or "" for none.
    """
    found: list[Addition] = []
    subjects: set[str] = set()
    if style:
        chosen = _style_phrases(said, style)
        found += [Addition(words, "style") for _, words in chosen]
        subjects = {subject for subject, _ in WORDS[style].phrases}
    # What other languages say cannot be read here, so nothing could be kept from contradicting it.
    if enhance and said.is_english:
        phrases = BY_MEDIUM[_medium(said, style)]
        found += [Addition(words, "enhance") for subject, words in phrases
                  if subject not in subjects and said.allows((subject, words))]  # fmt: skip
    return found


def _style_phrases(said: Said, style: str) -> list[Phrase]:
    """The style's name, which the user has chosen, whatever else is said; then its phrases on what is not spoken of."""
    first, *others = WORDS[style].phrases
    is_named = style in said.styles
    return [*([] if is_named else [first]), *(phrase for phrase in others if said.is_english and said.allows(phrase))]


def _medium(said: Said, style: str) -> str:
    for name in (style, *said.styles):
        if name and WORDS[name].medium:
            return WORDS[name].medium
    for medium, words in OWN_MEDIA.items():
        if any(f" {word} " in said.words and word not in said.negated for word in words):
            return medium
    return ""


def with_additions(prompt: str, added: list[Addition]) -> str:
    """The prompt with the additions behind it, parted by commas."""
    if not added:
        return prompt
    own = prompt.rstrip().removesuffix(",").rstrip()
    words = ", ".join(addition.words for addition in added)
    # A backslash would make a plain character of what follows; behind a space it stays itself.
    joint = " " if own.endswith((".", "!", "?", ";", ":", "\\")) else ", "
    return f"{own}{joint}{words}" if own else words


def conflict(said: Said, style: str) -> str:
    """A sentence where the prompt itself asks for another style than the chosen one; else ""."""
    media = {WORDS[name].medium for name in said.styles} - {""}
    if not style or style in said.styles or not media or WORDS[style].medium in ("", *media):
        return ""
    return f"The prompt itself asks for {title(said.styles[0])}, and the style {title(style)} is added to it."
