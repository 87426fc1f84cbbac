"""The next layer's weight is unpacked while this layer's product runs: two buffers take turns, in two streams.

Which layer is the next is learned from the first call of the nets in a job. A guess that turns out wrong costs its
unpacking, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made")


class Weight(NamedTuple):
    """What is unpacked, and to what."""

    packed: Tensor
    type_name: str
    dtype: torch.dtype

    @property
    def key(self) -> tuple[int, torch.dtype]:
        """Layers keep their buffers as long as a job lasts, wherever these lie."""
        return id(self.packed), self.dtype


class Side(Protocol):
    """What runs beside the computing."""

    def begin(self, work: Callable[[], None]) -> None:
        """Runs `work` beside what is computed from now on, after all that was computed before."""
        ...

    def join(self) -> None:
        """What is computed from now on comes after all such work."""
        ...


class CudaSide:
    """A stream of its own, ordered by events; the processor waits for neither."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)

    def begin(self, work: Callable[[], None]) -> None:
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            work()

    def join(self) -> None:
        torch.cuda.current_stream(self.device).wait_stream(self.stream)


class Ahead(Generic[Made]):
    """Of one job. unpack: fills the buffer of a number, 0 or 1, in the current stream, and returns it."""

    def __init__(self, side: Side, unpack: Callable[[Weight, int], Made]) -> None:
        self._side, self._unpack = side, unpack
        self._after: dict[tuple[int, torch.dtype], Weight] = {}
        self._last: Weight | None = None
        self._coming: tuple[Weight, Made, Tensor] | None = None
        self._turn = 0

    def take(self, weight: Weight) -> Made:
        """The weight unpacked, for a product that is computed next; it lasts until that product's successor's.

        What was computed before this call is before all that is filled from here on: so the other buffer, which the
        product before this one reads, is free for the next weight.
        """
        coming, self._coming = self._coming, None
        self._turn = 1 - self._turn
        if coming is not None:
            self._side.join()
        made = coming[1] if coming is not None and coming[0].key == weight.key else self._unpack(weight, self._turn)
        if self._last is not None:
            self._after[self._last.key] = weight
        self._last = weight
        following = self._after.get(weight.key)
        if following is not None and following.packed.device == weight.packed.device:
            self._side.begin(lambda: self._come(following))
        return made

    def _come(self, weight: Weight) -> None:
        # The bytes are held until their reading is waited for: their layer may leave the device meanwhile.
        bytes_read = weight.packed.detach()
        self._coming = weight, self._unpack(weight, 1 - self._turn), bytes_read

    def close(self) -> None:
        """What is computed from now on, and freed, comes after all that this has begun."""
        self._coming = None
        self._side.join()
