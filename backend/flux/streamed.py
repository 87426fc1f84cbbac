"""Blocks whose weights stay in main memory: each comes to the device while the one before it computes.

Two buffers on the device take turns. On a graphics card the copies have a stream of their own: a copy waits until the
block that used its buffer is through, and a block waits until its copy has arrived; the processor waits for neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from transformers import T5EncoderModel

from .modulation import own_tensors
from .moves import Mover
from .place_weights import Check, no_check

ALIGNMENT = 256
"""Bytes: where a weight may begin in a buffer, for any kernel's loads."""
BUFFERS = 2

Copies = list[tuple[Tensor, Tensor]]
"""Targets on the device, and their sources in main memory."""


class Lane(Protocol):
    """How copies into the buffers go beside the computing."""

    def copy(self, buffer: int, copies: Copies) -> None:
        """Begins when what was last computed with the buffer is through."""
        ...

    def wait(self, buffer: int) -> None:
        """What is computed from now on waits until the buffer's copies have arrived."""
        ...

    def done(self, buffer: int) -> None:
        """Nothing that is computed from now on needs what is in the buffer."""
        ...

    def close(self) -> None:
        """What is computed from now on waits for all copies."""
        ...


class PlainLane:
    """Copies at once, where the device has no streams."""

    def copy(self, buffer: int, copies: Copies) -> None:
        for target, source in copies:
            target.copy_(source)

    def wait(self, buffer: int) -> None: ...

    def done(self, buffer: int) -> None: ...

    def close(self) -> None: ...


