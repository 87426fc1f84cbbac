"""Unpacking one layer ahead: no order in which two streams may run makes a product read another layer's weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.flux import unpack
from backend.flux.ahead import Ahead, Weight
from backend.flux.dequantise import dequantise
from backend.flux.products import linear
from backend.flux.quantised_linear import LowRankLinear, QuantisedLinear
from backend.flux.unpack import unpacking_ahead
from tests.backend.samples import random_packed

WEIGHTS = [Weight(torch.zeros(1, 34, dtype=torch.uint8), "Q8_0", torch.float32) for _ in range(5)]


@dataclass(eq=False)
class Step:
    """In a stream. does: "fill" or "read" a buffer with or of a weight. after: steps of the other stream before it."""

    does: str
    buffer: int
    weight: int
    after: int


@dataclass(eq=False)
class Streams:
    """Two streams that only write down what they are told; the Side of the computing one."""

    steps: tuple[list[Step], list[Step]] = field(default_factory=lambda: ([], []))
    waits: list[int] = field(default_factory=lambda: [0, 0])
    now: int = 0

    def begin(self, work: Callable[[], None]) -> None:
        self.waits[1] = len(self.steps[0])
        self.now = 1
        work()
        self.now = 0

    def join(self) -> None:
        self.waits[0] = len(self.steps[1])

    def fill(self, weight: Weight, buffer: int) -> int:
        self.add("fill", buffer, next(index for index, one in enumerate(WEIGHTS) if one.packed is weight.packed))
        return buffer

    def add(self, does: str, buffer: int, weight: int) -> None:
        self.steps[self.now].append(Step(does, buffer, weight, self.waits[self.now]))

    def run(self, chance: Random) -> None:
        """In any order that the waits allow. Each step has a beginning and an end, and others between."""
        held: list[int | None] = [None, None]
        done, under_way = [0, 0], [False, False]
        while any(done[one] < len(self.steps[one]) for one in (0, 1)):
            ready = [
                one for one in (0, 1)
                if done[one] < len(self.steps[one]) and done[1 - one] >= self.steps[one][done[one]].after
            ]  # fmt: skip
            one = chance.choice(ready)
            step = self.steps[one][done[one]]
            if step.does == "read":
                assert held[step.buffer] == step.weight
            else:
                held[step.buffer] = step.weight if under_way[one] else None
            if under_way[one]:
                done[one] += 1
            under_way[one] = not under_way[one]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, len(WEIGHTS) - 1), max_size=24), st.integers(0, 3), st.randoms(use_true_random=False))
def test_every_product_reads_its_own_weight_in_any_order(layers: list[int], passes: int, chance: Random) -> None:
    """layers: of any pass, also some twice, and another order than before where there are more passes than one."""
    streams = Streams()
    ahead: Ahead[int] = Ahead(streams, streams.fill)
    for turn in range(passes + 1):
        for index in layers if turn < 3 else reversed(layers):
            streams.add("read", ahead.take(WEIGHTS[index]), index)
    ahead.close()
    streams.add("fill", 0, 0)  # memory that was given back, in other hands
    streams.run(chance)


def test_the_next_weight_is_filled_beside_the_product() -> None:
    """From the second pass on, and each weight is unpacked once a pass."""
    streams = Streams()
    ahead: Ahead[int] = Ahead(streams, streams.fill)
    for _ in range(3):
        for index in range(4):
            streams.add("read", ahead.take(WEIGHTS[index]), index)
    computing, beside = streams.steps
    assert [step.does for step in computing] == ["fill", "read"] * 4 + ["fill", "read"] + ["read"] * 7
    assert [step.weight for step in beside] == [1, 2, 3, 0, 1, 2, 3, 0]
    first = beside[0]
    assert first.after == 9, "after the fill of the layer before it, and not after that layer's product"


def test_what_is_broken_is_found() -> None:
    """The streams of these tests do see a race: a side that does not wait."""
    streams = Streams()
    streams.join = lambda: None  # type: ignore[method-assign]
    ahead: Ahead[int] = Ahead(streams, streams.fill)
    for _ in range(3):
        for index in range(4):
            streams.add("read", ahead.take(WEIGHTS[index]), index)
    with pytest.raises(AssertionError):
        for seed in range(50):
            streams.run(Random(seed))


class AtOnce:
    """A side without streams: its work is done when it begins."""

    def __init__(self) -> None:
        self.began = 0

    def begin(self, work: Callable[[], None]) -> None:
        self.began += 1
        work()

    def join(self) -> None: ...


@torch.inference_mode()
def test_layers_compute_the_same_bits_with_it() -> None:
    def layer(name: str, seed: int) -> QuantisedLinear:
        packed = torch.from_numpy(random_packed(name, rows=512, columns=512, seed=seed))
        return QuantisedLinear(packed, name, 512, None)

    plain = [layer("Q4_K", 1), layer("Q8_0", 2), layer("Q6_K", 3), layer("Q5_0", 4)]
    layers = [*plain, LowRankLinear(plain[1], torch.randn(4, 512), torch.randn(512, 4), None)]
    x = torch.randn(3, 512)
    wanted = [one(x) for one in layers]
    side = AtOnce()
    with unpacking_ahead(side):
        for _ in range(3):
            for one, theirs in zip(layers, wanted, strict=True):
                assert torch.equal(one(x), theirs)
        plain[0].packed = plain[3].packed  # in the place of what was guessed
        plain[0].type_name = "Q5_0"
        assert torch.equal(plain[0](x), wanted[3])
    assert side.began >= 10
    assert not hasattr(unpack._kept, "ahead")
    assert torch.equal(plain[1](x), linear(x, dequantise(plain[1].packed, "Q8_0")))
