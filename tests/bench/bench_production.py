"""What stands between a Request and the engine costs little, and what was done once is not done again."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from backend.flux.device import without_gradients
from backend.flux.picture_job import PictureJob
from backend.models import choose_nets, find_model
from backend.production import Production
from backend.production.batch import paint_batch
from backend.production.inputs import control_inputs, control_pictures
from backend.wire import Control, GenerationRequest, GenerationResult, Progress
from backend.wire.framing import array_digest
from tests.backend.samples import kept_model, made, make_maps
from tests.backend.samples import run as paint
from tests.bench.figure import Figure

ROUNDS = 5
SIDE, STEPS = 512, 12
BATCH = 8
REQUEST = GenerationRequest(
    "a castle on a hill at dawn", SIDE, SIDE, seed=1, steps=STEPS, model="sample",
    controls=(Control("depth"), Control("line", 0.5)),
)  # fmt: skip
MAPS = make_maps(SIDE, SIDE)


def run() -> list[Figure]:
    """Ratios on the sample model, whose passes cost little: those of larger models hide more."""
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        return [
            _second_picture(models),
            *_cache_hits(models, Path(folder) / "cache"),
            _batch(models),
            _time_left(models, Path(folder) / "times"),
        ]


def _second_picture(models: Path) -> Figure:
    production = Production(models, "cpu")
    made(paint(production, REQUEST, MAPS))
    whole, bare = [], []
    for seed in range(2, 2 + ROUNDS):
        request = replace(REQUEST, seed=seed)
        whole.append(_seconds(lambda request=request: made(paint(production, request, MAPS))))
        bare.append(_bare(production, models, request))
    ratio = statistics.median(a / b for a, b in zip(whole, bare, strict=True))
    detail = (
        f"{statistics.median(whole):.2f} s ÷ {statistics.median(bare):.2f} s, {STEPS} steps of {SIDE}², two controls"
    )
    return Figure("a second picture of the same prompt ÷ bare denoise and decode", ratio, 1.03, detail)


def _bare(production: Production, models: Path, request: GenerationRequest) -> float:
    """Seconds that the engine takes to paint and decode, everything before that done."""
    folder = find_model(models, request.model)
    choices = choose_nets([control.kind for control in request.controls], folder.controlnets, folder.name, {})
    pictures = control_pictures(choices, MAPS, (SIDE, SIDE))
    with without_gradients():
        job = PictureJob(kept_model(production), request, control_inputs(request, choices, pictures))
        job.read_text()
        for control in job.controls:
            job.read_control(control)
        return _seconds(lambda: (job.denoise(lambda step, tokens: None), job.decode()))


def _cache_hits(models: Path, cache: Path) -> list[Figure]:
    """Found again by a process that found it before; and by one that has to read what it is, and hash it."""
    request = replace(REQUEST, width=1024, height=1024, steps=1)
    maps = make_maps(1024, 1024)
    digests = {name: array_digest(array) for name, array in maps.arrays().items()}
    production = Production(models, "cpu", cache_folder=cache)
    made(paint(production, request, maps))
    [entry] = cache.glob("results/*.result")

    def hit(finder: Production) -> None:
        result = made(
            finder.run(
                request, maps, digests=digests, on_progress=_nobody, on_preview=_nobody, is_cancelled=lambda: False
            )
        )
        assert result.plan["from_cache"]

    def figure(name: str, finder_of: Callable[[], Production], target: float | None) -> Figure:
        finders = [finder_of() for _ in range(50)]
        times = [(_seconds(lambda one=one: hit(one)), _seconds(entry.read_bytes)) for one in finders][10:]
        hits, reads = statistics.median(a for a, _ in times), statistics.median(b for _, b in times)
        detail = f"{hits * 1e3:.2f} ms ÷ {reads * 1e3:.2f} ms, {entry.stat().st_size / 1e6:.1f} MB"
        return Figure(f"{name} ÷ reading the file", hits / reads, target, detail)

    hit(production)
    return [
        figure("a picture from the cache, maps hashed", lambda: production, 5.0),
        figure("the first time that a process finds it", lambda: Production(models, "cpu", cache_folder=cache), None),
    ]


def _batch(models: Path) -> Figure:
    """Eight seeds against eight singles that read the prompt and the controls each time."""
    production = Production(models, "cpu")
    requests = [replace(REQUEST, seed=seed, steps=4) for seed in range(BATCH)]
    made(paint(production, requests[0], MAPS))

    def batch() -> None:
        results = list(paint_batch(production, requests, lambda index: MAPS, _nobody, lambda: False))
        assert all(isinstance(result, GenerationResult) for result in results)

    def singles() -> None:
        for request in requests:
            with _cold(production):
                made(paint(production, request, MAPS))

    times = [(_after_cold(production, batch), _seconds(singles)) for _ in range(3)]
    ratio = statistics.median(a / b for a, b in times)
    detail = f"{times[0][0]:.2f} s ÷ {times[0][1]:.2f} s, 4 steps of {SIDE}², one prompt, two controls"
    return Figure(f"a batch of {BATCH} ÷ {BATCH} cold singles", ratio, 0.95, detail)


def _after_cold(production: Production, call: Callable[[], object]) -> float:
    with _cold(production):
        return _seconds(call)


@contextmanager
def _cold(production: Production) -> Iterator[None]:
    """The model is loaded, and has read neither the prompt nor the controls."""
    model = kept_model(production)
    model.prompts.clear()
    model.control_latents.clear()
    yield


def _time_left(models: Path, cache: Path) -> Figure:
    """How far the time left that is told at the start is from the truth, in the picture after the first."""
    production = Production(models, "cpu", cache_folder=cache)
    made(paint(production, REQUEST, MAPS))
    told: list[tuple[float, float]] = []

    def tell(progress: Progress) -> None:
        if progress.stage == "denoising" and progress.seconds_left is not None:
            told.append((time.perf_counter(), progress.seconds_left))

    made(paint(production, replace(REQUEST, seed=2), MAPS, on_progress=tell))
    ended = time.perf_counter()
    truths = [ended - when for when, _ in told]
    half = len(told) // 2  # near the end a little is a large share of what is left
    error = max(abs(left - truth) / truth for (_, left), truth in list(zip(told, truths, strict=True))[:half])
    detail = f"{told[0][1]:.2f} s told and {truths[0]:.2f} s taken when the second picture begins to be painted"
    return Figure("the time left as told, off by ÷ what it was", error, 0.2, detail)


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _nobody(told: object) -> None:
    """Hears what is told."""


def main() -> None:
    for figure in run():
        print(f"{figure.name}: {figure.ratio:.3f} (target {figure.target}); {figure.detail}")


if __name__ == "__main__":
    main()
