"""Faults of diffusers' FLUX ControlNet pipelines that ours does not have: each shown there, and right here.

When one of these fails at "theirs", diffusers has mended it: then its row goes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxControlNetImg2ImgPipeline, FluxControlNetPipeline, FluxTransformer2DModel
from diffusers.hooks import FirstBlockCacheConfig
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel, FluxMultiControlNetModel
from PIL import Image

from backend.flux.load_parts import load_part, without_deprecations
from backend.flux.model import FluxModel
from backend.flux.step_cache import StepCache
from backend.models import ModelFolder
from backend.wire import CONTROL_KINDS, Control
from tests.backend.diffusers_reference import PICTURE, REQUEST, WINDOWS, control_inputs, ours, pipeline_parts
from tests.backend.samples import make_maps
from tools.random_model import CONTROLNET, TEXT_TOKENS, XLABS, randomised

BASE: dict[str, Any] = {
    "prompt": REQUEST.prompt, "width": REQUEST.width, "height": REQUEST.height, "num_inference_steps": 2,
    "max_sequence_length": TEXT_TOKENS, "output_type": "latent", "return_dict": False,
}  # fmt: skip
HINT = Image.fromarray(PICTURE)


@pytest.fixture
def union(model: FluxModel, folder: ModelFolder) -> FluxControlNetModel:
    return model.controlnet(folder.controlnets[0].folder)


@pytest.fixture(scope="module")
def plain_net() -> FluxControlNetModel:
    """One without modes."""
    with without_deprecations():
        return randomised(FluxControlNetModel(**{**CONTROLNET, "num_mode": None}), 9)


def paint(kind: type, model: FluxModel, reference: FluxTransformer2DModel, net: Any, **given: Any) -> torch.Tensor:
    pipeline = kind(**pipeline_parts(model, reference), controlnet=net)
    pipeline.set_progress_bar_config(disable=True)
    with torch.inference_mode():
        return pipeline(**{**BASE, "generator": torch.Generator().manual_seed(1), **given})[0]


@contextmanager
def counted(net: FluxControlNetModel) -> Iterator[list[int]]:
    """Counts the calls of a net's first block."""
    calls: list[int] = []
    hook = net.transformer_blocks[0].register_forward_hook(lambda *_: calls.append(1))
    try:
        yield calls
    finally:
        hook.remove()


def first_block_cached(reference: FluxTransformer2DModel) -> FluxTransformer2DModel:
    """With diffusers' first block cache, which leaves out the other blocks whenever it may."""
    cached = copy.deepcopy(reference)
    cached.enable_cache(FirstBlockCacheConfig(threshold=1e9))
    return cached


def test_b1_a_step_cache_counts_controls_twice(reference: Any) -> None:
    """A loop of ours with a control is in test_step_cache."""
    net = first_block_cached(reference)
    width = reference.inner_dim
    chance = torch.Generator().manual_seed(3)
    given: dict[str, Any] = {
        "hidden_states": torch.randn(1, 48, 64, generator=chance),
        "encoder_hidden_states": torch.randn(1, 8, 64, generator=chance),
        "pooled_projections": torch.randn(1, 64, generator=chance),
        "timestep": torch.tensor([0.5]), "guidance": torch.tensor([3.5]),
        "img_ids": torch.zeros(48, 3), "txt_ids": torch.zeros(8, 3), "return_dict": False,
    }  # fmt: skip
    errors = []
    for control in (None, [torch.randn(1, 48, width, generator=chance)] * 2):
        with torch.inference_mode(), net.cache_context(f"with {control is not None}"):
            whole, cached = (net(**given, controlnet_block_samples=control)[0] for _ in range(2))
        errors.append(float((cached - whole).norm() / whole.norm()))
    assert errors[0] < 1e-3, "the very same inputs give the very same from their cache, without a control"
    assert errors[1] > 0.05, "theirs adds the control to what holds it already"
    # Ours is around the whole model, so that a call that is left out is what the model said, controls and all.
    said = torch.randn(1, 48, 64, generator=chance)
    cache = StepCache(1e9, [0.6, 0.5, 0.4], [False, False, True], [()] * 3)
    asked = cache.around(lambda x, call: said)
    assert all(torch.equal(asked(torch.full_like(said, call), call), said) for call in range(3))
    assert cache.left_out == [2]


