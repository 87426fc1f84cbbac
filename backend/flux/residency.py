"""Which parts of a model are on the device: what was used least recently leaves when another one needs its place."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Movable(Protocol):
    """A part that lies on the device or rests in main memory."""

    @property
    def is_here(self) -> bool: ...

    def size(self) -> int:
        """Bytes that it takes on the device."""
        ...

    def come(self, check: Callable[[], None] = ...) -> None: ...

    def leave(self) -> None: ...


class Residency:
    """room: bytes that all parts together may take on the device; None for any number.

    What was used least recently leaves first, and nothing does whose place is not needed. Where three are used in turn
    with room for two, one moves at each turn, of which knowing the future would spare every second one; a plan for a
    picture that needs all three has them leave, or stream.

    moves: how often each part came, by its key.
    """

    def __init__(self, room: int | None = None) -> None:
        self.room = room
        self.moves: Counter[Hashable] = Counter()
        self._parts: OrderedDict[Hashable, Movable] = OrderedDict()
        """Those that were used least recently come first."""
        self._held: Counter[Hashable] = Counter()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._parts

    def __getitem__(self, key: Hashable) -> Movable:
        return self._parts[key]

    def add(self, key: Hashable, part: Movable) -> None:
        """Takes a part in, in the place of the one of that key."""
        self._parts[key] = part

    def drop(self, key: Hashable) -> None:
        """Forgets a part that is there no more."""
        self._parts.pop(key, None)

    def here(self) -> list[Hashable]:
        """The parts that are on the device, those that were used least recently first."""
        return [key for key, part in self._parts.items() if part.is_here]

    def use(self, key: Hashable, check: Callable[[], None] = lambda: None) -> None:
        """Sees to it that a part is on the device; others that nobody holds leave where it needs their room.

        Where it does not fit beside those that are held, it comes all the same: whether there is memory is known to the
        device alone.
        """
        part = self._parts[key]
        self._parts.move_to_end(key)
        if part.is_here:
            return
        with self._counted(key):
            self.make_room(part.size())
            part.come(check)
        self.moves[key] += 1

    def leave(self, key: Hashable) -> None:
        """Sends a part away unless somebody holds it."""
        if self._parts[key].is_here and not self._held[key]:
            self._parts[key].leave()

    def make_room(self, size: int) -> None:
        """Sends away what was used least recently, until so many bytes are free beside what is left."""
        if self.room is None:
            return
        sizes = {key: part.size() for key, part in self._parts.items() if part.is_here}
        for key in list(sizes):
            if sum(sizes.values()) + size <= self.room:
                return
            if not self._held[key]:
                self._parts[key].leave()
                del sizes[key]

    def fits_beside_held(self, key: Hashable) -> bool:
        """Whether there is room for a part and all those that are held."""
        if self.room is None:
            return True
        held = sum(part.size() for other, part in self._parts.items() if self._held[other] and other != key)
        return held + self._parts[key].size() <= self.room

    @contextmanager
    def holding(self, key: Hashable, check: Callable[[], None] = lambda: None) -> Iterator[None]:
        """The part is on the device as long as this lasts."""
        self.use(key, check)
        with self._counted(key):
            yield

    @contextmanager
    def _counted(self, key: Hashable) -> Iterator[None]:
        self._held[key] += 1
        try:
            yield
        finally:
            self._held[key] -= 1
