"""Memory that really runs out, at a byte, in every stage: the picture comes out one rung further down, or further."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.flux import denoise as loop
from backend.flux import model as engine
from backend.flux.moves import Mover
from backend.flux.placement import Placement
from backend.planning import Machine, ladder
from backend.planning.ladder import rungs
from backend.production import Production
from backend.production import production as room
from backend.wire import Control, GenerationRequest, Progress
from backend.wire.request import Stage
from tests.backend.apart import apart
from tests.backend.live_bytes import LiveBytes
from tests.backend.samples import failed, made, pixels, run, texts_of

GB = 1_000_000_000
ROOMY = Machine("cuda", "a card", 24 * GB, 24 * GB, 64 * GB, 64 * GB)
STEPS = 4
PLAIN = GenerationRequest("a cube", 64, 64, seed=3, steps=STEPS, model="random-weights")
STEERED = replace(PLAIN, controls=(Control("depth", 0.8, 0.5, 1.0),))
LARGE = replace(PLAIN, width=320, height=320)
TWICE = replace(PLAIN, stages=(Stage(0.5, 2), Stage(1.0, STEPS, 0.8)))
Place = tuple[str, int]
"""A stage, and a step of it."""


class Card:
    """The processor as a card with memory of its own: bytes on it are counted, and no more than `limit` are given.

    calls: of the transformer, that came to their end. peaks: bytes at the most, by place. limit_at: from where on it is
    as tight as `tight` says, as another program takes the rest.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.memory = LiveBytes()
        self.calls = 0
        self.peaks: dict[Place, int] = {}
        self.limit_at: Place | None = None
        self.tight = 0
        self.notes: list[str] = []
        self._now: Place = ("", 0)
        for name in ("load_transformer", "load_part", "load_t5", "load_controlnet"):
            patch.setattr(engine, name, self._aside(getattr(engine, name)))
        for name in ("send", "new_pinned"):
            patch.setattr(Mover, name, self._aside(getattr(Mover, name)))
        patch.setattr(loop, "transformer_velocity", self._counted(loop.transformer_velocity))
        patch.setattr(room, "machine_of", lambda device: ROOMY)

    def _aside(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """What is loaded into main memory is not on the card."""

        @wraps(function)
        def aside(*arguments: Any, **named: Any) -> Any:
            with self.memory.aside():
                return function(*arguments, **named)

        return aside

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            found = function(*arguments)
            self.calls += 1
            return found

        return counted

    def tell(self, progress: Progress) -> None:
        self.peaks[self._now] = max(self.peaks.get(self._now, 0), self.memory.peak)
        self.memory.peak = self.memory.live
        self._now = (progress.stage, progress.step)
        self.notes.append(progress.note)
        if self._now == self.limit_at:
            self.memory.limit = self.tight

    def paint(self, production: Production, request: GenerationRequest) -> Any:
        with apart(), self.memory:
            try:
                return run(production, request, on_progress=self.tell)
            finally:
                self.tell(Progress("", 0))
                self.memory.limit = 0


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    yield Card(monkeypatch)


Measured = dict[Placement, tuple[dict[Place, int], np.ndarray, int]]


def measured(folder: Path, request: GenerationRequest) -> Measured:
    """Of each rung: the bytes it takes, place by place, its picture, and how many calls that takes."""
    found: Measured = {}
    all_rungs: list[Placement] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ladder, "place", lambda *arguments: (all_rungs.extend(rungs(*arguments)), all_rungs[0])[1])
        made(Card(patch).paint(Production(folder, "cpu"), replace(request, steps=1, stages=())))
    for placement in dict.fromkeys(all_rungs):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ladder, "place", lambda *_, one=placement: one)
            card = Card(patch)
            result = made(card.paint(Production(folder, "cpu"), request))
            found[placement] = card.peaks, pixels(result.png), card.calls
    return found


@pytest.fixture(scope="module")
def rungs_of(models_folder: Path) -> dict[str, tuple[GenerationRequest, Measured]]:
    requests = {"plain": PLAIN, "steered": STEERED, "large": LARGE, "twice": TWICE}
    return {name: (request, measured(models_folder, request)) for name, request in requests.items()}


CASES: list[tuple[str, Place]] = [
    ("plain", ("loading", 0)),
    ("plain", ("text", 0)),
    ("plain", ("denoising", 0)),
    ("plain", ("denoising", 2)),
    ("steered", ("control", 0)),
    ("steered", ("denoising", 2)),
    ("large", ("decoding", 0)),
    ("twice", ("denoising", 3)),
]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("name", "place"), CASES)
def test_the_picture_comes_out_further_down(
    name: str, place: Place, share: float, rungs_of: dict, models_folder: Path, card: Card
) -> None:
    request, by_rung = rungs_of[name]
    first, *below = by_rung
    least = min(max(by_rung[one][0].values()) for one in below)
    most = by_rung[first][0][place]
    assert least < most, "there is a rung for which there is memory"
    card.limit_at, card.tight = place, int(least + share * (most - least)) + 2048
    result = made(card.paint(Production(models_folder, "cpu"), request))
    ran = Placement(**result.plan["placement"])
    assert ran in below and card.memory.failures >= 1
    np.testing.assert_array_equal(pixels(result.png), by_rung[ran][1])
    remembered = json.loads(texts_of(result.png)["grisaille:plan"])
    assert Placement(**remembered["placement"]) == ran and remembered["note"] == result.plan["note"]
    assert result.plan["note"].count("Memory ran out") == card.memory.failures
    assert any("Memory ran out" in note for note in card.notes), "it is said while it goes on"
    assert card.calls == by_rung[ran][2], "no step that was finished is done again"


