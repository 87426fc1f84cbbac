"""adaLN before the loop."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor, nn

from backend.flux import modulation
from backend.flux.controls import ControlNetSteering, tabulated
from backend.flux.forward import Conditions, prepare, transformer_velocity
from backend.flux.latents import image_positions
from backend.flux.model import FluxModel
from backend.flux.modulation import ADALN, LookUp, looked_up
from backend.production import Production
from backend.wire import Control, FailureKind, GenerationRequest
from tests.backend.samples import failed, kept_model, made, run

REQUEST = GenerationRequest("looked up", 64, 64, steps=6, model="random-weights", controls=(Control("depth"),))
CALLS = 5


@pytest.fixture
def loaded(production: Production) -> FluxModel:
    made(run(production, REQUEST))
    return kept_model(production)


def conditions(model: FluxModel, prompt: str) -> Conditions:
    text, pooled = model.encode_prompt(prompt)
    return Conditions(text, pooled, image_positions(8, 8), torch.linspace(1.0, 0.2, CALLS), 3.5)


def latents(model: FluxModel) -> Tensor:
    channels = model.transformer.model.proj_out.out_features
    return torch.randn(1, 16, channels, generator=torch.Generator().manual_seed(4))


def adaln(net: nn.Module) -> list[Any]:
    return [module for module in net.modules() if isinstance(module, ADALN)]


@torch.inference_mode()
def test_every_call_is_as_if_computed(loaded: FluxModel) -> None:
    net, x = loaded.transformer.model, latents(loaded)
    prompts = [prepare(net, conditions(loaded, prompt)) for prompt in ("one", "another")]
    wanted = [transformer_velocity(net, x, one, call, []) for one in prompts for call in range(CALLS)]
    with looked_up(net, prompts, loaded.places.adaln) as rows:
        got = [transformer_velocity(net, x, one, call, []) for one in rows for call in range(CALLS)]
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert not torch.equal(wanted[0], wanted[1]) and not torch.equal(wanted[0], wanted[CALLS]), (
        "calls and prompts differ"
    )


@torch.inference_mode()
def test_controlnets_look_up_too_and_share_tables(loaded: FluxModel) -> None:
    net: FluxControlNetModel = next(iter(loaded.nets.values()))
    x = latents(loaded)
    about = conditions(loaded, "one")
    tokens = torch.randn(1, 16, net.controlnet_x_embedder.in_features)
    two = [ControlNetSteering.of(net, tokens, mode, about, [1.0] * CALLS) for mode in (0, 1)]
    wanted = [control.residuals(x, 3) for control in two]
    with ExitStack() as stack:
        got = [control.residuals(x, 3) for control in tabulated(two, stack, loaded.places.adaln)]
        assert all(isinstance(layer.silu, LookUp) and len(layer.silu.table) == 2 * CALLS for layer in adaln(net))
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours is not None and theirs is not None
        for a, b in zip([*ours.double, *ours.single], [*theirs.double, *theirs.single], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_layers_compute_once_a_picture(loaded: FluxModel, production: Production) -> None:
    counts: Counter[str] = Counter()
    nets: list[FluxTransformer2DModel | FluxControlNetModel] = [loaded.transformer.model, *loaded.nets.values()]
    hooks = [
        layer.linear.register_forward_hook(lambda module, inputs, output, key=f"{index}": counts.update([key]))
        for index, layer in enumerate(layer for net in nets for layer in adaln(net))
    ]
    made(run(production, replace(REQUEST, true_cfg=2.0, negative_prompt="grey")))
    for hook in hooks:
        hook.remove()
    assert len(counts) == len(hooks) and set(counts.values()) == {1}


def test_the_layers_are_themselves_again_when_the_loop_is_left(loaded: FluxModel, production: Production) -> None:
    first = made(run(production, REQUEST)).png
    layers = adaln(loaded.transformer.model)
    before = [(layer.silu, layer.linear) for layer in layers]
    asked = iter(range(1000))
    failure = failed(run(production, REQUEST, is_cancelled=lambda: next(asked) > 8))
    assert failure.kind == FailureKind.CANCELLED
    assert [(layer.silu, layer.linear) for layer in layers] == before
    assert made(run(production, REQUEST)).png == first


@torch.inference_mode()
def test_more_calls_than_rows_are_computed_one_by_one(loaded: FluxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    net = loaded.transformer.model
    prompt = prepare(net, conditions(loaded, "one"))
    monkeypatch.setattr(modulation, "ROWS_MAX", CALLS - 1)
    with looked_up(net, [prompt], loaded.places.adaln) as same:
        assert same == [prompt] and not isinstance(adaln(net)[0].silu, LookUp)


@pytest.mark.filterwarnings("ignore:Guards may run slower")  # what torch says of Python 3.13.0
@torch.inference_mode()
def test_compiles_as_one_graph(loaded: FluxModel) -> None:
    net, x = loaded.transformer.model, latents(loaded)
    block: Any = net.transformer_blocks[0]
    prompt = prepare(net, conditions(loaded, "one"))

    def step(image: Tensor, text: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        return block(hidden_states=image, encoder_hidden_states=text, temb=row, image_rotary_emb=prompt.rotary)

    with looked_up(net, [prompt], loaded.places.adaln) as (rows,):
        compiled: Any = torch.compile(step, backend="eager", fullgraph=True)
        image = net.x_embedder(x)
        for call in (0, 4):
            row = rows.modulation[call : call + 1]
            for ours, theirs in zip(compiled(image, prompt.text, row), step(image, prompt.text, row), strict=True):
                torch.testing.assert_close(ours, theirs)
