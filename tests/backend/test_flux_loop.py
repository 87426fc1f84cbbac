"""The parts of the loop: schedule, packing, control windows, what is made once, previews."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from hypothesis import given
from hypothesis import strategies as st

from backend.flux import controls as controls_module
from backend.flux.controls import step_weights, summed_residuals
from backend.flux.forward import Residuals
from backend.flux.latents import image_positions, noise, pack, unpack
from backend.flux.preview import fit_latent_colours, preview
from backend.flux.samplers import SAMPLERS, euler
from backend.flux.schedules import Shift, simple
from backend.production import Production
from backend.wire import Control, GenerationRequest
from tests.backend.samples import kept_model, made, run


@pytest.mark.parametrize("steps", [1, 4, 28])
@pytest.mark.parametrize("tokens", [16, 256, 4096, 9216])
@pytest.mark.parametrize(
    "config",
    [
        {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15},
        {"use_dynamic_shifting": True, "base_shift": 0.3, "max_shift": 2.0, "max_image_seq_len": 8192},
        {"use_dynamic_shifting": False, "shift": 3.0},
        {"use_dynamic_shifting": False, "shift": 1.0},
    ],
)
def test_the_schedule_is_diffusers(steps: int, tokens: int, config: dict[str, Any]) -> None:
    scheduler: Any = FlowMatchEulerDiscreteScheduler.from_config(config)
    maximum = config.get("max_image_seq_len", 4096)
    mu = calculate_shift(tokens, 256, maximum, scheduler.config["base_shift"], scheduler.config["max_shift"])
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    shift = Shift(
        config["use_dynamic_shifting"],
        max_tokens=maximum,
        base_shift=scheduler.config["base_shift"],
        max_shift=scheduler.config["max_shift"],
        fixed=config.get("shift", 1.0),
    )
    ours = simple(steps, tokens, shift)
    torch.testing.assert_close(ours, scheduler.sigmas, rtol=1e-6, atol=1e-7)
    assert ours[0] == 1.0 and ours[-1] == 0.0 and (ours.diff() < 0).all()


def test_packing_is_diffusers() -> None:
    latents = noise(0, 16, 6, 10)
    tokens = pack(latents)
    assert torch.equal(tokens, FluxPipeline._pack_latents(latents, 1, 16, 6, 10))
    assert torch.equal(unpack(tokens, 6, 10), latents)
    wanted = FluxPipeline._prepare_latent_image_ids(1, 3, 5, torch.device("cpu"), torch.float32)
    assert torch.equal(image_positions(6, 10), wanted)


def no_noise(step: int) -> torch.Tensor:
    raise AssertionError("this sampler adds no noise")


def test_euler_follows_a_straight_line_to_its_end() -> None:
    start, end = torch.randn(1, 8, 4), torch.randn(1, 8, 4)
    seen: list[torch.Tensor] = []
    sigmas = simple(5, 256, Shift())
    final = euler(lambda x, call: start - end, start, sigmas, lambda step, predicted: seen.append(predicted), no_noise)
    torch.testing.assert_close(final, end)
    assert len(seen) == 5
    for predicted in seen:
        torch.testing.assert_close(predicted, end)


def test_a_sampler_declares_each_call_s_level() -> None:
    sigmas = simple(4, 256, Shift())
    calls: list[int] = []

    def model(x: torch.Tensor, call: int) -> torch.Tensor:
        calls.append(call)
        return x

    for name, sampler in SAMPLERS.items():
        calls.clear()
        sampler.run(model, torch.ones(1, 2, 2), sigmas, lambda step, predicted: None, lambda step: torch.zeros(1, 2, 2))
        declared = sampler.calls(sigmas)
        assert len(declared.steps) == len(declared.levels)
        if name == "adaptive":  # it declares those that it may make
            assert set(calls) <= set(range(len(declared.levels))) and len(calls) <= 4
        else:
            assert calls == list(range(len(declared.levels)))


@pytest.mark.parametrize(
    ("window", "steps", "wanted"),
    [
        ((0.0, 1.0), 4, [1, 1, 1, 1]),
        ((0.0, 0.5), 4, [1, 1, 0, 0]),
        ((0.25, 0.75), 4, [0, 1, 1, 0]),
        ((0.3, 1.0), 4, [0, 0, 1, 1]),
        ((0.0, 0.8), 1, [1]),
        ((0.9, 0.95), 4, [0, 0, 0, 1]),
        ((0.0, 0.01), 4, [1, 0, 0, 0]),
    ],
)
def test_windows(window: tuple[float, float], steps: int, wanted: list[int]) -> None:
    assert step_weights(0.5, *window, steps) == [0.5 * inside for inside in wanted]


@given(st.integers(1, 50), st.floats(0, 1), st.floats(0, 1))
def test_a_control_acts_somewhere(steps: int, start: float, end: float) -> None:
    if start < end:
        assert any(step_weights(1.0, start, end, steps))


def test_residuals_add_up_with_and_without_parts() -> None:
    class Fixed:
        def __init__(self, residuals: Residuals | None) -> None:
            self.answer = residuals

        def residuals(self, latents: torch.Tensor, call: int) -> Residuals | None:
            return self.answer

    one = torch.ones(1, 2, 2)
    double, both, more = Residuals([one], []), Residuals([one * 2], [one * 3]), Residuals([one * 4], [one * 5])
    totals = summed_residuals([Fixed(double), Fixed(None), Fixed(both), Fixed(more)], one, 0)
    assert [(len(total.double), len(total.single)) for total in totals] == [(1, 0), (1, 1)]
    assert totals[1].double[0][0, 0, 0] == 6.0 and totals[1].single[0][0, 0, 0] == 8.0, "of one kind: added up"
    assert summed_residuals([Fixed(None)], one, 0) == []
    assert summed_residuals([], one, 0) == []


def test_a_net_s_residuals_serve_runs_of_blocks_or_take_turns() -> None:
    parts = [torch.full((1, 1, 1), float(value)) for value in range(3)]
    runs, turns = Residuals(parts[:2], parts), Residuals(parts[:2], [], double_repeats=True)
    assert [int(found) for index in range(5) if (found := runs.after_double(index, 5)) is not None] == [0, 0, 0, 1, 1]
    assert [int(found) for index in range(7) if (found := runs.after_single(index, 7)) is not None] == [
        0, 0, 0, 1, 1, 1, 2,
    ]  # fmt: skip
    assert [int(found) for index in range(5) if (found := turns.after_double(index, 5)) is not None] == [0, 1, 0, 1, 0]
    assert turns.after_single(0, 7) is None
    assert not runs.fits(Residuals(parts[:2], parts, double_repeats=True))


def test_nothing_is_done_twice(production: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    """ControlNets run in the steps they have a weight in; what does not depend on the latents is made once."""
    request = GenerationRequest(
        "counted",
        64,
        64,
        steps=8,
        model="random-weights",
        controls=(Control("depth", end=0.25), Control("line", start=0.5), Control("normal", 0.0)),
    )
    made(run(production, request))
    model = kept_model(production)
    counts: Counter[str] = Counter()
    parts: dict[str, torch.nn.Module] = {
        "clip": model.text.clip,
        "t5": model.text.t5,
        "encoder": model.vae.encoder,
        "text": model.transformer.model.context_embedder,
        "modulation": model.transformer.model.time_text_embed,
        "places": model.transformer.model.pos_embed,
        "blocks": model.transformer.model.transformer_blocks[0],
    }
    hooks = [
        part.register_forward_hook(lambda module, inputs, output, name=name: counts.update([name]))
        for name, part in parts.items()
    ]
    real = controls_module.controlnet_residuals

    def counted(*args: Any) -> Residuals:
        counts["controlnet"] += 1
        return real(*args)

    monkeypatch.setattr(controls_module, "controlnet_residuals", counted)
    made(run(production, request))
    for hook in hooks:
        hook.remove()
    assert counts == {"text": 1, "modulation": 1, "places": 1, "blocks": 8, "controlnet": 2 + 4}
    # The prompt and the controls' pictures were known: neither a text encoder nor the VAE's encoder ran.


def test_a_seed_means_one_noise() -> None:
    assert torch.equal(noise(7, 16, 4, 4), noise(7, 16, 4, 4))
    assert not torch.equal(noise(7, 16, 4, 4), noise(8, 16, 4, 4))
    assert noise(2**32 - 1, 16, 4, 4).device.type == "cpu"


class LinearVae:
    """A VAE whose latents are averages of 8 x 8 pixels through a fixed matrix, so that one linear map undoes it."""

    device, dtype = torch.device("cpu"), torch.float32
    config = {"shift_factor": 0.1, "scaling_factor": 0.4}  # noqa: RUF012

    def __init__(self) -> None:
        self.matrix = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))

    def encode(self, image: torch.Tensor, return_dict: bool) -> tuple[LinearVae]:
        self.latents = torch.einsum("cd,bdhw->bchw", self.matrix, torch.nn.functional.avg_pool2d(image, 8))
        return (self,)

    def mode(self) -> torch.Tensor:
        return self.latents


def test_a_preview_has_the_colours_of_the_picture() -> None:
    from backend.flux.vae import encode

    vae: Any = LinearVae()
    image = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(1))
    pixels = image.repeat_interleave(8, 2).repeat_interleave(8, 3)
    shown = preview(pack(encode(vae, pixels * 2 - 1)), 8, 12, fit_latent_colours(vae))
    assert shown.shape == (8, 12, 3)
    assert np.abs(shown / 255.0 - image[0].permute(1, 2, 0).numpy()).max() < 0.03
