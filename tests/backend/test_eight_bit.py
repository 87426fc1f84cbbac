"""8-bit products: the device's own against the plain ones, their error, and which layers they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import nn

from backend.flux.eight_bit import (
    FP8,
    INT8,
    EightBitLinear,
    EightBits,
    block_layers,
    eight_bit_layer,
    in_eight_bits,
    multiply,
    own_weights,
    plain_product,
    product_bytes,
    scaled,
)
from backend.flux.lora import LoraInput
from backend.flux.model import FluxModel
from backend.flux.placement import Placement
from backend.flux.places import TRANSFORMER
from backend.models import ModelFolder
from backend.models.sizes import model_sizes
from backend.planning import Machine, Work
from backend.planning.estimate import eight_bit_bytes, peaks, transformer_bytes
from backend.wire import GenerationRequest
from backend.wire.few_steps import FEW_STEPS, HYBRIDS, with_few_steps
from tests.backend.apart import load_apart
from tests.backend.diffusers_reference import REQUEST, control_inputs, ours
from tests.backend.lora_samples import random_ranks, write_lora

BLOCKS = (TRANSFORMER, "blocks")
ERROR_MAX = {FP8: 0.05, INT8: 0.02}
"""Of a layer with normal weights and inputs, relative; measured: 0.037 and 0.009."""


def random_layer(inputs: int = 256, outputs: int = 96) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(inputs, outputs).requires_grad_(False)


@pytest.mark.parametrize("form", [FP8, INT8])
def test_a_layer_errs_as_little_as_its_bits_allow(form: str) -> None:
    layer = random_layer()
    x = torch.randn(2, 40, 256, generator=torch.Generator().manual_seed(2))
    x[0, 3] *= 1000.0  # a token has a scale of its own: an outlier costs no other
    expected, found = layer(x), eight_bit_layer(layer, form)(x)
    for some in (slice(0, 3), slice(4, None)):
        error = float((found[0, some] - expected[0, some]).norm() / expected[0, some].norm())
        assert 0.001 < error < ERROR_MAX[form]


@pytest.mark.parametrize("form", [FP8, INT8])
@pytest.mark.parametrize("rows", [1, 16, 40])
def test_the_devices_product_is_the_plain_one(form: str, rows: int) -> None:
    chance = torch.Generator().manual_seed(3)
    x8, x_scale = scaled(torch.randn(rows, 64, generator=chance), form)
    weight8, weight_scale = scaled(torch.randn(32, 64, generator=chance), form)
    own = multiply(x8, weight8, x_scale, weight_scale, torch.float32)
    plain = plain_product(x8, weight8, x_scale, weight_scale, torch.float32)
    assert torch.equal(own, plain)
    by_hand = (x8.double() @ weight8.double().T) * x_scale[:, None].double() * weight_scale.double()
    torch.testing.assert_close(own.double(), by_hand, rtol=1e-5, atol=1e-5)


def test_nothing_becomes_no_number() -> None:
    for form in (FP8, INT8):
        made = eight_bit_layer(random_layer(), form)
        assert torch.isfinite(made(torch.zeros(1, 20, 256))).all()
        assert torch.isfinite(made(torch.full((1, 20, 256), 1e30))).all()


def test_which_layers(model: FluxModel) -> None:
    names = [name for name, _ in block_layers(model.transformer.model)]
    assert "transformer_blocks.0.attn.to_q" in names and "single_transformer_blocks.1.proj_out" in names
    assert not any("norm" in name or name.startswith(("x_embedder", "proj_out", "context")) for name in names)


def test_the_layers_are_back_also_after_an_error(model: FluxModel) -> None:
    net = model.transformer.model
    before, expected = dict(net.named_modules()), block_layers(net)
    kept = EightBits(model.places.mover)
    with pytest.raises(MemoryError), in_eight_bits(net, INT8, kept):
        inside = {name for name, layer in net.named_modules() if isinstance(layer, EightBitLinear)}
        assert inside == {name for name, _ in expected}
        raise MemoryError
    assert {name: id(layer) for name, layer in net.named_modules()} == {k: id(v) for k, v in before.items()}


def test_a_picture_by_8_bits(model: FluxModel, folder: ModelFolder) -> None:
    control = control_inputs(folder, [("depth", 0.7, 0.0, 1.0)])
    exact, _ = ours(model, REQUEST, control)
    assert "products" not in model.plan()
    near, _ = ours(model, replace(REQUEST, speed="eight_bit"), control)
    assert model.plan()["products"] == INT8
    assert 0.0 < float((near - exact).norm() / exact.norm()) < 0.05
    again, _ = ours(model, REQUEST, control)
    assert torch.equal(exact, again) and "products" not in model.plan()


def test_loras_work_on_top(model: FluxModel, reference: FluxTransformer2DModel, tmp_path: Path) -> None:
    path = tmp_path / "style.safetensors"
    write_lora(path, random_ranks(reference.state_dict(), 5))
    plain, _ = ours(model, replace(REQUEST, speed="eight_bit"), [])
    try:
        with torch.inference_mode():
            model.use_loras([LoraInput(path, 0.8)])
        exact, _ = ours(model, REQUEST, [])
        near, _ = ours(model, replace(REQUEST, speed="eight_bit"), [])
    finally:
        with torch.inference_mode():
            model.use_loras([])
    error = float((near - exact).norm() / exact.norm())
    assert 0.0 < error < 0.05
    assert float((plain - exact).norm() / exact.norm()) > 2 * error, "the LoRA shows"
    after, _ = ours(model, replace(REQUEST, speed="eight_bit"), [])
    assert torch.equal(after, plain)


IN_8_BITS = replace(REQUEST, speed="eight_bit", steps=2)


def picture(model: FluxModel, request: GenerationRequest) -> torch.Tensor:
    return ours(model, request, [])[0]


def there_of(model: FluxModel) -> int:
    """Bytes of the transformer that are on the device, those of 8 bits among them."""
    where = model.places
    tensors = [one for key in (TRANSFORMER, BLOCKS) for one in where._parts[key].tensors()]
    return where.eight_bits.size() + sum(one.nbytes for one in tensors if where.mover.is_here(one))


@pytest.mark.parametrize("placement", [Placement(), Placement("unpacked"), Placement("packed", encoders_leave=True)])
def test_the_weights_they_are_made_of_leave(placement: Placement, model: FluxModel, folder: ModelFolder) -> None:
    """And come again for a picture in full, for which those of 8 bits leave; all the same numbers."""
    wanted = {speed: picture(model, replace(IN_8_BITS, speed=speed)) for speed in ("eight_bit", "exact")}
    mine = load_apart(folder, placement)
    where, net = mine.places, mine.transformer.model
    made, own = product_bytes(net)
    weights = [weight for _, layer in block_layers(net) for weight in own_weights(layer)]
    for speed in ("eight_bit", "exact", "eight_bit", "eight_bit", "exact"):
        found = picture(mine, replace(IN_8_BITS, speed=speed))
        assert torch.equal(found, wanted[speed])
        assert {where.mover.is_here(weight) for weight in weights} == {speed == "exact"}
        assert where.eight_bits.size() == (made if speed == "eight_bit" else 0)
        came = where.mover.came
        assert torch.equal(picture(mine, replace(IN_8_BITS, speed=speed)), found)
        assert where.mover.came - came < 0.1 * own, "all that it needs was there"
    picture(mine, IN_8_BITS)
    mine.prompts.clear()
    with torch.inference_mode():
        mine.encode_prompt("another")
    assert where.eight_bits.is_here == (not placement.encoders_leave), "the transformer makes room for the encoders"


def test_the_plan_counts_what_they_take(folder: ModelFolder) -> None:
    mine, sizes = load_apart(folder), model_sizes(folder)
    assert sizes.shape is not None
    layers = [layer for _, layer in block_layers(mine.transformer.model)]
    assert sizes.shape.products == sum(layer.in_features * layer.out_features for layer in layers)
    picture(mine, IN_8_BITS)
    card = Machine("cuda", "a card", 10**9, 10**9, 10**10, 10**10)
    work = Work(64, 64, calls=2, eight_bit=True)
    exact = transformer_bytes(sizes, work, Placement(), card)
    # A toy is in many bits outside its blocks, where the plan takes a file to be in as many throughout.
    assert 0.85 * there_of(mine) <= eight_bit_bytes(sizes, exact, card) <= 1.2 * there_of(mine)
    in_full = peaks(card, sizes, replace(work, eight_bit=False), Placement())
    found = peaks(card, sizes, work, Placement())
    assert all(found[stage] >= in_full[stage] for stage in ("loading", "text")), "they are made of what was loaded"


def test_streamed_blocks_stay_exact_and_it_is_said(model: FluxModel, folder: ModelFolder) -> None:
    streamed = load_apart(folder, Placement("streamed", encoders_leave=True))
    assert torch.equal(picture(streamed, IN_8_BITS), picture(model, replace(IN_8_BITS, speed="exact")))
    assert streamed.plan()["products"].startswith("exact: ") and not streamed.places.eight_bits.is_here


@pytest.mark.parametrize("name", HYBRIDS)
def test_hybrids_are_few_steps_in_8_bits(name: str) -> None:
    few = FEW_STEPS[HYBRIDS[name]]
    fast = with_few_steps(REQUEST, "some-lora", name)
    assert (fast.steps, fast.speed, fast.loras[0].strength) == (few.steps, "eight_bit", few.strength)
    assert with_few_steps(REQUEST, "some-lora", HYBRIDS[name]).speed == "exact"
    fast.check()