class CudaLane:
    """Copies in a stream of their own, ordered by events."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.arrived = [torch.cuda.Event() for _ in range(BUFFERS)]
        self.free = [torch.cuda.Event() for _ in range(BUFFERS)]
        for buffer in range(BUFFERS):
            self.done(buffer)

    def copy(self, buffer: int, copies: Copies) -> None:
        with torch.cuda.stream(self.stream):
            self.stream.wait_event(self.free[buffer])
            for target, source in copies:
                target.copy_(source, non_blocking=True)
            self.arrived[buffer].record(self.stream)

    def wait(self, buffer: int) -> None:
        torch.cuda.current_stream(self.device).wait_event(self.arrived[buffer])

    def done(self, buffer: int) -> None:
        self.free[buffer].record(torch.cuda.current_stream(self.device))

    def close(self) -> None:
        torch.cuda.current_stream(self.device).wait_stream(self.stream)


def lane_of(device: torch.device) -> Lane:
    return CudaLane(device) if device.type == "cuda" else PlainLane()


@dataclass(frozen=True, eq=False, slots=True)
class Place:
    """Where a tensor lies while its block computes. start: byte in the buffer. host: the tensor in main memory."""

    tensor: Tensor
    host: Tensor
    start: int

    def view(self, buffer: Tensor) -> Tensor:
        end = self.start + self.host.nbytes
        return buffer[self.start : end].view(self.host.dtype).view(self.host.shape)


class Stream:
    """The blocks of one net in the order in which they compute.

    The weights as they were loaded lie in one pinned piece a block where the limit allows, so that a block is one copy;
    what LoRAs put beside them is copied tensor by tensor.
    """

    def __init__(self, blocks: Sequence[nn.Module], mover: Mover, check: Check = no_check) -> None:
        """check: called between the blocks; ends the gathering by raising."""
        self.blocks, self.mover = list(blocks), mover
        self.gathered: dict[int, Tensor] = {}
        for index in range(len(self.blocks)):
            check()
            self._gather(index)
        self._lane: Lane | None = None
        self._buffers: list[Tensor] = []
        self._places: list[list[Place]] = []
        self._views: list[list[list[Tensor]]] = []
        self._copies: list[list[Copies]] = []
        self._holds: list[int | None] = [None] * BUFFERS
        self._turn = 0

    def size(self) -> int:
        """Bytes that the buffers take."""
        return BUFFERS * max(self._bytes(own_tensors(block)) for block in self.blocks)

    @staticmethod
    def _bytes(tensors: list[Tensor]) -> int:
        return sum(-(-one.nbytes // ALIGNMENT) * ALIGNMENT for one in tensors)

    def _gather(self, index: int) -> None:
        """Puts a block's loaded weights into one pinned piece, if there is room for it."""
        loaded = [one for one in own_tensors(self.blocks[index]) if self.mover.is_loaded(one)]
        piece = self.mover.new_pinned(self._bytes(loaded))
        if piece is None:
            return
        start = 0
        for tensor in loaded:
            host = piece[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
            self.mover.set_source(tensor, host.copy_(tensor))
            start += self._bytes([tensor])
        self.gathered[index] = piece

    @contextmanager
    def opened(self) -> Iterator[None]:
        """The buffers are there, and `arrived` can be asked. Afterwards all weights rest in main memory again."""
        for block in self.blocks:
            for tensor in own_tensors(block):
                self.mover.send(tensor)
        self._places = [self._placed(index) for index in range(len(self.blocks))]
        size = max(self._bytes([place.host for place in places]) for places in self._places)
        device = self.mover.device
        self._buffers = [torch.empty(size, dtype=torch.uint8, device=device) for _ in range(BUFFERS)]
        self._views = [[[p.view(buffer) for p in places] for places in self._places] for buffer in self._buffers]
        self._copies = [
            [self._copies_of(index, buffer, views[index]) for index in range(len(self.blocks))]
            for buffer, views in zip(self._buffers, self._views, strict=True)
        ]
        self._holds[:], self._turn = [None] * BUFFERS, 0
        self._lane = lane_of(device)
        try:
            yield
        finally:
            self._lane.close()
            for places in self._places:
                for place in places:
                    place.tensor.data = place.host
            self._lane, self._buffers, self._views, self._copies = None, [], [], []

    def _placed(self, index: int) -> list[Place]:
        """What a block has now: its gathered weights first, at the places that they have in their piece."""
        tensors = own_tensors(self.blocks[index])
        if index in self.gathered:
            tensors.sort(key=lambda one: not self.mover.is_loaded(one))
        found, start = [], 0
        for tensor in tensors:
            found.append(Place(tensor, tensor.data, start))
            start += self._bytes([tensor])
        return found

    def _copies_of(self, index: int, buffer: Tensor, views: list[Tensor]) -> Copies:
        pairs = zip(views, self._places[index], strict=True)
        piece = self.gathered.get(index)
        if piece is None:
            return [(view, place.host) for view, place in pairs]
        rest = [(view, place.host) for view, place in pairs if not self.mover.is_loaded(place.tensor)]
        return [(buffer[: len(piece)], piece), *rest]

    @contextmanager
    def arrived(self, index: int) -> Iterator[None]:
        """The block's weights are on the device for what is computed while this lasts; the next one's are coming."""
        lane = cast("Lane", self._lane)
        buffer = self._holds.index(index) if index in self._holds else self._begin(index)
        lane.wait(buffer)
        for place, view in zip(self._places[index], self._views[buffer][index], strict=True):
            place.tensor.data = view
        following = (index + 1) % len(self.blocks)
        self._turn = 1 - buffer
        if following not in self._holds:
            self._begin(following)
        try:
            yield
        finally:
            lane.done(buffer)

    def _begin(self, index: int) -> int:
        """Begins a block's copy into the buffer whose turn it is."""
        buffer = self._turn
        self._holds[buffer] = index
        cast("Lane", self._lane).copy(buffer, self._copies[buffer][index])
        return buffer


class StreamedBlocks(nn.ModuleList):
    """A net's list of blocks that sees to it, while one goes through it, that each is on the device."""

    def __init__(self, blocks: nn.ModuleList, stream: Stream, first: int) -> None:
        super().__init__(blocks)
        self.stream, self.first = stream, first

    def __iter__(self) -> Iterator[nn.Module]:
        for index, block in enumerate(super().__iter__()):
            with self.stream.arrived(self.first + index):
                yield block


def block_lists(net: nn.Module) -> list[tuple[nn.Module, str]]:
    """Where a net keeps its blocks, in the order in which they compute: a module, and its list's name there."""
    if isinstance(net, T5EncoderModel):
        return [(net.encoder, "block")]
    return [(net, "transformer_blocks"), (net, "single_transformer_blocks")]


def blocks_of(net: nn.Module) -> list[nn.Module]:
    """All blocks of a net, in the order in which they compute."""
    return [block for parent, name in block_lists(net) for block in getattr(parent, name)]


@contextmanager
def streaming(net: nn.Module, stream: Stream) -> Iterator[None]:
    """While it lasts, whoever goes through the net's blocks in their order finds each one's weights on the device.

    net: FluxTransformer2DModel, FluxControlNetModel or T5EncoderModel. stream: of its blocks in that order.
    """
    lists = [(parent, name, cast("nn.ModuleList", getattr(parent, name))) for parent, name in block_lists(net)]
    with stream.opened():
        first = 0
        for parent, name, blocks in lists:
            setattr(parent, name, StreamedBlocks(blocks, stream, first))
            first += len(blocks)
        try:
            yield
        finally:
            for parent, name, blocks in lists:
                setattr(parent, name, blocks)
