"""What a prompt becomes, and how long it may be: with the real tokenizers of a tiny model."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer, T5Tokenizer

from backend.flux.tokenizers import clip_limit, read_tokenizer, token_places
from backend.models import ModelFolder
from backend.prompts import FinalPrompt, Reader, prepare
from backend.prompts.budget import fit, unread
from backend.prompts.enhance import Addition
from backend.wire import GenerationRequest
from tests.backend.test_prompts_weights import TEXTS

LONG = 100_000
T5_LIMIT = 64
REQUEST = GenerationRequest("a red pot", seed=3)
ADDED = [Addition("cel shaded", "style"), Addition("soft light", "enhance"), Addition("finely detailed", "enhance")]


@pytest.fixture(scope="module")
def readers(folder: ModelFolder) -> tuple[Reader, Reader]:
    """T5's and CLIP's. Both know characters only, so a letter is a token."""
    t5 = read_tokenizer(T5Tokenizer, folder.parts["tokenizer_2"])
    clip = read_tokenizer(CLIPTokenizer, folder.parts["tokenizer"])
    assert (folder.max_text_tokens, clip_limit(clip)) == (T5_LIMIT, 77)
    return (
        Reader("T5", T5_LIMIT, 1, lambda text: token_places(t5, text)),
        Reader("CLIP", 77, 2, lambda text: token_places(clip, text)),
    )


@pytest.mark.parametrize(
    "text", ["", "a red pot", "  two  spaces ", "naïve 猫 \U0001f680", "</s> <pad>", "x" * 300, "\n\0"]
)
def test_counts_are_the_tokenizers_own(folder: ModelFolder, readers: tuple[Reader, Reader], text: str) -> None:
    t5 = read_tokenizer(T5Tokenizer, folder.parts["tokenizer_2"])
    clip = read_tokenizer(CLIPTokenizer, folder.parts["tokenizer"])
    for tokenizer, reader in ((t5, readers[0]), (clip, readers[1])):
        assert reader.count(text) == len(tokenizer(text, truncation=False).input_ids)


def test_tokens_of_a_sentencepiece_file_have_places_of_their_own(tmp_path: Path) -> None:
    """The file that FLUX's T5 comes with. The mark of a word's start has the place of its first letter."""
    import sentencepiece

    (tmp_path / "words.txt").write_text("a red pot on a table\na big green table\nred and green pots\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "words.txt"), model_prefix=str(tmp_path / "spiece"), vocab_size=60, hard_vocab_limit=False,
        num_threads=1,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer", "extra_ids": 0}')
    tokenizer = read_tokenizer(T5Tokenizer, tmp_path)
    text = "a  red pot, on tables 猫"
    places = token_places(tokenizer, text)
    assert len(places) + 1 == len(tokenizer(text).input_ids)
    assert [text[end - 1].isspace() for _, end in places] == [False] * len(places)
    assert {index for start, end in places for index in range(start, end) if not text[index].isspace()} == {
        index for index, symbol in enumerate(text) if not symbol.isspace()
    }


def test_what_fits_is_left_as_it_is(readers: tuple[Reader, Reader]) -> None:
    fitted = fit(r"a (red:1.3) pot \(old\)", [], readers[0])
    assert (fitted.prompt, fitted.weighted.text, fitted.note) == (r"a (red:1.3) pot \(old\)", "a red pot (old)", "")
    exact = "ab " * 15 + "abcd" * 4 + "e"
    assert readers[0].count(exact) == T5_LIMIT
    assert fit(exact, [], readers[0]).note == "" and fit(exact + "x", [], readers[0]).note != ""


def test_the_users_words_go_before_what_was_added(readers: tuple[Reader, Reader]) -> None:
    t5 = readers[0]
    words = "a pot" + " of red clay" * 2
    assert fit(words, ADDED[:1], t5).note == ""
    fitted = fit(words, ADDED, t5)
    assert fitted.prompt == f"{words}, cel shaded, soft light"
    assert fitted.note == "The prompt has 72 tokens of the 64 that T5 reads: “finely detailed” is not added."
    alone = fit(words + " on the table by the wall", ADDED, t5)
    assert alone.prompt == words + " on the table by the wall"
    assert "“cel shaded, soft light, finely detailed” is not added." in alone.note


def test_a_prompt_that_is_too_long_alone_is_cut_at_a_word_and_says_where(readers: tuple[Reader, Reader]) -> None:
    fitted = fit("a (red pot:1.2) " * 20, ADDED, readers[0])
    assert fitted.weighted.text == "a red pot " * 6 + "a"
    assert fitted.prompt == "a (red pot:1.2) " * 6 + "a"
    assert fitted.note.startswith("The prompt has 242 tokens of the 64 that T5 reads: it is cut before “red pot a red")
    assert fitted.note.count("T5") == 1 and fitted.note.endswith("…”.")
    assert fit("a red pot", ADDED, readers[0]).note == ""


def test_one_long_word_is_cut_within(readers: tuple[Reader, Reader]) -> None:
    for symbol in ("x", "猫", "\U0001f680", "é"):
        fitted = fit(symbol * 500, [], readers[0])
        assert 0 < readers[0].count(fitted.weighted.text) <= T5_LIMIT
        assert set(fitted.weighted.text) == {symbol}


def test_what_clip_does_not_get_to_is_told(readers: tuple[Reader, Reader]) -> None:
    clip = readers[1]
    assert unread("a red pot", clip) == ""
    told = unread("a red pot and " * 9 + "nothing else", clip)
    assert re.fullmatch(r"CLIP reads 77 of the prompt's \d+ tokens, not from “.+” on\.", told)
    assert told.endswith("nothing else” on.")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(TEXTS, st.integers(0, 3))
def test_any_text_fits_in_the_end(readers: tuple[Reader, Reader], prompt: str, times: int) -> None:
    fitted = fit(prompt * 4**times, ADDED, readers[0])
    assert readers[0].count(fitted.weighted.text) <= T5_LIMIT
    assert fit(fitted.prompt, [], readers[0]).weighted.text == fitted.weighted.text


@pytest.mark.parametrize("part", ["word ", "x", "猫", "((", "(a:0) ", "{a|b} ", "\\", " ", "(word:1.2) "])
def test_a_hundred_thousand_characters_fit_in_the_end(readers: tuple[Reader, Reader], part: str) -> None:
    final = prepare(replace(REQUEST, prompt=part * (LONG // len(part)), style="toon", enhance=True), *readers)
    count, limit = final.tokens["T5"]
    assert count <= limit == T5_LIMIT
    assert readers[0].count(final.positive.text) == count


def prepared(readers: tuple[Reader, Reader], prompt: str, **more: object) -> FinalPrompt:
    return prepare(replace(REQUEST, prompt=prompt, **more), *readers)  # pyright: ignore[reportArgumentType]


def test_a_plain_prompt_stays_as_it_is(readers: tuple[Reader, Reader]) -> None:
    final = prepared(readers, " a red  pot ")
    assert (final.prompt, final.positive.text, final.positive.spans) == (" a red  pot ", " a red  pot ", ())
    assert final.plan() == {"prompt": " a red  pot ", "tokens": {"T5": [11, 64], "CLIP": [9, 77]}}
    assert final.notes == () == final.advice


def test_the_final_prompt_can_be_used_again(readers: tuple[Reader, Reader]) -> None:
    first = prepared(readers, r"a {red|green} (pot:1.2) \(x\)", style="ink")
    again = prepared(readers, first.prompt, seed=99)
    assert (again.prompt, again.positive) == (first.prompt, first.positive)
    assert first.prompt.startswith(("a red (pot:1.2)", "a green (pot:1.2)")) and "ink drawing" in first.prompt


def test_words_with_no_weight_and_the_negative_prompts_are_not_added(readers: tuple[Reader, Reader]) -> None:
    assert "light" in prepared(readers, "a pot", enhance=True).prompt
    assert "soft" not in prepared(readers, "a pot (light:0)", enhance=True).positive.text
    unwanted = prepared(readers, "a pot", enhance=True, negative_prompt="realistic", true_cfg=2.0)
    assert "realistic" not in unwanted.prompt and "detailed" in unwanted.prompt
    assert unwanted.plan()["negative_prompt"] == "realistic"


def test_every_note_is_a_sentence(readers: tuple[Reader, Reader]) -> None:
    roomy = replace(readers[0], limit=512), replace(readers[1], limit=512)

    def told(prompt: str, **more: object) -> tuple[str, ...]:
        final = prepared(roomy, prompt, **more)
        return (*final.notes, *final.advice)

    cases = {
        "30 is no weight": told("at (10:30)"),
        "so nothing is added": told("ein Haus und ein Baum", enhance=True),
        "only the style's name": told("ein Haus und ein Baum", style="ink"),
        "asks for Cel Shaded": told("a toon cat", style="photoreal", guidance=2.5),
        "The negative prompt has": told("a", negative_prompt="x " * 999, true_cfg=2.0),
        "a guidance of about 2.5": told("a cat", style="photoreal"),
        "could also name: drawing": told("a cat", style="photoreal", negative_prompt="fog", true_cfg=2.0),
        "chosen by the seed": told("a {red|green} cat"),
        "CLIP reads 77": prepare(replace(REQUEST, prompt="a red pot and " * 9), roomy[0], readers[1]).advice,
    }
    for words, notes in cases.items():
        assert len(notes) == 1 and words in notes[0], (words, notes)
        assert notes[0].endswith(".") and "\n" not in notes[0] and notes[0].count(". ") == 0
