"""Our loop against diffusers' own pipelines: same weights, noise, schedule and prompt, in float32."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel

from backend.flux.model import FluxModel
from backend.flux.picture_job import ControlInput
from backend.models import ModelFolder
from backend.wire import GenerationRequest
from tests.backend.diffusers_reference import MASK, PICTURE, REQUEST, WINDOWS, control_inputs, ours, theirs


def assert_equal(
    model: FluxModel,
    reference: FluxTransformer2DModel,
    request: GenerationRequest,
    controls: list[ControlInput],
) -> None:
    our_tokens, our_image = ours(model, request, controls)
    their_tokens, their_image = theirs(model, reference, request, controls)
    assert torch.isfinite(their_tokens).all()
    assert (our_tokens - their_tokens).norm() <= 1e-3 * their_tokens.norm()
    assert (our_tokens - their_tokens).abs().max() <= 1e-3 * their_tokens.abs().max()
    assert their_image.std() > 0.05
    # Ours is rounded to 8 bits.
    assert np.abs(our_image - their_image).max() <= 0.5 / 255.0 + 1e-3


def test_without_control(model: FluxModel, reference: FluxTransformer2DModel) -> None:
    assert_equal(model, reference, REQUEST, [])


@pytest.mark.parametrize("name", WINDOWS)
def test_with_controls(model: FluxModel, reference: FluxTransformer2DModel, folder: ModelFolder, name: str) -> None:
    assert_equal(model, reference, REQUEST, control_inputs(folder, WINDOWS[name]))


@pytest.mark.parametrize("name", [None, "two with windows"])
def test_with_a_negative_prompt(
    model: FluxModel, reference: FluxTransformer2DModel, folder: ModelFolder, name: str | None
) -> None:
    request = replace(REQUEST, negative_prompt="fog", true_cfg=2.5, guidance=1.0)
    controls = control_inputs(folder, WINDOWS[name]) if name else []
    assert_equal(model, reference, request, controls)
    plain, _ = ours(model, replace(request, negative_prompt="", true_cfg=1.0), controls)
    other, _ = ours(model, replace(request, negative_prompt="rain"), controls)
    away, _ = ours(model, request, controls)
    assert (away - plain).norm() > 0.02 * plain.norm() and (away - other).norm() > 0.002 * plain.norm()


def test_at_another_size_and_guidance(model: FluxModel, reference: FluxTransformer2DModel) -> None:
    assert_equal(model, reference, replace(REQUEST, width=64, height=208, guidance=1.5, steps=7), [])


def test_every_control_matters(model: FluxModel, folder: ModelFolder) -> None:
    """Otherwise the comparisons above could pass with a control left out on both sides."""
    alone, _ = ours(model, REQUEST, [])
    depth, _ = ours(model, REQUEST, control_inputs(folder, WINDOWS["whole"]))
    half, _ = ours(model, REQUEST, control_inputs(folder, WINDOWS["first half"]))
    both, _ = ours(model, REQUEST, control_inputs(folder, WINDOWS["two"]))
    pictures = [alone, depth, half, both]
    for index, left in enumerate(pictures):
        for right in pictures[index + 1 :]:
            assert (left - right).norm() > 0.02 * left.norm()


@pytest.mark.parametrize("strength", [1.0, 0.75, 0.3])
@pytest.mark.parametrize("name", [None, "two with windows"])
def test_from_a_picture(
    model: FluxModel, reference: FluxTransformer2DModel, folder: ModelFolder, name: str | None, strength: float
) -> None:
    request = replace(REQUEST, task="image_to_image", strength=strength, steps=6)
    assert_equal(model, reference, request, control_inputs(folder, WINDOWS[name]) if name else [])


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("name", [None, "whole"])
def test_in_painting(
    model: FluxModel, reference: FluxTransformer2DModel, folder: ModelFolder, name: str | None, strength: float
) -> None:
    request = replace(REQUEST, task="inpaint", strength=strength, steps=6)
    controls = control_inputs(folder, WINDOWS[name]) if name else []
    our_tokens, our_image = ours(model, request, controls, MASK)
    their_tokens, their_image = theirs(model, reference, request, controls, MASK)
    assert (our_tokens - their_tokens).norm() <= 1e-3 * their_tokens.norm()
    assert (np.abs(our_image - their_image)[MASK == 1.0]).max() <= 0.5 / 255.0 + 1e-3
    assert (our_image[MASK == 0.0] == PICTURE[MASK == 0.0] / 255.0).all(), "diffusers sends these through the VAE"
    assert np.abs(our_image - PICTURE / 255.0)[MASK == 1.0].mean() > 0.05