def test_b2_a_step_cache_does_not_run_in_their_pipeline(
    model: FluxModel, reference: Any, union: Any, folder: Any
) -> None:
    with pytest.raises(ValueError, match="No cache context"):
        paint(FluxControlNetPipeline, model, first_block_cached(reference), union, control_image=HINT, control_mode=2)
    tokens, _ = ours(model, replace(REQUEST, steps=14, speed="cached"), control_inputs(folder, WINDOWS["whole"]))
    assert torch.isfinite(tokens).all()


def test_b3_one_strength_for_several_controls(model: FluxModel, reference: Any, union: Any, folder: Any) -> None:
    nets = FluxMultiControlNetModel([union, union])
    with pytest.raises(TypeError, match="not iterable"):
        paint(FluxControlNetPipeline, model, reference, nets, control_image=[HINT, HINT], control_mode=[2, 7])
    tokens, _ = ours(model, REQUEST, control_inputs(folder, WINDOWS["two"]))
    assert torch.isfinite(tokens).all()


def test_b4_the_second_control_of_a_union_net_is_forgotten(
    model: FluxModel, reference: Any, union: Any, folder: Any
) -> None:
    nets = FluxMultiControlNetModel([union])
    other = Image.fromarray(255 - PICTURE)
    given: dict[str, Any] = {"control_mode": [2, 7], "controlnet_conditioning_scale": [0.8, 0.8]}
    one = paint(FluxControlNetPipeline, model, reference, nets, control_image=[HINT, HINT], **given)
    two = paint(FluxControlNetPipeline, model, reference, nets, control_image=[HINT, other], **given)
    assert torch.equal(one, two), "theirs never looks at the second picture"
    depth, _ = ours(model, REQUEST, control_inputs(folder, WINDOWS["whole"]))
    both, _ = ours(model, REQUEST, control_inputs(folder, WINDOWS["two"]))
    assert (depth - both).norm() > 0.02 * depth.norm()


def test_b5_a_control_outside_its_window_costs_nothing(
    model: FluxModel, reference: Any, union: Any, folder: Any
) -> None:
    with counted(union) as calls:
        given: dict[str, Any] = {"control_image": HINT, "control_mode": 2, "control_guidance_end": 0.5}
        paint(FluxControlNetPipeline, model, reference, union, num_inference_steps=4, **given)
    assert len(calls) == 4, "theirs runs the net for nothing in the other two"
    with counted(union) as calls:
        ours(model, replace(REQUEST, steps=4), control_inputs(folder, [("depth", 0.7, 0.0, 0.5)]))
    assert len(calls) == 2


def test_b6_nets_without_modes_from_a_picture(model: FluxModel, reference: Any, plain_net: Any, folder: Any) -> None:
    nets = FluxMultiControlNetModel([plain_net])
    with pytest.raises(UnboundLocalError):
        paint(
            FluxControlNetImg2ImgPipeline, model, reference, nets, image=HINT, control_image=[HINT], control_mode=None,
            controlnet_conditioning_scale=[0.7],
        )  # fmt: skip
    control = replace(control_inputs(folder, WINDOWS["whole"])[0], mode=None)
    model.nets[Path("plain")] = plain_net
    request = replace(REQUEST, task="image_to_image", strength=0.5)
    without, _ = ours(model, request, [])
    tokens, _ = ours(model, request, [replace(control, folder=Path("plain"))])
    del model.nets[Path("plain")]
    assert torch.isfinite(tokens).all() and (tokens - without).norm() > 0.01 * without.norm()


def test_b7_two_pictures_from_a_picture_with_a_union_net(
    model: FluxModel, reference: Any, union: Any, folder: Any
) -> None:
    given: dict[str, Any] = {"image": HINT, "control_image": HINT, "control_mode": 2, "num_images_per_prompt": 2}
    with pytest.raises(RuntimeError, match=r"[Ss]izes of tensors must match"):
        paint(FluxControlNetImg2ImgPipeline, model, reference, union, **given)
    request, controls = replace(REQUEST, task="image_to_image"), control_inputs(folder, WINDOWS["whole"])
    first, second = (ours(model, replace(request, seed=seed), controls)[0] for seed in (1, 2))
    assert (first - second).norm() > 0.02 * first.norm()


