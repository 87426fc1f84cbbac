"""Calls that are left out: which, by how much the picture changes, and that controls are not counted twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from backend.flux.denoise import Negative
from backend.flux.forward import Prepared
from backend.flux.journal import Journal, Known
from backend.flux.model import FluxModel
from backend.flux.picture_job import PictureJob
from backend.flux.samplers import SAMPLERS, Calls
from backend.flux.step_cache import FIRST, IN_A_ROW, LAST, StepCache
from backend.models import ModelFolder
from backend.production import Production
from backend.wire import Control, GenerationRequest
from backend.wire.model_names import shipped_models
from backend.wire.request import Stage
from tests.backend.diffusers_reference import REQUEST, control_inputs, ours
from tests.backend.samples import made, make_maps, pixels, run

STEPS = 24
SIGMAS = torch.linspace(1.0, 0.0, STEPS + 1)
PICTURE = torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(1))


def bent(x: Tensor, level: float) -> Tensor:
    """A velocity towards PICTURE whose way bends."""
    return (x - PICTURE) / max(level, 0.05) * (1.0 + 0.1 * level * level)


def looped(sampler: str, cache: Callable[[Calls], StepCache] | None) -> tuple[Tensor, list[int], StepCache | None]:
    """The latents, the calls that were made, and the cache."""
    one = SAMPLERS[sampler]
    calls = one.calls(SIGMAS)
    made_calls: list[int] = []

    def model(x: Tensor, call: int) -> Tensor:
        made_calls.append(call)
        return bent(x, float(calls.levels[call]))

    used = cache(calls) if cache is not None else None
    asked = used.around(model) if used is not None else model

    def noise(step: int) -> Tensor:
        return torch.randn(PICTURE.shape, generator=torch.Generator().manual_seed(step))

    start = torch.randn(PICTURE.shape, generator=torch.Generator().manual_seed(2))
    return one.run(asked, start, SIGMAS, lambda step, tokens: None, noise), made_calls, used


def always_same(calls: Calls, sampler: str = "euler", threshold: float = 0.1) -> StepCache:
    return StepCache.of(threshold, calls, [()] * len(calls.steps), sampler == "adaptive")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_stays_near_to_itself(sampler: str) -> None:
    exact, all_calls, _ = looped(sampler, None)
    near, calls, cache = looped(sampler, lambda declared: always_same(declared, sampler))
    assert cache is not None
    error = float((near - exact).norm() / exact.norm())
    assert error < 0.05
    if sampler == "adaptive":
        assert not cache.left_out and torch.equal(near, exact), "it leaves out enough by itself"
    elif sampler in ("lcm", "euler_ancestral"):
        assert len(calls) + len(cache.left_out) == len(all_calls)
    else:
        assert cache.left_out and len(calls) + len(cache.left_out) == len(all_calls)


def test_the_ends_are_always_made_and_no_row_is_long() -> None:
    _, calls, cache = looped("euler", lambda declared: always_same(declared, threshold=100.0))
    assert cache is not None
    assert calls[:FIRST] == list(range(FIRST)) and calls[-LAST:] == list(range(STEPS - LAST, STEPS))
    longest = max(later - earlier - 1 for earlier, later in pairwise(calls))
    assert longest == IN_A_ROW


def test_a_smaller_threshold_leaves_out_less_and_errs_less() -> None:
    exact, _, _ = looped("euler", None)
    told = []
    for threshold in (0.0, 0.02, 0.2):
        tokens, _, cache = looped("euler", lambda calls, limit=threshold: always_same(calls, threshold=limit))
        assert cache is not None
        told.append((len(cache.left_out), float((tokens - exact).norm())))
    assert told[0] == (0, 0.0)
    assert told == sorted(told) and told[1][0] < told[2][0]


def test_with_few_steps_none_is_left_out() -> None:
    calls = SAMPLERS["euler"].calls(torch.linspace(1.0, 0.0, 9))
    assert not any(always_same(calls).may_leave_out)


def test_where_a_control_enters_or_leaves_the_model_is_asked() -> None:
    regimes = [(0.0,)] * 10 + [(0.8,)] * 8 + [(0.0,)] * 6
    _, calls, cache = looped("euler", lambda declared: StepCache.of(100.0, declared, regimes))
    assert cache is not None and cache.left_out
    # Two calls in a row: what changed from the one to the other is known again only then.
    assert {10, 11, 18, 19} <= set(calls)
    assert any(11 < call < 18 for call in cache.left_out)


def test_a_loop_that_broke_off_leaves_out_the_same() -> None:
    calls = SAMPLERS["euler"].calls(SIGMAS)
    journal = Journal()

    def model(x: Tensor, call: int) -> Tensor:
        return bent(x, float(calls.levels[call]))

    def breaks(x: Tensor, call: int) -> Tensor:
        if call >= 13:
            raise MemoryError
        return model(x, call)

    def loop(asked: Callable[[Tensor, int], Tensor], cache: StepCache) -> Tensor:
        start = torch.ones_like(PICTURE)
        given = cache.around(asked)
        return SAMPLERS["euler"].run(given, start, SIGMAS, lambda step, tokens: None, lambda step: start)

    whole, first, second = (always_same(calls) for _ in range(3))
    expected = loop(Journal().kept(model), whole)
    with pytest.raises(MemoryError):
        loop(journal.kept(breaks), first)
    assert torch.equal(loop(journal.kept(model), second), expected)
    assert second.left_out == whole.left_out and whole.left_out


@pytest.fixture(scope="module")
def shipped() -> Production:
    """The sample model: the way of random weights bends too much for any call to be left out."""
    return Production(shipped_models(), "cpu")


def test_the_engine_leaves_out_calls_with_a_control(shipped: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    caches: list[StepCache] = []
    around = StepCache.around

    def noted(cache: StepCache, asked: Any) -> Any:
        caches.append(cache)
        return around(cache, asked)

    monkeypatch.setattr(StepCache, "around", noted)
    request = GenerationRequest(
        "a red cube", 128, 128, seed=3, steps=STEPS, controls=(Control("depth", 0.9, 0.0, 0.5),)
    )
    maps = make_maps(128, 128)
    exact = made(run(shipped, request, maps))
    assert not caches
    near = made(run(shipped, replace(request, speed="cached"), maps))
    bare = made(run(shipped, replace(request, controls=()), maps))
    assert len(caches[0].left_out) > STEPS // 6
    assert caches[0].regimes[:12] == [(0.9,)] * 12 and caches[0].regimes[12:] == [(0.0,)] * 12
    first, second, third = (pixels(result.png).astype(float) for result in (exact, near, bare))
    # What is left out shows little beside what the control does: a control counted twice would show as much as one.
    assert 0.0 < ((first - second) ** 2).mean() < 0.1 * ((first - third) ** 2).mean()
    assert near.plan["step_cache"] == f"{len(caches[0].left_out)} of {STEPS} calls left out"
    assert "step_cache" not in exact.plan and "step_cache" not in bare.plan
    assert near.request.speed == "cached" and near.request.digest() != exact.request.digest()


def test_where_no_call_can_be_left_out_it_is_said_why(shipped: Production) -> None:
    few = GenerationRequest("a red cube", 64, 64, steps=6, speed="cached")
    result = made(run(shipped, few))
    assert result.plan["step_cache"] == "none: there are fewer than 12" and "note" not in result.plan
    result = made(run(shipped, replace(few, steps=14, sampler="adaptive")))
    assert "adaptive sampler decides" in result.plan["step_cache"]
    assert result.plan["note"].startswith("The adaptive sampler leaves out steps by itself")
    assert not made(run(shipped, replace(few, sampler="adaptive", speed="exact"))).plan.get("note")


def test_each_pass_of_a_picture_tells_its_own(shipped: Production) -> None:
    request = GenerationRequest("a red cube", 128, 128, speed="cached", stages=(Stage(0.5, 16), Stage(1.0, 28, 0.5)))
    told = made(run(shipped, request)).plan["step_cache"].split("; ")
    assert len(told) == 2 and told[0].endswith("of 16 calls left out")
    assert len(made(run(shipped, replace(request, seed=2))).plan["step_cache"].split("; ")) == 2


def test_few_steps_are_the_same_by_the_cached_speed(model: FluxModel, folder: ModelFolder) -> None:
    control = control_inputs(folder, [("depth", 0.7, 0.0, 0.5)])
    exact, near = (ours(model, replace(REQUEST, speed=speed), control)[0] for speed in ("exact", "cached"))
    assert torch.equal(exact, near)


def test_true_cfg_in_some_of_the_steps(model: FluxModel) -> None:
    """Its second pass is a pass of the transformer: counted. Steps 0 and 1 of 8 are the first quarter."""
    request = replace(REQUEST, steps=8, true_cfg=3.0, negative_prompt="a blue ball")
    counts: list[int] = []
    hook = model.transformer.model.transformer_blocks[0].register_forward_hook(lambda *_: counts.append(1))
    try:
        whole, _ = ours(model, request, [])
        assert len(counts) == 16
        counts.clear()
        half, _ = ours(model, replace(request, speed="short_cfg"), [])
        assert len(counts) == 12
    finally:
        hook.remove()
    assert float((half - whole).norm() / whole.norm()) > 0.0


def test_true_cfg_takes_its_pass_where_a_control_comes_or_goes(model: FluxModel, folder: ModelFolder) -> None:
    request = replace(REQUEST, steps=12, true_cfg=3.0, negative_prompt="a blue ball", speed="short_cfg")
    job = PictureJob(model, request, control_inputs(folder, [("depth", 0.7, 0.0, 0.7)]))
    with torch.inference_mode():
        job.read_text()
        job.read_control(job.controls[0])
        due = job._second_passes()
    assert due is not None
    # The first three, each third from there, and the step in which the control is over.
    assert [step for step, is_due in enumerate(due) if is_due] == [0, 1, 2, 3, 6, 8, 9]
    assert PictureJob(model, replace(request, speed="exact"), [])._second_passes() is None


def test_what_a_step_cache_leaves_out_makes_the_second_pass_due_later() -> None:
    nothing = torch.zeros(1)
    prepared = Prepared(nothing, (nothing, nothing), nothing)
    negative, known = Negative(prepared, 2.0, [True, True, False, True, False, False]), Known(1, nothing)
    assert negative.is_due(0, None) and not negative.is_due(2, known)
    assert negative.is_due(3, known) and negative.is_due(4, known), "call 3 was left out"
    assert not negative.is_due(4, Known(3, nothing))


def test_a_stand_in_is_nearer_than_no_second_pass(shipped: Production) -> None:
    request = GenerationRequest("a red cube", 128, 128, seed=2, steps=16, true_cfg=3.0, negative_prompt="a grey blur")
    exact, near, bare = (
        pixels(made(run(shipped, one)).png).astype(float)
        for one in (request, replace(request, speed="short_cfg"), replace(request, true_cfg=1.0, negative_prompt=""))
    )
    assert 0.0 < ((exact - near) ** 2).mean() < 0.01 * ((exact - bare) ** 2).mean()
