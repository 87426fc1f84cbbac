"""What was used least recently leaves first, nothing that is in use does, and nothing is copied that need not be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from backend.flux.moves import Mover, Packed, Part, tensors_of
from backend.flux.residency import Residency
from tests.backend.apart import CPU, apart


@dataclass(eq=False)
class Box:
    """A part of so many bytes that writes down when it comes and leaves."""

    name: str
    bytes: int
    log: list[str] = field(default_factory=list)
    is_here: bool = False

    def size(self) -> int:
        return self.bytes

    def come(self, check: Callable[[], None] = lambda: None) -> None:
        check()
        self.log.append(f"+{self.name}")
        self.is_here = True

    def leave(self) -> None:
        self.log.append(f"-{self.name}")
        self.is_here = False


def boxes(room: int | None, **sizes: int) -> tuple[Residency, list[str]]:
    log: list[str] = []
    found = Residency(room)
    for name, size in sizes.items():
        found.add(name, Box(name, size, log))
    return found, log


def test_three_in_turn_with_room_for_two() -> None:
    """The one that is used in between stays: each move is one that the room makes necessary."""
    residency, log = boxes(20, a=10, b=10, c=10)
    for name in "ababababcacaca":
        residency.use(name)
    assert log == ["+a", "+b", "-a", "+c", "-b", "+a"]
    assert residency.moves == {"a": 2, "b": 1, "c": 1} and residency.here() == ["c", "a"]


def test_with_room_for_all_nothing_moves_twice() -> None:
    for room in (30, None):
        residency, log = boxes(room, a=10, b=10, c=10)
        for name in "abcabcabc":
            residency.use(name)
        assert log == ["+a", "+b", "+c"]


def test_what_is_held_stays() -> None:
    residency, log = boxes(20, a=10, b=10, c=10)
    with residency.holding("a"):
        for name in "bcbcbc":
            residency.use(name)
        residency.leave("a")
        assert "-a" not in log and residency["a"].is_here
        with residency.holding("a"):
            residency.use("b")
        residency.use("c")
        assert "-a" not in log, "held twice, let go once"
    residency.use("b")
    assert "-a" in log


def test_a_part_that_fits_nowhere_comes_all_the_same() -> None:
    residency, log = boxes(20, a=10, b=25)
    with residency.holding("a"):
        assert not residency.fits_beside_held("b")
        residency.use("b")
    assert log == ["+a", "+b"]
    assert residency.fits_beside_held("a")


def test_no_more_leaves_than_has_to() -> None:
    residency, log = boxes(30, a=10, b=10, c=10, small=5)
    for name in "abc":
        residency.use(name)
    residency.use("small")
    assert log[3:] == ["-a", "+small"]
    residency.make_room(15)
    assert log[5:] == ["-b", "-c"] or log[5:] == ["-b"]
    assert sum(residency[key].size() for key in residency.here()) + 15 <= 30


def test_a_part_that_could_not_come_is_not_counted_as_there() -> None:
    residency, _ = boxes(20, a=10)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        residency.use("a", stop)
    assert residency.here() == [] and not residency.moves


def layer(seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(32, 8).requires_grad_(False)


@torch.inference_mode()
def test_what_came_from_main_memory_is_not_copied_back() -> None:
    net, wanted = layer(), layer()
    with apart():
        mover = Mover(CPU)
    part = Part(mover, lambda: tensors_of(net), keep=True)
    identities, hosts = [id(one) for one in tensors_of(net)], [one.data_ptr() for one in tensors_of(net)]
    for times in range(1, 4):
        part.come()
        part.come()
        assert all(mover.is_here(one) for one in tensors_of(net))
        assert [one.data_ptr() for one in tensors_of(net)] != hosts, "a memory of its own"
        assert torch.equal(net.weight, wanted.weight) and mover.came == times * part.size()
        part.leave()
        assert not any(mover.is_here(one) for one in tensors_of(net))
        assert [id(one) for one in tensors_of(net)] == identities
    assert mover.left == 0 and torch.equal(net.weight, wanted.weight)


@torch.inference_mode()
def test_a_copy_in_main_memory_is_kept_once_a_part_had_to_leave() -> None:
    net = layer()
    with apart():
        mover = Mover(CPU)
    part = Part(mover, lambda: tensors_of(net))
    for _ in range(3):
        part.come()
        part.leave()
    assert mover.left == part.size(), "copied back the first time alone"


@torch.inference_mode()
def test_what_was_put_in_since_moves_along_and_may_change() -> None:
    net = layer()
    with apart():
        mover = Mover(CPU)
    part = Part(mover, lambda: tensors_of(net))
    part.come()
    lora = torch.ones(3)
    net.register_buffer("lora", lora)
    part.leave()
    part.come()
    lora.fill_(2.0)
    part.leave()
    part.come()
    assert torch.equal(lora, torch.full((3,), 2.0))


@torch.inference_mode()
def test_pinned_memory_stays_within_its_limit() -> None:
    nets = [layer(seed) for seed in range(3)]
    with apart():
        mover = Mover(CPU, pinned_room=3000)
    parts = [Part(mover, lambda net=net: tensors_of(net)) for net in nets]
    for part in parts:
        part.again = True
        part.come()
        part.leave()
    # A weight of 1024 bytes and a bias, for which torch takes 512.
    assert mover.pinned == 2 * 1024 + 512 <= 3000 < 3 * 1536
    assert all(torch.equal(net.weight, layer(seed).weight) for seed, net in enumerate(nets))
    part = parts.pop(0)
    nets.pop(0)
    del part
    assert mover.pinned == 1024, "what is gone is not pinned any more"


@torch.inference_mode()
def test_a_weight_that_is_unpacked_again_leaves_nothing_behind() -> None:
    values = torch.randn(8, 32, generator=torch.Generator().manual_seed(0)).to(torch.float16)
    weight = nn.Parameter(torch.empty(0), requires_grad=False)
    with apart():
        mover = Mover(CPU)
    mover.set_source(weight, Packed(values.view(torch.uint8), "F16", (8, 32)))
    assert weight.shape == (8, 32) and weight.isnan().all() and weight.untyped_storage().nbytes() == 4
    mover.bring(weight)
    assert torch.equal(weight, values.float())
    mover.send(weight)
    assert weight.isnan().all() and mover.left == 0 and mover.came == values.nbytes


def test_in_one_memory_nothing_moves() -> None:
    net, mover = layer(), Mover(CPU)
    part = Part(mover, lambda: tensors_of(net))
    before = [one.data_ptr() for one in tensors_of(net)]
    part.come()
    part.leave()
    assert part.is_here and mover.came == mover.left == mover.pinned == 0
    assert [one.data_ptr() for one in tensors_of(net)] == before
