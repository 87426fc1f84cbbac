"""An allocator that counts, and that really fails: every tensor's bytes from when it is made until nothing holds it."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """While it is entered, counts the bytes of the storages that torch's operators make, and lets `limit` be passed
    never: the operator whose result passes it raises `torch.OutOfMemoryError`, as a card's allocator does.

    What was there before does not count, nor does what a kernel takes and gives back within itself, nor what is made
    `aside`: in main memory, where the processor stands for a device with a memory of its own.
    """

    def __init__(self, limit: int = 0) -> None:
        super().__init__()
        self.limit = limit
        self.live = 0
        self.peak = 0
        self.failures = 0
        self._known: dict[int, int] = {}
        self._is_aside = False

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is made meanwhile is not on the device."""
        before, self._is_aside = self._is_aside, True
        try:
            yield
        finally:
            self._is_aside = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._is_aside:
            return func(*args, **(kwargs or {}))
        given = {_key(one) for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for one in tree_leaves(out):
            if isinstance(one, torch.Tensor) and one.device.type != "meta" and _key(one) not in given:
                self._count(one.untyped_storage())
        if self.limit and self.live > self.limit:
            self.failures += 1
            raise torch.OutOfMemoryError(f"CUDA out of memory. {self.live} of {self.limit} bytes would be in use.")
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known[key] = storage.nbytes()
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live -= self._known.pop(key)


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