def test_b8_two_pictures_of_one_encoded_prompt(model: FluxModel, reference: Any, union: Any, folder: Any) -> None:
    with torch.inference_mode():
        text, pooled = model.encode_prompt(REQUEST.prompt)
    given: dict[str, Any] = {"control_image": HINT, "control_mode": 2, "num_images_per_prompt": 2}
    with pytest.raises(RuntimeError, match=r"[Ss]izes of tensors must match"):
        paint(
            FluxControlNetPipeline, model, reference, union, prompt=None, prompt_embeds=text,
            pooled_prompt_embeds=pooled, **given,
        )  # fmt: skip
    controls = control_inputs(folder, WINDOWS["whole"])
    first, second = (ours(model, replace(REQUEST, seed=seed), controls)[0] for seed in (1, 2))
    assert torch.isfinite(first).all() and (first - second).norm() > 0.02 * first.norm()


def test_b9_a_net_of_another_precision(model: FluxModel, reference: Any, union: Any, folder: Any) -> None:
    half = copy.deepcopy(union).to(torch.float16)
    with pytest.raises(RuntimeError, match=r"same dtype|expected .* but found|mat1 and mat2"):
        paint(FluxControlNetPipeline, model, reference, half, control_image=HINT, control_mode=2)
    path = folder.controlnets[0].folder
    assert load_part(FluxControlNetModel, path, model.device, model.dtype).dtype == model.dtype, "the file is float16"


def test_b10_settings_come_from_the_first_net_alone(
    model: FluxModel, reference: Any, plain_net: Any, folder: Any
) -> None:
    """Two nets, of which only the second was distilled with guidance: theirs asks the first whether to give it."""
    with without_deprecations():
        deaf = randomised(FluxControlNetModel(**{**CONTROLNET, "num_mode": None, "guidance_embeds": False}), 10)
    nets = FluxMultiControlNetModel([deaf, plain_net])
    given: dict[str, Any] = {"control_image": [HINT, HINT], "controlnet_conditioning_scale": [0.5, 0.5]}
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        paint(FluxControlNetPipeline, model, reference, nets, control_mode=[None, None], **given)
    control = replace(control_inputs(folder, WINDOWS["whole"])[0], mode=None)
    places = [Path("deaf"), Path("plain")]
    model.nets |= dict(zip(places, (deaf, plain_net), strict=True))
    one, both = (
        ours(model, REQUEST, [replace(control, folder=place) for place in wanted])[0] for wanted in (places[:1], places)
    )
    for place in places:
        del model.nets[place]
    assert torch.isfinite(both).all() and (one - both).norm() > 0.01 * one.norm()


def test_b10_nets_that_read_pixels_do_not_mix_with_others(
    model: FluxModel, reference: Any, plain_net: Any, folder: Any
) -> None:
    """Theirs gives all nets what the first one reads. Ours is held against the sum of both in test_controlnets."""
    with without_deprecations():
        pixel_net = randomised(FluxControlNetModel(**XLABS), 11)
    nets = FluxMultiControlNetModel([plain_net, pixel_net])
    given: dict[str, Any] = {"control_image": [HINT, HINT], "controlnet_conditioning_scale": [0.5, 0.5]}
    with pytest.raises(RuntimeError, match=r"expected input.* channels"):
        paint(FluxControlNetPipeline, model, reference, nets, control_mode=[None, None], **given)
    control = replace(control_inputs(folder, WINDOWS["whole"])[0], mode=None)
    places = [Path("plain"), Path("pixels")]
    model.nets |= dict(zip(places, (plain_net, pixel_net), strict=True))
    tokens, _ = ours(model, REQUEST, [replace(control, folder=place) for place in places])
    for place in places:
        del model.nets[place]
    assert torch.isfinite(tokens).all()


@pytest.mark.parametrize("kinds", [CONTROL_KINDS[:4], CONTROL_KINDS[4:8], CONTROL_KINDS[8:]])
def test_requests_with_every_control_run(production: Any, kinds: tuple[str, ...]) -> None:
    from tests.backend.samples import made, run

    controls = tuple(Control(kind, 0.2 + 0.1 * place, 0.0, 0.5) for place, kind in enumerate(kinds))
    request = replace(REQUEST, controls=controls, steps=2)
    assert made(run(production, request, make_maps(REQUEST.width, REQUEST.height))).png
