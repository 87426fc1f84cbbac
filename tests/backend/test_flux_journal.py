"""A loop that broke off goes on from its last finished call, with the same pixels, for each sampler."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.flux import denoise as loop
from backend.flux.journal import Journal
from backend.flux.model import FluxModel
from backend.flux.picture_job import ControlInput, PictureJob
from backend.flux.samplers import SAMPLERS
from backend.models import ModelFolder
from tests.backend.diffusers_reference import MASK, PICTURE, REQUEST, control_inputs

STEPS = 6
WANTED = replace(REQUEST, steps=STEPS, negative_prompt="fog", true_cfg=2.0)


class Calls:
    """The transformer, counted; breaks off at the call of this number from 0."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made, self.broken_at = 0, -1
        inner = loop.transformer_velocity

        def velocity(*arguments: object) -> torch.Tensor:
            if self.made == self.broken_at:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            self.made += 1
            return inner(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(loop, "transformer_velocity", velocity)


def begun(
    model: FluxModel, sampler: str, controls: list[ControlInput], journal: Journal, speed: str = "exact"
) -> PictureJob:
    request = replace(WANTED, sampler=sampler, task="inpaint", strength=0.9, speed=speed)
    job = PictureJob(model, request, controls, journal=journal)
    job.read_text()
    job.read_source(PICTURE, MASK)
    for control in controls:
        job.read_control(control)
    return job


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_loop_goes_on_where_it_broke_off(
    sampler: str, model: FluxModel, folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    controls = control_inputs(folder, [("depth", 0.7, 0.0, 0.75)])
    calls, told = Calls(monkeypatch), list[int]()
    with torch.inference_mode():
        whole = begun(model, sampler, controls, Journal())
        whole.denoise(lambda step, tokens: told.append(step))
        steps, made = list(told), calls.made
        told.clear()
        calls.made, calls.broken_at = 0, made // 2
        journal = Journal()
        with pytest.raises(torch.OutOfMemoryError):
            begun(model, sampler, controls, journal).denoise(lambda step, tokens: told.append(step))
        assert len(journal.velocities) == made // 4, "two passes a call, for the prompt and away from the other"
        calls.broken_at = -1
        again = begun(model, sampler, controls, journal)
        again.denoise(lambda step, tokens: told.append(step))
        assert torch.equal(again.tokens, whole.tokens)
        np.testing.assert_array_equal(again.decode(), whole.decode())
    # A call that broke off half way is made again: no more than that.
    assert calls.made == made + made // 2 % 2
    assert told == steps, "each step is told once"
    assert len(journal.velocities) == made // 2


@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_also_where_true_cfg_takes_its_second_pass_now_and_then(
    sampler: str, model: FluxModel, folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it breaks off: what stands in for a pass is that of the loop before."""
    controls = control_inputs(folder, [("depth", 0.7, 0.0, 0.75)])
    calls = Calls(monkeypatch)
    with torch.inference_mode():
        whole = begun(model, sampler, controls, Journal(), "short_cfg")
        whole.denoise(lambda step, tokens: None)
        made = calls.made
        for place in range(made):
            calls.made, calls.broken_at, journal = 0, place, Journal()
            with pytest.raises(torch.OutOfMemoryError):
                begun(model, sampler, controls, journal, "short_cfg").denoise(lambda step, tokens: None)
            calls.broken_at = -1
            again = begun(model, sampler, controls, journal, "short_cfg")
            again.denoise(lambda step, tokens: None)
            assert torch.equal(again.tokens, whole.tokens)
