"""Weights and wildcards: what they mean, and that no text whatever breaks them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.prompts.weights import SPECIAL, WEIGHT_MAX, Weighted, cut, parse, render
from backend.prompts.wildcards import has_wildcards, resolve

LONG = 100_000
SYNTAX = st.text(st.sampled_from([*"()[]{}|\\:,. 0123456789.ab", "é", "猫", "\U0001f680", "\u0301", "\n", "\0"]))
TEXTS = st.one_of(st.text(), SYNTAX)


def weighed(prompt: str) -> list[tuple[str, float]]:
    """The weighted parts of a prompt."""
    found = parse(prompt)
    return [(found.text[start:end], weight) for start, end, weight in found.spans]


@pytest.mark.parametrize(
    ("prompt", "text", "parts"),
    [
        ("a red ball", "a red ball", []),
        ("a (red) ball", "a red ball", [("red", 1.1)]),
        ("a ((red)) ball", "a red ball", [("red", 1.21)]),
        ("a [red] ball", "a red ball", [("red", 0.9091)]),
        ("a (red:1.3) ball", "a red ball", [("red", 1.3)]),
        ("a (red: 1.3 ) ball", "a red ball", [("red", 1.3)]),
        ("a (red:.5) ball", "a red ball", [("red", 0.5)]),
        ("a (red:1) ball", "a red ball", []),
        ("(a (red:2) ball:1.5)", "a red ball", [("a ", 1.5), ("red", 3.0), (" ball", 1.5)]),
        ("([red])", "red", []),
        ("(a:3)(b:3)", "ab", [("ab", 3.0)]),
        ("((a:5):5)", "a", [("a", 5.0)]),
        (r"a \(red\) ball", "a (red) ball", []),
        (r"a (\(red\):1.3) ball", "a (red) ball", [("(red)", 1.3)]),
        (r"a \[b\] \{c\|d\} \\", r"a [b] {c|d} \ "[:-1], []),
        (r"C:\temp", r"C:\temp", []),
        ("a (red ball", "a (red ball", []),
        ("a red) ball", "a red) ball", []),
        ("a) (b", "a) (b", []),
        ("(a [b) c]", "a [b c]", [("a [b", 1.1)]),
        ("(((a)", "((a", [("a", 1.1)]),
        ("smile :)", "smile :)", []),
        ("()", "", []),
        ("(:1.3)", "", []),
        ("(a:)", "a:", [("a:", 1.1)]),
        ("(a:1.2.3)", "a:1.2.3", [("a:1.2.3", 1.1)]),
        ("(a:1.2:1.4)", "a:1.2", [("a:1.2", 1.4)]),
        ("(a:-1)", "a:-1", [("a:-1", 1.1)]),
        ("[a:1.3]", "a:1.3", [("a:1.3", 0.9091)]),
    ],
)
def test_what_brackets_mean(prompt: str, text: str, parts: list[tuple[str, float]]) -> None:
    assert (parse(prompt).text, weighed(prompt)) == (text, parts)


def test_a_number_that_is_no_weight_is_text_and_told() -> None:
    found = parse("a clock (at 10:30)")
    assert (found.text, found.ignored) == ("a clock at 10:30", ("30",))
    assert parse("(a:5)").ignored == () and parse("(a:5.01)").ignored == ("5.01",)


@pytest.mark.parametrize(
    ("prompt", "text", "without"),
    [
        ("a red ball (with smoke:0)", "a red ball", "with smoke"),
        ("a (red:0) ball", "a ball", "red"),
        ("(red:0) ball", "ball", "red"),
        ("a ball, (red:0), on sand", "a ball, on sand", "red"),
        ("a ball, (red:0)", "a ball", "red"),
        ("(a (red:3) ball:0)", "", "a red ball"),
        ("a  ball , ,", "a  ball , ,", ""),
        (f"{'(' * 20_000}a (b:0) c{')' * 20_000}", "a c", "b"),
    ],
)
def test_words_of_no_weight_are_left_out(prompt: str, text: str, without: str) -> None:
    found = parse(prompt)
    assert (found.text, found.without) == (text, without)


@given(TEXTS)
def test_any_text_has_weights_in_order_and_within_their_range(prompt: str) -> None:
    found = parse(prompt)
    end_before = 0
    for start, end, weight in found.spans:
        assert end_before <= start < end <= len(found.text)
        assert 0.0 < weight <= WEIGHT_MAX and weight != 1.0
        end_before = end


@given(TEXTS)
def test_what_is_written_again_is_read_the_same(prompt: str) -> None:
    found = parse(prompt)
    again = parse(render(found))
    assert (again.text, again.spans) == (found.text, found.spans)


@given(st.text(st.characters(exclude_characters=SPECIAL, exclude_categories=["Cs"])))
def test_text_without_brackets_is_left_as_it_is(prompt: str) -> None:
    assert parse(prompt) == Weighted(prompt)
    assert resolve(prompt, 7) == prompt and not has_wildcards(prompt)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_backslashes_make_any_text_plain(text: str) -> None:
    plain = "".join(f"\\{symbol}" if symbol in SPECIAL else symbol for symbol in text)
    assert resolve(plain, 7) == plain and parse(plain) == Weighted(text)


@given(TEXTS, st.integers(0, 50))
def test_a_cut_keeps_the_weights_of_what_is_left(prompt: str, length: int) -> None:
    whole = parse(prompt)
    short = cut(whole, length)
    assert short.text == whole.text[:length]

    def weight_at(found: Weighted, index: int) -> float:
        return next((weight for start, end, weight in found.spans if start <= index < end), 1.0)

    assert [weight_at(short, i) for i in range(len(short.text))] == [
        weight_at(whole, i) for i in range(len(short.text))
    ]


@pytest.mark.parametrize(
    "prompt",
    [
        "(" * LONG, ")" * LONG, "[" * LONG, "{" * LONG, "}" * LONG, "|" * LONG, "\\" * LONG, ":" * LONG,
        "(" * (LONG // 2) + ")" * (LONG // 2), "[" * (LONG // 2) + "]" * (LONG // 2),
        "{" * (LONG // 2) + "}" * (LONG // 2), "{a|" * (LONG // 4) + "}" * (LONG // 4), "([" * (LONG // 2),
        "(a" * (LONG // 4) + "]" * (LONG // 2), "{a|b}" * (LONG // 5), "(a:0)," * (LONG // 6), "a" * LONG, "猫" * LONG,
        "(x:" * (LONG // 4) + "1.1)" * (LONG // 4), " " * LONG, "(a:0)" + " " * LONG,
    ],
    ids=lambda prompt: f"{prompt[:6]}…{prompt[-4:]}",
)  # fmt: skip
def test_a_hundred_thousand_characters(prompt: str) -> None:
    made = resolve(prompt, 3)
    found = parse(made)
    assert resolve(made, 4) == made
    assert all(0.0 < weight <= WEIGHT_MAX for *_, weight in found.spans)
    assert parse(render(found)).spans == found.spans


def test_a_hundred_thousand_characters_by_chance() -> None:
    for seed in range(4):
        chance = random.Random(seed)
        prompt = "".join(chance.choices("()[]{}|\\:, 1.5ab猫", k=LONG))
        made = resolve(prompt, seed)
        found = parse(made)
        assert resolve(made, seed + 1) == made and parse(render(found)).text == found.text


@pytest.mark.parametrize(
    ("prompt", "choices"),
    [
        ("a {red|green} ball", {"a red ball", "a green ball"}),
        ("{a|b}{c|d}", {"ac", "ad", "bc", "bd"}),
        ("{a|{b|c}}", {"a", "b", "c"}),
        ("{a {b|c}|d}", {"a b", "a c", "d"}),
        ("{|very }big", {"big", "very big"}),
        ("{a}", {"a"}),
        ("{}", {""}),
        ("{0::a|b}", {"b"}),
        ("{a|0::b}", {"a"}),
        ("{0::a|0::b}", {"a", "b"}),
        ("{ 2::a|1.5:: b}", {"a", " b"}),
        ("{2:a|b}", {"2:a", "b"}),
        ("{(a:1.2)|b}", {"(a:1.2)", "b"}),
        (r"{a\|b|c\}}", {r"a\|b", r"c\}"}),
        (r"\{a|b\}", {r"\{a|b\}"}),
        ("a|b", {"a|b"}),
        ("{a|b", {"{a|b"}),
        ("a|b}", {"a|b}"}),
        ("{a|b}}", {"a}", "b}"}),
        ("{{a|b}", {"{a", "{b"}),
    ],
)
def test_a_wildcard_becomes_each_of_its_options(prompt: str, choices: set[str]) -> None:
    assert {resolve(prompt, seed) for seed in range(64)} == choices


def test_the_seed_decides_and_always_the_same() -> None:
    """Written down once: another Python, or another machine, has to choose the same."""
    prompt = "{red|green|blue|white} {cube|ball|cone}"
    chosen = ["green cone", "white cone", "white cone", "green ball", "white cube", "red cube"]
    assert [resolve(prompt, seed) for seed in (0, 1, 2, 3, 2**32 - 1, 7)] == chosen
    assert resolve(prompt, 7) == resolve(prompt, 7)
    streams = [
        resolve("{a|b|c|d|e|f|g|h}", seed) == resolve("{a|b|c|d|e|f|g|h}", seed, "negative") for seed in range(99)
    ]
    assert 1 < sum(streams) < 40, "the negative prompt has choices of its own"


def test_options_come_as_often_as_their_shares_say() -> None:
    count = 4000
    for prompt, share in (("{a|b}", 0.5), ("{3::a|b}", 0.75), ("{a|b|b|b}", 0.25), ("{{a|b}|c}", 0.25)):
        found = sum(resolve(prompt, seed) == "a" for seed in range(count)) / count
        assert abs(found - share) < 0.035, prompt


@given(TEXTS, st.integers(0, 2**32 - 1))
def test_what_comes_out_has_no_wildcards(prompt: str, seed: int) -> None:
    made = resolve(prompt, seed)
    assert not has_wildcards(made)
    assert resolve(made, seed + 1) == made
    if not has_wildcards(prompt):
        assert resolve(prompt, seed + 1) == made, "the seed decides nothing"
