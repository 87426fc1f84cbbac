"""What a GenerationRequest refuses, and how sizes snap."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.wire import CONTROL_KINDS, Control, FailureError, FailureKind, GenerationRequest, LoRA, snap_size
from backend.wire.request import PIXELS_MAX, SIZE_MAX, SIZE_MIN, SIZE_MULTIPLE

GOOD = GenerationRequest(
    "a cube",
    256,
    128,
    seed=7,
    steps=4,
    controls=(Control("depth"), Control("line", 0.2, 0.1, 0.9)),
    loras=(LoRA("woodcut", 0.8), LoRA("ink (v2)")),
)
NAN = float("nan")


def refused(data: object) -> str:
    """The sentence with which `data` is refused; the next step is there too."""
    with pytest.raises(FailureError) as caught:
        GenerationRequest.from_json(data)
    failure = caught.value.failure
    assert failure.kind == FailureKind.BAD_REQUEST
    assert failure.message.endswith(".") and failure.hint.endswith(".")
    assert "\n" not in failure.message
    return failure.message


def test_a_good_one_goes_through_json_unchanged() -> None:
    GOOD.check()
    assert GenerationRequest.from_json(GOOD.to_json()) == GOOD
    assert GenerationRequest.from_json(GOOD.to_json()).digest() == GOOD.digest()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("prompt", "", "prompt is empty"),
        ("prompt", " \n\t", "prompt is empty"),
        ("prompt", "x" * 10_001, "10,001 characters"),
        ("prompt", None, "prompt is not text"),
        ("width", 0, "0 x 128"),
        ("height", 0, "256 x 0"),
        ("width", -16, "-16 x 128"),
        ("width", 20_000, "20000 x 128"),
        ("width", 250, "not multiples"),
        ("width", 256.0, "width is not a whole number"),
        ("width", True, "width is not a whole number"),
        ("height", "128", "height is not a whole number"),
        ("steps", 0, "number of steps is 0"),
        ("steps", 201, "number of steps is 201"),
        ("steps", True, "steps is not a whole number"),
        ("seed", -1, "seed is -1"),
        ("seed", 2**32, "seed is 4294967296"),
        ("seed", 1.5, "seed is not a whole number"),
        ("guidance", NAN, "uidance is nan"),
        ("guidance", float("inf"), "uidance is inf"),
        ("guidance", -1, "uidance is -1"),
        ("guidance", True, "uidance is True"),
        ("guidance", "3", "uidance is '3'"),
        ("task", "video", "'video'"),
        ("sampler", "magic", "'magic'"),
        ("schedule", "magic", "'magic'"),
        ("prompt", "half \ud83d of one", "half of a character"),
        ("negative_prompt", "\udc00", "half of a character"),
        ("style", "wild", "no style called 'wild'"),
        ("style", None, "style is not text"),
        ("style", "none", "'none'"),
        ("enhance", 1, "enhance is not true or false"),
        ("enhance", "yes", "enhance is not true or false"),
        ("negative_prompt", 3, "negative_prompt"),
        ("negative_prompt", "blurry", "true CFG of 1"),
        ("negative_prompt", "x" * 20_000, "20,000"),
        ("true_cfg", 2.0, "without a negative prompt"),
        ("true_cfg", 0.5, "0.5"),
        ("model", "../secret", "'../secret'"),
        ("model", "/etc/passwd", "'/etc/passwd'"),
        ("model", ".hidden", "'.hidden'"),
        ("model", "a\\b", "model"),
        ("model", "x" * 101, "name of a model"),
        ("model", None, "model is not text"),
        ("prompt", "half \ud800", "half of a character"),
        ("bit_depth", 12, "bit depth is 12"),
        ("bit_depth", 8.0, "bit_depth is not a whole number"),
        ("bit_depth", True, "bit_depth is not a whole number"),
        ("controls", "depth", "controls is not a list"),
        ("controls", [3], "not a table"),
        ("controls", [{}], "kind is missing"),
        ("controls", [{"kind": "heat"}], "'heat'"),
        ("controls", [{"kind": 3}], "3"),
        ("controls", [{"kind": "depth"}] * 2, "twice"),
        ("controls", [{"kind": kind} for kind in CONTROL_KINDS[:5]], "5 controls are on"),
        ("controls", [{"kind": "soft_edge", "strength": 3}], "soft edge control's strength is 3"),
        ("controls", [{"kind": "depth", "weight": 1}], "'weight'"),
        ("controls", [{"kind": "depth", "strength": NAN}], "strength is nan"),
        ("controls", [{"kind": "depth", "strength": 2.1}], "strength is 2.1"),
        ("controls", [{"kind": "depth", "strength": True}], "strength is True"),
        ("controls", [{"kind": "depth", "start": -0.1}], "start is -0.1"),
        ("controls", [{"kind": "depth", "end": 1.1}], "end is 1.1"),
        ("controls", [{"kind": "depth", "start": 0.5, "end": 0.5}], "ends before it starts"),
        ("loras", "woodcut", "loras is not a list"),
        ("loras", ["woodcut"], "not a table"),
        ("loras", [{}], "name is missing"),
        ("loras", [{"name": "a", "weight": 1}], "'weight'"),
        ("loras", [{"name": "../a"}], "'../a' is not the name of a LoRA"),
        ("loras", [{"name": "a/b"}], "'a/b'"),
        ("loras", [{"name": "C:\\a"}], "name of a LoRA"),
        ("loras", [{"name": ".a"}], "'.a'"),
        ("loras", [{"name": ""}], "''"),
        ("loras", [{"name": 3}], "3 is not the name"),
        ("loras", [{"name": "x" * 101}], "name of a LoRA"),
        ("loras", [{"name": "a", "strength": 2.1}], "'a' is 2.1"),
        ("loras", [{"name": "a", "strength": -3}], "'a' is -3"),
        ("loras", [{"name": "a", "strength": NAN}], "'a' is nan"),
        ("loras", [{"name": "a", "strength": True}], "'a' is True"),
        ("loras", [{"name": "a", "strength": "1"}], "'a' is '1'"),
        ("loras", [{"name": "a"}, {"name": "a", "strength": 0.5}], "twice"),
        ("loras", [{"name": letter} for letter in "abcdefghi"], "9 LoRAs"),
        ("unknown", 1, "'unknown'"),
    ],
)
def test_refused_fields(field: str, value: Any, said: str) -> None:
    assert said in refused({**GOOD.to_json(), field: value})


@pytest.mark.parametrize("data", [None, [], "x", 3, {}, {"prompt": 3}, {1: 2}])
def test_refused_shapes(data: object) -> None:
    refused(data)


def test_only_pictures_need_a_prompt() -> None:
    replace(GOOD, prompt="", task="show_controls").check()


def test_the_largest_size_is_by_area() -> None:
    replace(GOOD, width=2048, height=2048).check()
    replace(GOOD, width=4096, height=1024).check()
    with pytest.raises(FailureError, match="too large"):
        replace(GOOD, width=4096, height=1040).check()


def test_every_field_decides_the_digest() -> None:
    others = [
        replace(GOOD, prompt="a ball"), replace(GOOD, width=272), replace(GOOD, height=144), replace(GOOD, seed=8),
        replace(GOOD, steps=5), replace(GOOD, guidance=3.0), replace(GOOD, task="show_controls"),
        replace(GOOD, model="other"), replace(GOOD, style="toon"), replace(GOOD, enhance=True),
        replace(GOOD, bit_depth=16), replace(GOOD, controls=(Control("depth"),)),
        replace(GOOD, controls=(Control("depth", 0.71), Control("line", 0.2, 0.1, 0.9))),
        replace(GOOD, loras=()), replace(GOOD, loras=(LoRA("woodcut", 0.81), LoRA("ink (v2)"))),
        replace(GOOD, loras=(LoRA("ink (v2)"), LoRA("woodcut", 0.8))),
    ]  # fmt: skip
    digests = {request.digest() for request in [GOOD, *others]}
    assert len(digests) == len(others) + 1


@given(st.integers(-100, 50_000), st.integers(-100, 50_000))
def test_snapped_sizes_can_be_made(width: int, height: int) -> None:
    snapped = snap_size(width, height)
    GenerationRequest("x", *snapped).check()
    assert snap_size(*snapped) == snapped


@given(
    st.integers(SIZE_MIN, SIZE_MAX).flatmap(
        lambda width: st.tuples(st.just(width), st.integers(SIZE_MIN, min(SIZE_MAX, PIXELS_MAX // width)))
    )
)
def test_sizes_within_the_limits_snap_by_half_a_multiple_at_most(size: tuple[int, int]) -> None:
    snapped = snap_size(*size)
    off = max(abs(new - old) for new, old in zip(snapped, size, strict=True))
    # Rounding both sides up can pass the area's limit; then the longer side gives way.
    is_at_the_limit = snapped[0] * snapped[1] > PIXELS_MAX - SIZE_MULTIPLE * SIZE_MAX
    assert off <= SIZE_MULTIPLE // 2 or is_at_the_limit


@given(st.integers(1000, 20_000), st.floats(0.5, 2.0))
def test_large_sizes_keep_their_aspect(width: int, aspect: float) -> None:
    height = max(1000, round(width / aspect))
    snapped = snap_size(width, height)
    assert abs(snapped[0] / snapped[1] - width / height) < 0.05 * width / height
