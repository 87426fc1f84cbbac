"""How much of a disk and of a device a model's parts take, by their files' headers; no weight is read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .model_folder import ControlNetEntry, ModelFolder
from .shapes import NetShape, TextShape, net_shape, text_shape, vae_channels

WEIGHTS = (".safetensors", ".gguf")
HEADER_MAX = 100_000_000
"""Bytes of a safetensors header: safetensors' own limit."""
BYTES_A_WEIGHT = {"Q8_0": 34 / 32, "Q5_1": 24 / 32, "Q5_0": 22 / 32, "Q4_1": 20 / 32, "Q4_0": 18 / 32}
FORMAT_IN_NAME = re.compile(
    r"(?i)(?<![a-z0-9])(i?q\d_(?:k_[sml]|k|[01]|nl|xs)|bf16|fp?16|fp?32|fp?8(?:_e\dm\d(?:fn)?)?)"
)


@dataclass(frozen=True, slots=True)
class Stored:
    """packed: bytes that are kept as they are in the file. loose: weights that take the device's number format."""

    packed: int = 0
    loose: int = 0

    def bytes_of(self, itemsize: int) -> int:
        """On a device that computes with `itemsize` bytes a number."""
        return self.packed + self.loose * itemsize

    def __add__(self, other: Stored) -> Stored:
        return Stored(self.packed + other.packed, self.loose + other.loose)


NOTHING = Stored()


@dataclass(frozen=True, slots=True)
class NetSizes:
    """A ControlNet."""

    stored: Stored
    shape: NetShape | None = None


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """transformer: bytes of its files, which is what it takes packed. shape: None where it cannot be told.

    number_format: such as "Q4_K_S", as the file is called, or "". encoders: CLIP and T5. t5: of those, T5. nets: by
    their folders. redux: what reads a reference picture. control_lora: bytes of the file that makes a Depth or Canny
    model of a dev one. files: bytes of all of these files.
    """

    transformer: int
    shape: NetShape | None = None
    number_format: str = ""
    encoders: Stored = NOTHING
    t5: Stored = NOTHING
    text: TextShape = field(default_factory=TextShape)
    vae: Stored = NOTHING
    vae_channels: tuple[int, ...] = (128, 256, 512, 512)
    nets: dict[Path, NetSizes] = field(default_factory=dict)
    redux: Stored = NOTHING
    control_lora: int = 0
    files: int = 0


def model_sizes(folder: ModelFolder) -> ModelSizes:
    """What a model's weights take; files that are not there count as nothing."""
    t5 = weights_in(folder.parts["text_encoder_2"])
    encoders = [*weights_in(folder.parts["text_encoder"]), *t5]
    redux = [path for part in folder.redux or () for path in weights_in(part)]
    nets = [path for net in folder.controlnets for path in weights_in(net.folder)]
    lora = [folder.control_lora] if folder.control_lora is not None else []
    transformer, vae = transformer_files(folder), weights_in(folder.parts["vae"])
    return ModelSizes(
        transformer=sum(map(_bytes, transformer)),
        shape=net_shape(folder.transformer_config),
        number_format=number_format(folder.transformer.name),
        encoders=_stored(encoders),
        t5=_stored(t5),
        text=text_shape(folder.parts["text_encoder_2"] / "config.json"),
        vae=_stored(vae),
        vae_channels=vae_channels(folder.parts["vae"] / "config.json"),
        nets={net.folder: _net_sizes(net) for net in folder.controlnets},
        redux=_stored(redux),
        control_lora=sum(map(_bytes, lora)),
        files=sum(map(_bytes, (*transformer, *encoders, *vae, *nets, *redux, *lora))),
    )


def transformer_files(folder: ModelFolder) -> list[Path]:
    """Those that are there: the file, or all shards beside their list."""
    is_in_shards = folder.transformer.suffix == ".json"
    found = weights_in(folder.transformer.parent) if is_in_shards else [folder.transformer]
    return [path for path in found if path.is_file()]


def number_format(name: str) -> str:
    """ "flux1-dev-Q4_K_S.gguf" -> "Q4_K_S"; "" where the name says none."""
    found = FORMAT_IN_NAME.findall(name)
    return found[-1].upper() if found else ""


def weights_in(folder: Path) -> list[Path]:
    """The files of weights in a folder, or in what is a file the file itself."""
    if folder.is_file():
        return [folder]
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in WEIGHTS)
    except OSError:
        return []


def _net_sizes(net: ControlNetEntry) -> NetSizes:
    stored = _stored(weights_in(net.folder))
    if net.weights:
        stored = Stored(stored.packed + round(stored.loose * BYTES_A_WEIGHT[net.weights]))
    return NetSizes(stored, net_shape(net.folder / "config.json"))


def _stored(paths: Iterable[Path]) -> Stored:
    total = Stored()
    for path in paths:
        total += Stored(packed=_bytes(path)) if path.suffix == ".gguf" else Stored(loose=weights_of(path))
    return total


def weights_of(path: Path) -> int:
    """How many weights a safetensors file holds, by its header; half its bytes where that cannot be read."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > HEADER_MAX:
                raise ValueError
            header = json.loads(file.read(length))
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return _bytes(path) // 2


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
