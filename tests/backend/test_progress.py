"""How far a run is and how long it still takes: the arithmetic, with a clock of our own, and what is learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.production import Production
from backend.production.forecast import SHARES, TOLD_MAX, Expected, Forecast, unlearned
from backend.production.passes import passes_of
from backend.production.stage_times import Loaded, RunClass, StageTimes
from backend.wire import Control, GenerationRequest, Progress, Stage
from tests.backend.samples import made, run

REQUEST = GenerationRequest("a red cube", 1024, 1024, steps=10, model="m", controls=(Control("depth"),))
SECONDS = {"loading": 20.0, "text": 2.0, "control": 3.0, "denoising": 40.0, "decoding": 4.0, "saving": 1.0}
COLD, WARM = Loaded(False, False, 1), Loaded(True, True, 1)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def learned() -> list[Expected]:
    return [Expected(stage, seconds) for stage, seconds in SECONDS.items()]


def test_a_run_that_goes_as_expected_is_told_to_the_second() -> None:
    clock = Clock()
    forecast = Forecast(learned(), clock)
    whole, fractions = sum(SECONDS.values()), []
    for stage, seconds in SECONDS.items():
        forecast.begin(stage)
        for step in range(5):
            fraction, left = forecast.at(step, 4)
            assert left == pytest.approx(whole - (clock.now - 100.0))
            fractions.append(fraction)
            clock.now += seconds / 4 if step < 4 else 0.0
    assert fractions == sorted(fractions) and fractions[0] == 0.0
    assert fractions[-1] == pytest.approx(TOLD_MAX) and fractions[-1] < 1.0


def test_a_stage_without_steps_counts_down_and_not_below_nothing() -> None:
    clock = Clock()
    forecast = Forecast(learned(), clock)
    forecast.begin("loading")
    clock.now += 15.0
    assert forecast.at(0, 0)[1] == pytest.approx(55.0)
    clock.now += 100.0
    assert forecast.at(0, 0)[1] == pytest.approx(50.0)


def test_a_run_at_half_the_speed_is_noticed_while_it_paints() -> None:
    clock = Clock()
    forecast = Forecast(learned(), clock)
    forecast.begin("denoising")
    for _ in range(8):
        clock.now += 8.0  # a step was expected to take four seconds
    left = forecast.at(8, 10)[1]
    assert left == pytest.approx((64.0 + 2 * 4.0) / 10 * 2 + 5.0)


def test_of_the_first_run_nothing_is_told_before_it_paints() -> None:
    clock = Clock()
    forecast = Forecast(unlearned(), clock)
    told = []
    for stage in ("loading", "text", "control"):
        forecast.begin(stage)
        told.append(forecast.at(0, 0)[1])
    forecast.begin("denoising")
    told.append(forecast.at(0, 10)[1])
    assert told == [None] * 4
    clock.now += 20.0
    rest = (SHARES["decoding"] + SHARES["saving"]) / SHARES["denoising"]
    assert forecast.at(2, 10)[1] == pytest.approx(80.0 + 100.0 * rest)


def test_a_stage_that_comes_again_does_not_turn_the_bar_back() -> None:
    forecast = Forecast(learned(), Clock())
    fractions = []
    for stage in ("loading", "text", "control", "denoising", "text", "denoising", "decoding"):
        forecast.begin(stage)
        fractions.append(forecast.at(0, 0)[0])
    assert fractions == sorted(fractions)


def learn(times: StageTimes, request: GenerationRequest = REQUEST, loaded: Loaded = COLD, **seconds: float) -> None:
    step = seconds.pop("step", 4.0)
    run_class = RunClass.of(request, "m", "cpu")
    times.learn(run_class, passes_of(request), loaded, {**SECONDS, **seconds}, step)


def expected(times: StageTimes, request: GenerationRequest = REQUEST, loaded: Loaded = COLD) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in times.expected(RunClass.of(request, "m", "cpu"), passes_of(request), loaded):
        known = found.get(one.stage, 0.0)
        found[one.stage] = None if one.seconds is None or known is None else known + one.seconds
    return found


def test_what_was_learned_is_expected_in_proportion_to_the_work(tmp_path: Path) -> None:
    learn(StageTimes(tmp_path / "stages.json"))
    times = StageTimes(tmp_path / "stages.json")
    first = expected(times)
    assert {stage: first[stage] for stage in SECONDS if stage != "denoising"} == pytest.approx(
        {stage: SECONDS[stage] for stage in SECONDS if stage != "denoising"}
    )
    megapixels = 1024 * 1024 / 1e6
    assert first["denoising"] == pytest.approx(10 * 4.0 * megapixels)
    assert expected(times, replace(REQUEST, steps=20))["denoising"] == pytest.approx(2 * first["denoising"])
    assert expected(times, replace(REQUEST, sampler="heun"))["denoising"] == pytest.approx(2 * first["denoising"])
    cfg = replace(REQUEST, true_cfg=2.0, negative_prompt="fog")
    assert expected(times, cfg)["denoising"] == pytest.approx(2 * first["denoising"])
    half = expected(times, replace(REQUEST, task="image_to_image", strength=0.5))
    assert half["denoising"] == pytest.approx(first["denoising"] / 2)
    small = expected(times, replace(REQUEST, width=512))
    assert small["denoising"] == pytest.approx(first["denoising"] / 2), "as the nearest size did"
    staged = replace(REQUEST, stages=(Stage(0.5, 10), Stage(1.0, 10)))
    assert expected(times, staged)["denoising"] == pytest.approx(0.75 * first["denoising"])
    assert expected(times, staged)["text"] == pytest.approx(2.0), "the prompt is read once"


def test_what_is_in_memory_takes_no_time(tmp_path: Path) -> None:
    times = StageTimes()
    learn(times)
    warm = expected(times, loaded=replace(WARM, prompts=0))
    assert warm["loading"] == 0.0 and warm["text"] == 0.0
    assert warm["control"] is None, "a control whose net is there was never read yet"
    learn(times, loaded=WARM, control=0.5)
    assert expected(times, loaded=WARM)["control"] == pytest.approx(0.5)
    assert expected(times)["control"] == pytest.approx(3.0)


def test_the_last_run_counts_as_much_as_all_before_it() -> None:
    times = StageTimes()
    learn(times)
    learn(times, decoding=8.0, step=8.0)
    assert expected(times)["decoding"] == pytest.approx(6.0)
    assert expected(times)["denoising"] == pytest.approx(10 * 6.0 * 1024 * 1024 / 1e6)


def test_other_models_and_devices_teach_nothing() -> None:
    times = StageTimes()
    learn(times)
    for model, device in (("n", "cpu"), ("m", "cuda")):
        stages = times.expected(RunClass.of(REQUEST, model, device), passes_of(REQUEST), COLD)
        assert all(one.seconds is None for one in stages)


@pytest.mark.parametrize("entry", ['"x"', '{"denoising": -1}', '{"denoising": "1"}', '{"sleeping": 1}'])
def test_a_damaged_entry_is_passed_over(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "stages.json"
    path.write_text(f'{{"format": 1, "table": {{"m|cpu|0|1": {entry}}}}}')
    times = StageTimes(path)
    assert expected(times)["denoising"] is None
    learn(times)
    assert expected(StageTimes(path))["denoising"] is not None


def test_a_second_picture_knows_from_its_start(models_folder: Path, tmp_path: Path) -> None:
    request = GenerationRequest("a red cube", 64, 64, steps=3, model="random-weights", controls=(Control("depth"),))
    told: list[list[Progress]] = []
    engine = Production(models_folder, "cpu", cache_folder=tmp_path)
    for seed in range(3):
        if seed == 2:
            engine = Production(models_folder, "cpu", cache_folder=tmp_path)
        told.append([])
        made(run(engine, replace(request, seed=seed), on_progress=told[-1].append))
        fractions = [progress.fraction for progress in told[-1]]
        assert fractions == sorted(fractions) and fractions[0] >= 0.0 and fractions[-1] < 1.0
    first, _, fresh = told
    assert first[0].seconds_left is None and first[-1].seconds_left is not None
    assert all(progress.seconds_left is not None for progress in fresh), "also in a process that has made none"
    lefts = [progress.seconds_left or 0.0 for progress in fresh]
    assert all(left >= 0.0 for left in lefts) and lefts[-1] < lefts[0]