@pytest.fixture
def wordy_folder(own_models_folder: Path) -> Path:
    """A models folder whose model has more weights in its text encoder than anywhere else."""
    import torch
    from transformers import T5Config, T5EncoderModel

    place = own_models_folder / "random-weights" / "text_encoder_2"
    config = T5Config.from_pretrained(place)
    config.num_layers, config.d_ff = 12, 4 * config.d_ff
    torch.manual_seed(0)
    T5EncoderModel(config).save_pretrained(place)
    return own_models_folder


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_a_text_encoder_that_is_larger_than_the_card(share: float, wordy_folder: Path, card: Card) -> None:
    """It steps down to where its blocks come one by one, and paints the same picture to the bit."""
    whole = Placement("streamed", encoders_leave=True)
    parts, place, found = replace(whole, encoders_streamed=True), ("text", 0), {}
    for placement in (whole, parts):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ladder, "place", lambda *_, one=placement: one)
            measuring = Card(patch)
            image = pixels(made(measuring.paint(Production(wordy_folder, "cpu"), PLAIN)).png)
            found[placement] = measuring.peaks, image
    most, least = found[whole][0][place], max(found[parts][0].values())
    assert found[parts][0][place] < 0.5 * most and least < most
    card.limit_at, card.tight = place, int(least + share * (most - least)) + 2048
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ladder, "place", lambda *_: whole)
        result = made(card.paint(Production(wordy_folder, "cpu"), PLAIN))
    assert Placement(**result.plan["placement"]) == parts and card.memory.failures == 1
    for _, image in found.values():
        np.testing.assert_array_equal(pixels(result.png), image)
    said = "Memory ran out while the prompt was read; it went on from there with the text encoder read block by block."
    assert result.plan["note"] == said
    assert any("The text encoder comes block by block" in note for note in card.notes)


def tightened(card: Card, rungs_of: dict, name: str = "plain") -> GenerationRequest:
    """A Request for which the card has too little memory while it paints the second step, and enough one rung down."""
    request, by_rung = rungs_of[name]
    first, *below = by_rung
    card.limit_at = ("denoising", 2)
    card.tight = (by_rung[first][0][card.limit_at] + min(max(by_rung[one][0].values()) for one in below)) // 2
    return request


def test_after_the_last_rung_there_is_a_sentence(models_folder: Path, card: Card) -> None:
    production = Production(models_folder, "cpu")
    card.limit_at, card.tight = ("denoising", 2), 1_000_000
    failure = failed(card.paint(production, STEERED))
    assert failure.kind == "out_of_memory" and "too little memory for a picture of 64 x 64 pixels" in failure.message
    assert "or close other programs" in failure.hint and card.memory.failures > 3
    card.limit_at = None
    again = made(card.paint(production, STEERED))
    assert again.plan["placement"]["transformer"] == "streamed", "what ran out in this process is not tried again"
    other = made(card.paint(production, replace(STEERED, width=128)))
    assert other.plan["placement"]["transformer"] == "unpacked", "but another picture is planned for itself"


def test_nothing_but_memory_changes_the_plan(
    models_folder: Path, card: Card, rungs_of: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = loop.transformer_velocity

    def broken(*arguments: Any) -> Any:
        if card.calls == 2:
            raise RuntimeError("a kernel that is broken")
        return inner(*arguments)

    monkeypatch.setattr(loop, "transformer_velocity", broken)
    failure = failed(card.paint(Production(models_folder, "cpu"), PLAIN))
    assert failure.kind == "internal" and card.calls == 2
    assert not any("Memory ran out" in note for note in card.notes)


def test_cancelling_on_the_way_down_cancels(models_folder: Path, card: Card, rungs_of: dict) -> None:
    request = tightened(card, rungs_of)
    with apart(), card.memory:
        result = run(
            Production(models_folder, "cpu"),
            request,
            on_progress=card.tell,
            is_cancelled=lambda: card.memory.failures > 0,
        )
    card.memory.limit = 0
    assert failed(result).kind == "cancelled" and card.memory.failures == 1


def test_a_picture_is_kept_under_the_plan_that_made_it(
    models_folder: Path, tmp_path: Path, card: Card, rungs_of: dict
) -> None:
    request = tightened(card, rungs_of)
    production = Production(models_folder, "cpu", cache_folder=tmp_path)
    first = made(card.paint(production, request))
    assert "Memory ran out" in first.plan["note"]
    card.limit_at = None
    again = made(card.paint(production, request))
    assert again.plan["from_cache"] and again.png == first.png, "here the plan is the same one now"
    roomy = made(card.paint(Production(models_folder, "cpu", cache_folder=tmp_path), request))
    assert "from_cache" not in roomy.plan, "what another plan made is not that of this one"
    assert roomy.plan["placement"] != first.plan["placement"] and "note" not in roomy.plan
    kept = made(card.paint(Production(models_folder, "cpu", cache_folder=tmp_path), request))
    assert kept.plan["from_cache"] and kept.png == roomy.png
