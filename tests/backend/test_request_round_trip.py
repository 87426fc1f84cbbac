"""Any Request through JSON and through a picture's file and back; any wrong field refused by name. Properties."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.outputs import read_request, save_picture
from backend.outputs.png import encode_png
from backend.production.provenance import provenance
from backend.wire import CONTROL_KINDS, Control, Enhancement, FailureError, FailureKind, GenerationRequest, Stage
from backend.wire.enhancement import DATA_KINDS, DETAIL_MAX
from backend.wire.finishes import BY_STYLE, FINISHES
from backend.wire.request import CONTROLS_MAX, SAMPLERS, SCHEDULES, SEED_MAX, TASKS
from backend.wire.speeds import SPEEDS

NAMES = [field.name for field in fields(GenerationRequest)]
PIXELS = np.zeros((8, 8, 3), np.uint8)
texts = st.text(min_size=1, max_size=60).filter(str.strip)


@st.composite
def control_lists(draw: st.DrawFn, among: tuple[str, ...] = CONTROL_KINDS) -> tuple[Control, ...]:
    kinds = draw(st.lists(st.sampled_from(among), unique=True, max_size=CONTROLS_MAX)) if among else []
    starts = st.floats(0.0, 0.5)
    return tuple(Control(kind, draw(st.floats(0.0, 2.0)), draw(starts), draw(st.floats(0.51, 1.0))) for kind in kinds)


def enhancements() -> st.SearchStrategy[Enhancement]:
    names = st.sampled_from(("", "RealESRGAN_x4plus", "4x-UltraSharp (old)"))
    finishes = st.sampled_from(("", BY_STYLE, *FINISHES))
    scales, shares = st.floats(1.5, 8.0), st.floats(0.0, 1.0)
    larger = {"scale": scales, "network": names, "upscale_fidelity": shares}
    faces = {"faces": st.booleans(), "face_network": names, "fidelity": shares}
    pictures = st.builds(Enhancement, **larger, **faces, finish=finishes, detail=st.floats(0.0, DETAIL_MAX))
    maps = st.builds(Enhancement, **larger, tileable=st.booleans(), data=st.sampled_from(DATA_KINDS))
    return pictures | maps


@st.composite
def requests(draw: st.DrawFn) -> GenerationRequest:
    task = draw(st.sampled_from(TASKS))
    controls = draw(control_lists())
    is_negative = draw(st.booleans())
    own = control_lists(tuple(control.kind for control in controls))
    stages: list[Stage] = []
    if task not in ("edit", "enhance") and draw(st.booleans()):
        some = st.builds(
            Stage, st.floats(0.25, 1.0), st.integers(1, 200), st.floats(0.01, 1.0), st.none() | own
        )  # fmt: skip
        stages = [*draw(st.lists(some, max_size=3)), draw(st.builds(Stage, st.just(1.0), st.integers(1, 200)))]
    request = GenerationRequest(
        prompt=draw(texts),
        width=16 * draw(st.integers(4, 128)),
        height=16 * draw(st.integers(4, 128)),
        seed=draw(st.integers(0, SEED_MAX)),
        steps=draw(st.integers(1, 200)),
        guidance=draw(st.floats(0.0, 100.0)),
        task=task,
        model=draw(st.sampled_from(("", "sample", "FLUX.1-dev Q8_0", "モデル"))),
        sampler=draw(st.sampled_from(SAMPLERS)),
        schedule=draw(st.sampled_from(SCHEDULES)),
        speed=draw(st.sampled_from(tuple(SPEEDS))),
        negative_prompt=draw(texts) if is_negative else "",
        true_cfg=draw(st.floats(1.01, 20.0)) if is_negative else 1.0,
        strength=draw(st.floats(0.01, 1.0)) if task in ("image_to_image", "inpaint") else 1.0,
        controls=controls,
        stages=tuple(stages),
        reference_strength=draw(st.floats(0.0, 2.0)),
        bit_depth=draw(st.sampled_from((8, 16))),
        enhancement=draw(enhancements() if task == "enhance" else st.none() | enhancements()),
    )
    request.check()
    return request


@given(requests())
def test_json_gives_back_the_request(request: GenerationRequest) -> None:
    again = GenerationRequest.from_json(json.loads(json.dumps(request.to_json())))
    assert again == request and again.digest() == request.digest()


@settings(deadline=None, max_examples=30)
@given(request=requests(), ending=st.sampled_from((".png", ".webp", ".jpg", ".exr")), is_deep=st.booleans())
def test_a_picture_gives_back_the_request(
    tmp_path_factory: pytest.TempPathFactory, request: GenerationRequest, ending: str, is_deep: bool
) -> None:
    digests, plan = {"request": request.digest(), "weights": {"a/b.gguf": "0" * 64}}, {"device": "cpu", "n": [1, 2]}
    pixels = PIXELS.astype(np.uint16) if is_deep else PIXELS
    png = encode_png(pixels, provenance(request, digests, plan, "a/b.gguf"))
    path: Path = tmp_path_factory.mktemp("round") / f"a{ending}"
    assert read_request(save_picture(png, path)) == (request, digests, plan)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(requests(), st.sampled_from(NAMES), json_values)
def test_a_wrong_field_is_refused_in_a_sentence_or_changes_nothing_else(
    request: GenerationRequest, name: str, value: Any
) -> None:
    data = {**request.to_json(), name: value}
    try:
        read = GenerationRequest.from_json(data)
    except FailureError as error:
        failure = error.failure
        assert failure.kind == FailureKind.BAD_REQUEST
        assert failure.message.endswith(".") and failure.hint.endswith(".")
        return
    assert {**read.to_json(), name: None} == {**request.to_json(), name: None}


@given(requests(), st.text(min_size=1).filter(lambda name: name not in NAMES), json_values)
def test_an_unknown_field_is_refused_by_its_name(request: GenerationRequest, name: str, value: Any) -> None:
    with pytest.raises(FailureError) as caught:
        GenerationRequest.from_json({**request.to_json(), name: value})
    assert repr(name) in caught.value.failure.message
