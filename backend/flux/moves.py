"""Weights between main memory and the device that computes: who lies where, and what was moved.

A tensor keeps its identity while it moves: only its storage changes, so that LoRAs, compiled code and tied layers go
on holding the same one. Weights never change after they are loaded, so what came from main memory need not be copied
back: the copy there is taken up again.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from .unpack import unpacked

CPU = torch.device("cpu")
PINNED_SHARE = 0.5
"""Of the main memory that is free: how much may be pinned, which the system can neither move nor page out."""


@dataclass(frozen=True, eq=False, slots=True)
class Packed:
    """What an unpacked weight is made of when it comes.

    packed: (rows, bytes per row) uint8 in main memory. shape: of the weight.
    """

    packed: Tensor
    type_name: str
    shape: tuple[int, int]


def is_apart(device: torch.device) -> bool:
    """Whether a device has a memory of its own, so that leaving it makes room."""
    return device.type == "cuda"


def pinned_limit() -> int:
    """Bytes that may be pinned for a model that is loaded now."""
    return int(PINNED_SHARE * psutil.virtual_memory().available)


class Mover:
    """Brings tensors to one device and sends them away, and counts bytes.

    came, left: bytes copied to the device and back so far. pinned: bytes of main memory that are pinned for it.
    """

    def __init__(self, device: torch.device, pinned_room: int | None = None) -> None:
        """pinned_room: bytes at most; None for a share of what is free."""
        self.device, self.apart = device, is_apart(device)
        self.came = self.left = self.pinned = 0
        self.pinned_room = pinned_limit() if pinned_room is None else pinned_room
        self._pinned_at: set[int] = set()
        # What a loaded tensor is in main memory, a Tensor or Packed; None while only the device has it.
        self._sources: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._away: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def load(self, tensors: Iterable[Tensor]) -> None:
        """Takes in tensors that were loaded, in main memory still, and will not change."""
        for tensor in tensors:
            if self.apart and tensor not in self._sources and tensor.device == CPU:
                self._sources[tensor], self._away[tensor] = tensor.data, True

    def set_source(self, tensor: Tensor, source: Tensor | Packed) -> None:
        """Says what a tensor is made of when it comes, in main memory; from now on it is away."""
        self._sources[tensor], self._away[tensor] = source, True
        tensor.data = _absent(source.shape, tensor.dtype) if isinstance(source, Packed) else source

    def is_loaded(self, tensor: Tensor) -> bool:
        """Whether it is as it was loaded, not a LoRA's, say, which may change."""
        return tensor in self._sources

    def is_unpacked(self, tensor: Tensor) -> bool:
        """Whether it is made of packed weights, which stay in main memory."""
        return isinstance(self._sources.get(tensor), Packed)

    def is_here(self, tensor: Tensor) -> bool:
        return tensor not in self._away and tensor.device.type == self.device.type

    def bring(self, tensor: Tensor, again: bool = False, keep: bool = False) -> None:
        """Puts a tensor on the device.

        again: it will leave and come again, so that its copy in main memory is kept, and pinned. keep: it is kept
        anyway, as the file's own pages.
        """
        if self.is_here(tensor):
            return
        is_loaded = tensor in self._sources
        source = self._sources[tensor] if is_loaded else tensor.data
        if isinstance(source, Packed):
            tensor.data = self._unpacked(source, tensor.dtype)
        else:
            source = self.pin(source) if again else source
            tensor.data = source.to(self.device, non_blocking=True, copy=True)
            self.came += tensor.nbytes
            if is_loaded:
                self._sources[tensor] = source if again or keep else None
        self._away.pop(tensor, None)

    def send(self, tensor: Tensor) -> None:
        """Frees a tensor's memory on the device."""
        if not self.apart or not self.is_here(tensor):
            return
        source = self._sources.get(tensor)
        if isinstance(source, Packed):
            tensor.data = _absent(source.shape, tensor.dtype)
        elif source is not None:
            tensor.data = source
        else:
            self.left += tensor.nbytes
            tensor.data = tensor.to(CPU, copy=True)
            if tensor in self._sources:
                self._sources[tensor] = tensor.data
        self._away[tensor] = True

    def copy(self, tensor: Tensor, again: bool = False) -> Tensor:
        """A copy on the device of a tensor that stays away; itself where it is here. again: more copies will follow."""
        if self.is_here(tensor):
            return tensor
        source = self._sources.get(tensor)
        if isinstance(source, Packed):
            return self._unpacked(source, tensor.dtype)
        if again and source is not None:
            self.set_source(tensor, self.pin(source))
        self.came += tensor.nbytes
        return tensor.to(self.device, non_blocking=True, copy=True)

    def _unpacked(self, source: Packed, dtype: torch.dtype) -> Tensor:
        on_device = source.packed.to(self.device)
        self.came += on_device.nbytes
        return unpacked(on_device, source.type_name, dtype)

    def pin(self, host: Tensor) -> Tensor:
        """The same in pinned memory, from which copies need no stop in between; as it is where the limit is reached."""
        if host.untyped_storage().data_ptr() in self._pinned_at:
            return host
        pinned = self.new_pinned(host.nbytes)
        if pinned is None:
            return host
        return pinned.view(host.dtype).view(host.shape).copy_(host)

    def new_pinned(self, size: int) -> Tensor | None:
        """(size,) uint8 of pinned main memory; None where the limit is reached, or nothing is gained by it."""
        taken = 1 << max(9, (size - 1).bit_length())  # torch's allocator takes powers of 2
        if not self.apart or not size or self.pinned + taken > self.pinned_room:
            return None
        found = torch.empty(size, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        self.pinned += taken
        self._pinned_at.add(found.data_ptr())
        weakref.finalize(found.untyped_storage(), self._unpin, found.data_ptr(), taken)
        return found

    def _unpin(self, place: int, size: int) -> None:
        self.pinned -= size
        self._pinned_at.discard(place)


def _absent(shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """A weight that is not there, which takes no memory: whatever is computed with it is no number."""
    return torch.full((), torch.nan, dtype=dtype).expand(shape)


class Part:
    """Weights that come and go together: a network, or some of its layers.

    tensors: gives them as they are at the moment, as LoRAs put layers in and take them out. again: whether they will
    come again after they left, so that their copies in main memory are kept. keep: whether they are kept anyway.
    """

    def __init__(self, mover: Mover, tensors: Callable[[], list[Tensor]], *, keep: bool = False) -> None:
        self.mover, self.tensors, self.keep, self.again = mover, tensors, keep, False
        self.is_here = False
        mover.load(tensors())

    def size(self) -> int:
        """Bytes on the device, now or when it comes."""
        return sum(one.nbytes for one in self.tensors())

    def come(self, check: Callable[[], None] = lambda: None) -> None:
        """check: called between tensors; ends the coming by raising, and what came stays."""
        if self.is_here:
            return
        for tensor in self.tensors():
            if not self.mover.is_here(tensor):
                check()
                self.mover.bring(tensor, self.again, self.keep)
        self.is_here = True

    def leave(self) -> None:
        """Where the device has no memory of its own, nothing leaves."""
        if not self.mover.apart:
            return
        self.again = True  # what had to leave once will have to again
        for tensor in self.tensors():
            self.mover.send(tensor)
        self.is_here = False


def tensors_of(*modules: nn.Module) -> list[Tensor]:
    """All parameters and buffers of these modules and of those in them, each once."""
    found = {id(one): one for module in modules for one in (*module.parameters(), *module.buffers())}
    return list(found.values())
