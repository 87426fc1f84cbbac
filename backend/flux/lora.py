"""LoRAs beside a model's layers, or merged into them: put on, weighted anew and taken off without loading it again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch
from torch import nn

from .lora_file import LoraFile, Place, read_lora
from .lora_names import CLIP, T5, Layers
from .low_rank import LowRank, beside, merge, rescale
from .moves import Mover, tensors_of
from .place_weights import replace_layer
from .products import Linear
from .quantised_linear import LowRankLinear

FILES_KEPT = 16
MERGED_SHARE = 0.4
"""Of main memory: how much the layers that are merged may take, as their own weights wait there meanwhile."""


@dataclass(frozen=True, slots=True)
class LoraInput:
    """A LoRA's safetensors file, and what its changes are multiplied by."""

    path: Path
    strength: float


FileKey = tuple[Path, int, int, int]


@dataclass(eq=False, slots=True)
class LoraStack:
    """The LoRAs of one model. layers: its linear layers as they were loaded. dtype: what is computed in.

    merges: whether layers that are not packed get the sum as their weights, which costs nothing in a step; their own
    wait in main memory, sent there by `mover`. Packed layers get one product of low rank beside them, for all LoRAs
    together.
    """

    layers: Layers
    dtype: torch.dtype
    mover: Mover
    merges: bool = False
    files: OrderedDict[FileKey, LoraFile] = field(default_factory=OrderedDict)
    used: tuple[tuple[FileKey, float], ...] = ()
    replaced: dict[Place, nn.Module] = field(default_factory=dict)
    """What is in the place of the model's own layers."""

    def use(self, loras: Sequence[LoraInput]) -> bool:
        """Makes the model what it is with these LoRAs and no others; at a strength of 0 one is not there.

        Returns whether the text encoders are now others. Raises `FailureError`, and leaves the model as it was, where
        a file is missing, damaged or for another model.
        """
        keys = [(_key(lora.path), lora) for lora in loras if lora.strength != 0.0]
        files = [self._file(key, lora.path) for key, lora in keys]
        used = tuple((key, lora.strength) for key, lora in keys)
        if used == self.used:
            return False
        before = {net for net, _ in self.replaced}
        wanted: dict[Place, list[LowRank]] = {}
        for file, (_, strength) in zip(files, used, strict=True):
            for place, part in file.ranks.items():
                wanted.setdefault(place, []).append(part.times(strength))
        is_same = [key for key, _ in used] == [key for key, _ in self.used]
        self.used = ()
        try:
            if not is_same:
                self._take_off()
                # What was loaded may have been put in another form since.
                self.layers = self.layers.anew()
            for place, parts in wanted.items():
                self._put(place, parts)
        except BaseException:
            self._take_off()
            raise
        self.used = used
        return bool({CLIP, T5} & (before | {net for net, _ in self.replaced}))

    def are_used(self, loras: Sequence[LoraInput]) -> bool:
        """Whether the model is so already."""
        return self.used == tuple((_key(lora.path), lora.strength) for lora in loras if lora.strength != 0.0)

    @contextmanager
    def off(self) -> Iterator[None]:
        """While it lasts the model is without LoRAs, and its layers may be put in another form."""
        used, self.used = self.used, ()
        self._take_off()
        yield
        self.layers = self.layers.anew()
        self.use([LoraInput(key[0], strength) for key, strength in used])

    def plan(self) -> dict[str, str]:
        """What was done about each LoRA, by its name."""
        merged = sum(not isinstance(layer, LowRankLinear) for layer in self.replaced.values())
        how = "merged" if merged == len(self.replaced) else "beside" if not merged else "merged and beside"
        files = [self.files[key] for key, _ in self.used]
        return {file.name: f"layers: {len(file.ranks)}, rank {file.rank}, {how}" for file in files}

    def _file(self, key: FileKey, path: Path) -> LoraFile:
        """As it was read now or before; a file that has changed is read again."""
        if key not in self.files:
            self.files[key] = read_lora(path, self.layers)
        self.files.move_to_end(key)
        while len(self.files) > FILES_KEPT:
            self.files.popitem(last=False)
        return self.files[key]

    def _put(self, place: Place, parts: list[LowRank]) -> None:
        net, name = place
        own, there = self.layers.by_net[net][name], self.replaced.get(place)
        if isinstance(there, LowRankLinear):
            rescale(there, own, parts)
        elif isinstance(there, nn.Linear) and isinstance(own, nn.Linear):
            bias = None if own.bias is None else self.mover.copy(own.bias)
            merge(self.mover.copy(own.weight), bias, parts, there)
        elif self.merges and isinstance(own, nn.Linear):
            merged = _empty_like(own, parts)
            merge(own.weight, own.bias, parts, merged)
            self._replace(place, merged)
            for tensor in tensors_of(own):
                self.mover.send(tensor)
        else:
            self._replace(place, beside(own, parts, self.dtype))

    def _replace(self, place: Place, layer: nn.Module) -> None:
        replace_layer(self.layers.nets[place[0]], place[1], layer)
        self.replaced[place] = layer

    def _take_off(self) -> None:
        """Puts the model's own layers back: the same modules, their weights to the bit what they were."""
        for (net, name), layer in list(self.replaced.items()):
            own = self.layers.by_net[net][name]
            if not isinstance(layer, LowRankLinear) and all(map(self.mover.is_here, tensors_of(layer))):
                for tensor in tensors_of(own):
                    self.mover.bring(tensor)
            replace_layer(self.layers.nets[net], name, own)
            del self.replaced[net, name]


def loras_of(nets: Mapping[str, nn.Module], inner_dim: int, dtype: torch.dtype, mover: Mover) -> LoraStack:
    """No LoRAs yet. nets: by their folders' names. inner_dim: the transformer's width. mover: of their weights."""
    layers = Layers(nets, inner_dim)
    return LoraStack(layers, dtype, mover, merges_fit(layers, psutil.virtual_memory().total, mover))


def merges_fit(layers: Layers, main_memory: int, mover: Mover) -> bool:
    """Whether there is room to merge: layers that are not packed wait in main memory (bytes) beside all else there.

    Those that can be unpacked again take none.
    """
    plain = [layer for net in layers.by_net.values() for layer in net.values() if isinstance(layer, nn.Linear)]
    waiting = [layer.weight.nbytes for layer in plain if not mover.is_unpacked(layer.weight)]
    return sum(waiting) <= MERGED_SHARE * main_memory


def _empty_like(own: nn.Linear, parts: list[LowRank]) -> nn.Linear:
    has_bias = own.bias is not None or any(part.bias is not None for part in parts)
    with torch.device("meta"):
        layer = Linear(own.in_features, own.out_features, bias=has_bias)
    layer.weight = nn.Parameter(torch.empty_like(own.weight), requires_grad=False)
    if has_bias:
        layer.bias = nn.Parameter(own.weight.new_empty(own.out_features), requires_grad=False)
    return layer.eval()


def _key(path: Path) -> FileKey:
    try:
        status = path.stat()
    except OSError:
        return path, 0, 0, 0
    return path, status.st_size, status.st_mtime_ns, status.st_ino
