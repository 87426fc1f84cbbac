"""FLUX.1's families against diffusers' own pipelines: same weights, noise, schedule and prompt, in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel

from backend.flux.model import FluxModel
from backend.flux.picture_job import ControlInput
from backend.models import ModelFolder, find_model
from tests.backend.diffusers_reference import (
    MASK,
    PICTURE,
    REQUEST,
    control_inputs,
    load_engine,
    ours,
    reference_transformer,
)
from tests.backend.families_reference import beside_a_controlnet, controlled, edited, filled, referred

Made = tuple[torch.Tensor, np.ndarray]


@dataclass(frozen=True, eq=False)
class Family:
    """A random model of a family in our engine, and its transformer in diffusers."""

    folder: ModelFolder
    model: FluxModel
    reference: FluxTransformer2DModel


@pytest.fixture(scope="module")
def family(families_folder: Path) -> Callable[[str], Family]:
    """Loads a family's random model, once."""
    loaded: dict[str, Family] = {}

    def load(variant: str) -> Family:
        if variant not in loaded:
            folder = find_model(families_folder, f"random-{variant}")
            loaded[variant] = Family(folder, load_engine(folder), reference_transformer(variant))
        return loaded[variant]

    return load


def assert_equal(mine: Made, theirs: Made, where: np.ndarray | None = None) -> None:
    """where: (height, width), which pixels are compared; all of them if None."""
    (our_tokens, our_image), (their_tokens, their_image) = mine, theirs
    assert torch.isfinite(their_tokens).all()
    assert (our_tokens - their_tokens).norm() <= 1e-3 * their_tokens.norm()
    assert (our_tokens - their_tokens).abs().max() <= 1e-3 * their_tokens.abs().max()
    assert their_image.std() > 0.05
    off = np.abs(our_image - their_image)
    # Ours is rounded to 8 bits.
    assert (off if where is None else off[where]).max() <= 0.5 / 255.0 + 1e-3


def differs(left: Made, right: Made) -> bool:
    return bool((left[0] - right[0]).norm() > 0.02 * left[0].norm())


def depth_inputs(one: Family) -> list[ControlInput]:
    """The depth map, for the model itself."""
    depth = control_inputs(one.folder, [("depth", 1.0, 0.0, 1.0)])[0]
    return [replace(depth, folder=None, mode=None)]


@pytest.mark.parametrize("steps", [4, 7])
def test_depth_is_joined_to_the_tokens(family: Callable[[str], Family], steps: int) -> None:
    one, request = family("depth-dev"), replace(REQUEST, steps=steps, guidance=10.0)
    inputs = depth_inputs(one)
    mine = ours(one.model, request, inputs)
    assert_equal(mine, controlled(one.model, one.reference, request, inputs[0]))
    flat = replace(inputs[0], picture=np.full_like(inputs[0].picture, 90))
    assert differs(mine, ours(one.model, request, [flat]))


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_fill(family: Callable[[str], Family], strength: float) -> None:
    one, request = family("fill-dev"), replace(REQUEST, task="inpaint", strength=strength, guidance=30.0)
    mine = ours(one.model, request, [], MASK)
    assert_equal(mine, filled(one.model, one.reference, request, MASK), MASK == 1.0)
    assert (mine[1][MASK == 0.0] == PICTURE[MASK == 0.0] / 255.0).all(), "the artist's own pixels"
    assert differs(mine, ours(one.model, request, [], 1.0 - MASK))


@pytest.mark.parametrize("true_cfg", [1.0, 2.5])
def test_kontext(family: Callable[[str], Family], true_cfg: float) -> None:
    one = family("kontext-dev")
    request = replace(REQUEST, task="edit", true_cfg=true_cfg, negative_prompt="fog" if true_cfg > 1.0 else "")
    mine = ours(one.model, request, [])
    assert_equal(mine, edited(one.model, one.reference, request))
    assert differs(mine, ours(one.model, replace(request, task="text_to_image"), []))


REFERENCE = np.random.default_rng(9).integers(0, 256, (5, 9, 3)).astype(np.uint8).repeat(16, 0).repeat(8, 1)


@pytest.mark.parametrize("strength", [1.0, 0.4, 2.0])
def test_redux(family: Callable[[str], Family], strength: float) -> None:
    one, request = family("redux-dev"), replace(REQUEST, reference_strength=strength)
    mine = ours(one.model, request, [], reference=REFERENCE)
    assert_equal(mine, referred(one.model, one.reference, request, REFERENCE))
    assert differs(mine, ours(one.model, REQUEST, []))


def test_a_stronger_reference_leads_further(family: Callable[[str], Family]) -> None:
    """Away from what the prompt alone paints, and towards what the reference does at 2."""
    one = family("redux-dev")
    strengths = (0.1, 0.4, 0.7, 1.0, 1.4, 2.0)
    made = [
        ours(one.model, replace(REQUEST, reference_strength=strength), [], reference=REFERENCE)[0]
        for strength in strengths
    ]
    left = [float((tokens - made[-1]).norm()) for tokens in made]
    gone = [float((tokens - made[0]).norm()) for tokens in made]
    assert left == sorted(left, reverse=True) and gone == sorted(gone)


REQUESTS = {
    "depth-dev": REQUEST,
    "fill-dev": replace(REQUEST, task="inpaint"),
    "kontext-dev": replace(REQUEST, task="edit"),
    "redux-dev": replace(REQUEST, reference_strength=0.8),
}


def theirs_of(one: Family, variant: str) -> Made:
    request = REQUESTS[variant]
    if variant == "depth-dev":
        return controlled(one.model, one.reference, request, depth_inputs(one)[0])
    if variant == "fill-dev":
        return filled(one.model, one.reference, request, MASK)
    if variant == "kontext-dev":
        return edited(one.model, one.reference, request)
    return referred(one.model, one.reference, request, REFERENCE)


@pytest.mark.parametrize("variant", REQUESTS)
def test_a_controlnet_beside(family: Callable[[str], Family], variant: str) -> None:
    one, request = family(variant), REQUESTS[variant]
    net = control_inputs(one.folder, [("normal", 0.8, 0.0, 1.0)])
    own = depth_inputs(one) if variant == "depth-dev" else []
    mask = MASK if variant == "fill-dev" else None
    picture = REFERENCE if variant == "redux-dev" else None
    alone = ours(one.model, request, own, mask, picture)
    steered = ours(one.model, request, [*own, *net], mask, picture)
    with beside_a_controlnet(one.model, one.reference, net[0]):
        theirs = theirs_of(one, variant)
    assert_equal(steered, theirs, None if mask is None else np.asarray(mask == 1.0))
    assert differs(steered, alone)
