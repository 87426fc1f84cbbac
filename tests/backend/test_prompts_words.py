"""Styles, detection, enhancement, templates: what is added to a prompt, and what never is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.prompts.detect import SENSELESS, SUBJECTS, detect_styles, read, words_of
from backend.prompts.enhance import BY_MEDIUM, additions, conflict, with_additions
from backend.prompts.negative import suggestion
from backend.prompts.styles import MEDIA, WORDS
from backend.prompts.templates import TEMPLATES, PromptParts, from_template
from backend.prompts.vocabulary import SUBJECT_WORDS
from backend.wire import FailureError
from backend.wire.styles import STYLES

LONG = 100_000
PHRASES = {words: subject for phrases in BY_MEDIUM.values() for subject, words in phrases}
PHRASES |= {words: subject for style in WORDS.values() for subject, words in style.phrases}


def added(prompt: str, style: str = "", enhance: bool = True, unwanted: str = "") -> str:
    """What stands behind the prompt."""
    return ", ".join(addition.words for addition in additions(read(prompt, unwanted), style, enhance))


def test_the_library_is_whole() -> None:
    assert set(WORDS) == set(STYLES) and len(STYLES) == 30
    for name, style in WORDS.items():
        assert re.fullmatch("[a-z_]+", name) and STYLES[name][0] and not STYLES[name][1].endswith(".")
        subjects = [subject for subject, _ in style.phrases]
        assert subjects[0] == "medium" and set(subjects) <= set(SUBJECTS) and len(set(subjects)) == len(subjects)
        assert style.medium in MEDIA and style.detect and 0.0 <= style.guidance <= 10.0
        assert not re.search(r"[()\[\]{}|\\]", " ".join(words for _, words in style.phrases))
    assert len({style.phrases for style in WORDS.values()}) == 30
    assert set(BY_MEDIUM) == set(MEDIA)


@pytest.mark.parametrize("name", WORDS)
def test_a_styles_words_ask_for_it(name: str) -> None:
    for words in WORDS[name].detect:
        assert name in detect_styles(f"a boat, {words.upper()}, at sea"), words
        assert name not in detect_styles(f"a boat, not {words}, at sea"), words
    said = ", ".join(words for _, words in WORDS[name].phrases)
    assert added(f"a boat, {said}", name, enhance=False) == "" or name not in detect_styles(said)


@pytest.mark.parametrize(
    ("prompt", "styles"),
    [
        ("a clay pot", ()),
        ("a clay render of a pot", ("clay",)),
        ("Low-Poly forest", ("low_poly",)),
        ("pixel art of a toon", ("pixel_art", "toon")),
        ("she felt sad in a comical way", ()),
        ("non-photorealistic", ()),
        ("a watercolour, without pencil", ("watercolour",)),
        ("an Aquarelle", ("watercolour",)),
    ],
)
def test_styles_are_found_in_words(prompt: str, styles: tuple[str, ...]) -> None:
    assert detect_styles(prompt) == styles


@pytest.mark.parametrize(
    ("prompt", "never"),
    [
        ("a knight, no people, flat lighting", ["light", "people"]),
        ("a city at night", ["light", "daylight", "natural"]),
        ("a toon cat", ["realistic", "photograph", "light", "natural"]),
        ("a rough sketch of a boat", ["detail", "realistic", "clean"]),
        ("a blurry photo of a dog", ["sharp", "focus"]),
        ("minimalist vase", ["detail"]),
        ("a lamp with no light", ["light"]),
        ("an unlit corridor", ["light"]),
        ("non-realistic tree", ["realistic"]),
        ("detail-free walls", ["detail"]),
        ("cubist portrait, 1910", ["realistic", "photograph"]),
        ("a house (but never realistic)", ["realistic"]),
        ("rote Kugel bei Nacht", ["light"]),
        ("eine Kugel und ein Würfel", ["realistic", "detail", "light"]),
        ("un chat sur la table", ["realistic", "detail", "light"]),
        ("猫と犬", ["realistic", "detail", "light"]),
        ("кот на крыше", ["realistic", "detail", "light"]),
    ],
)
def test_nothing_is_added_against_what_was_said(prompt: str, never: list[str]) -> None:
    found = words_of(added(prompt))
    for word in never:
        assert word not in found, added(prompt)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_where_a_subject_is_spoken_of_nothing_is_added_on_it(subject: str) -> None:
    for word in words_of(SUBJECT_WORDS[subject]):
        for prompt in (f"a cat, {word}", f"a cat with no {word}", f"a {word} cat"):
            said = read(prompt)
            if subject not in said.subjects:  # a filler, as "of" in "depth of field"
                continue
            for style in ("", *WORDS):
                own = {PHRASES[addition.words] for addition in additions(said, style, True)} - {"medium"}
                assert subject not in own, (prompt, style)


def test_no_unwanted_word_is_added() -> None:
    for style in ("", *WORDS):
        name = WORDS[style].phrases[0][1] if style else ""
        for addition in additions(read("a cat"), style, True):
            words = [word for word in words_of(addition.words) if word not in SENSELESS]
            for word in words if addition.words != name else ():
                for prompt, unwanted in ((f"a cat without {word}", ""), ("a cat", word)):
                    others = added(prompt, style, unwanted=unwanted).removeprefix(name)
                    assert word not in words_of(others), (style, word)


def test_enhancement_adds_something_to_a_bare_prompt_and_nothing_twice() -> None:
    once = with_additions("a cat", additions(read("a cat"), "", True))
    assert once == "a cat, realistic, finely detailed, soft even light"
    assert with_additions(once, additions(read(once), "", True)) == once
    assert added("a cat", enhance=False) == ""
    assert added("photo of a cat") == "finely detailed, sharp focus, soft natural light"


@pytest.mark.parametrize("style", WORDS)
def test_a_chosen_style_is_added_by_name_and_once(style: str) -> None:
    once = with_additions("a cat", additions(read("a cat"), style, False))
    assert WORDS[style].phrases[0][1] in once and once.startswith("a cat, ")
    assert len(additions(read("a cat"), style, False)) == len(WORDS[style].phrases)
    enhanced = additions(read("a cat"), style, True)
    assert [item.by for item in enhanced] == sorted((item.by for item in enhanced), reverse=True), "the style's first"
    subjects = [PHRASES[item.words] for item in enhanced]
    assert len(set(subjects)) == len(subjects), "one phrase on each subject"


@pytest.mark.parametrize(
    ("prompt", "joined"),
    [
        ("a cat", "a cat, clay"), ("a cat, ", "a cat, clay"), ("A cat. ", "A cat. clay"), ("a cat\\", "a cat\\ clay"),
        (" ", "clay"), ("a (cat", "a (cat, clay"),
    ],
)  # fmt: skip
def test_how_words_are_joined(prompt: str, joined: str) -> None:
    from backend.prompts.enhance import Addition

    assert with_additions(prompt, [Addition("clay", "style")]) == joined
    assert with_additions(prompt, []) == prompt


def test_a_style_against_the_prompts_own_is_told() -> None:
    assert "asks for Cel Shaded" in conflict(read("a toon cat"), "photoreal")
    assert conflict(read("a toon cat"), "anime") == "", "both are drawn"
    assert conflict(read("a toon cat"), "cyberpunk") == "" == conflict(read("a cat"), "toon")


def test_negative_prompts_are_suggested_where_they_count_alone() -> None:
    said = read("photo of a street, no people")
    assert suggestion(said, "", "", 1.0) == ""
    assert (
        suggestion(said, "", "fog", 2.0) == "The negative prompt could also name: people, drawing, painting, cartoon."
    )
    assert suggestion(said, "", "people, drawings and paintings, cartoon", 2.0) == ""
    assert "painting" not in suggestion(read("photo of a painting"), "", "fog", 2.0), "it is wanted"
    assert suggestion(read("a cat"), "", "fog", 2.0) == ""


@given(st.text(), st.sampled_from(["", *WORDS]), st.booleans())
def test_any_text_keeps_its_own_words_in_front(prompt: str, style: str, enhance: bool) -> None:
    said = read(prompt)
    whole = with_additions(prompt, additions(said, style, enhance))
    assert whole.startswith(prompt.rstrip().removesuffix(",").rstrip())
    assert said.subjects <= set(SUBJECTS)


@pytest.mark.parametrize("part", ["a ", "no ", "light, ", "猫", "\u0301", "un", "-", "not not ", "\U0001f680", "'"])
def test_a_hundred_thousand_characters_are_read(part: str) -> None:
    said = read(part * (LONG // len(part)))
    assert len(additions(said, "toon", True)) >= 1


def test_templates_make_prompts() -> None:
    assert PromptParts("a pot").prompt() == "a pot"
    parts = PromptParts("a  pot,", "red clay", "soft light", "50 mm lens", "oil painting")
    assert parts.prompt() == "oil painting of a pot, made of red clay, soft light, 50 mm lens"
    assert PromptParts().prompt() == ""
    for name in TEMPLATES:
        prompt = from_template(name, "a pot").prompt()
        assert "a pot" in prompt and prompt != "a pot" and from_template(name, "a pot").lighting
    changed = from_template("product", "a pot", lighting="", camera="macro lens")
    assert changed.prompt() == "studio photograph of a pot, macro lens"


def test_what_a_template_lacks_is_refused_by_name() -> None:
    with pytest.raises(FailureError, match=r"no template called 'pot'. Use one of product, room"):
        from_template("pot", "a pot")
    with pytest.raises(FailureError, match=r"no part of a prompt called 'light'. Use one of material, lighting"):
        from_template("product", "a pot", light="dim")


@given(st.builds(PromptParts, *[st.text(max_size=40)] * 5))
def test_any_parts_make_one_line(parts: PromptParts) -> None:
    assert "\n" not in parts.prompt() and parts.prompt() == " ".join(parts.prompt().split())
