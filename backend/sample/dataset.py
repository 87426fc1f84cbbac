"""The training data on disk: shards of rendered scenes, made once, by all cores, from a seed."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from tqdm import tqdm

from ..flux.control_pictures import control_picture
from .nets import CONTROL_RECIPES
from .world.captions import random_caption
from .world.looks import Appearance, Look, random_appearance
from .world.render import Rendered, render
from .world.scenes import Scene, random_scene
from .world.shapes import TRAINING, Shape

LOOKS = 2
CAPTIONS = 4
"""Captions of each picture, of which training takes one at a time."""


@dataclass(frozen=True)
class Group:
    """Scenes of one size, in pixels."""

    width: int
    height: int
    scenes: int

    @property
    def name(self) -> str:
        return f"{self.width}x{self.height}"


GROUPS = (
    Group(256, 256, 1400),
    Group(320, 208, 400),
    Group(208, 320, 400),
    Group(512, 512, 150),
    Group(640, 384, 50),
    Group(384, 640, 50),
    Group(768, 768, 50),
)


@dataclass(frozen=True, eq=False)
class Sample:
    """One scene. pictures: (looks, height, width, 3) uint8. controls: kind -> (height, width, 3) uint8.

    parts: (height, width) int8. looks: an Appearance for each picture. captions: (looks, CAPTIONS) texts.
    """

    pictures: NDArray[np.uint8]
    controls: dict[str, NDArray[np.uint8]]
    parts: NDArray[np.int8]
    looks: list[Appearance]
    captions: list[list[str]]

    def halved(self) -> Sample:
        """At half the size: pictures averaged, controls as a capture of that size would be, nearly."""
        pictures = self.pictures.astype(np.uint16)
        mean = (
            pictures[:, ::2, ::2] + pictures[:, 1::2, ::2] + pictures[:, ::2, 1::2] + pictures[:, 1::2, 1::2] + 2
        ) // 4
        controls = {kind: np.ascontiguousarray(picture[::2, ::2]) for kind, picture in self.controls.items()}
        line = self.controls["line"]
        # A line is as wide at any size.
        controls["line"] = np.maximum.reduce([line[y::2, x::2] for y in (0, 1) for x in (0, 1)])
        return Sample(mean.astype(np.uint8), controls, self.parts[::2, ::2], self.looks, self.captions)


def make_scene(
    seed: tuple[int, ...], width: int, height: int, shapes: dict[str, Shape] = TRAINING
) -> tuple[Scene, list[Appearance], Rendered, Generator]:
    """The scene that a seed stands for, in LOOKS appearances, and the generator as it is afterwards."""
    rng = np.random.default_rng(seed)
    scene = random_scene(rng, shapes)
    looks = [random_appearance(rng, scene.shapes[1] is not None, scene.background) for _ in range(LOOKS)]
    return scene, looks, render(scene, looks, width, height, rng), rng


def make_sample(seed: tuple[int, ...], width: int, height: int, shapes: dict[str, Shape] = TRAINING) -> Sample:
    """That scene as training data."""
    scene, looks, rendered, rng = make_scene(seed, width, height, shapes)
    controls = {kind: control_picture(rendered.maps, kind, recipe) for kind, recipe in CONTROL_RECIPES.items()}
    captions = [[random_caption(rng, look, scene.shapes) for _ in range(CAPTIONS)] for look in looks]
    return Sample(np.stack(rendered.pictures), controls, rendered.parts, looks, captions)


def make_dataset(folder: Path, seed: int, share: float = 1.0, shard_scenes: int = 50) -> None:
    """Writes the shards that are not there yet, on all cores. share: times each group's scenes, below 1 for a try."""
    folder.mkdir(parents=True, exist_ok=True)
    orders = [
        (folder, seed, number, group, shard, shard_scenes)
        for number, group in enumerate(GROUPS)
        for shard in range(round(group.scenes * share / shard_scenes))
        if not shard_path(folder, group, shard).exists()
    ]
    # A few of every size first, so that a look at what is there so far sees them all.
    orders.sort(key=lambda order: (order[4] // 4, order[2]))
    # Not by fork: torch has threads, when this is called in a training.
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for _ in tqdm(pool.imap_unordered(_make_shard, orders), total=len(orders), desc="rendering", unit="shard"):
            pass


def shard_path(folder: Path, group: Group, shard: int) -> Path:
    return folder / f"{group.name}-{shard:04d}.npz"


def _make_shard(order: tuple[Path, int, int, Group, int, int]) -> None:
    folder, seed, number, group, shard, scenes = order
    path = shard_path(folder, group, shard)
    arrays: dict[str, Any] = {}
    texts = []
    for index in range(scenes):
        sample = make_sample((seed, number, shard, index), group.width, group.height)
        arrays |= {f"{index}.pictures": sample.pictures, f"{index}.parts": sample.parts}
        arrays |= {f"{index}.{kind}": _packed(kind, picture) for kind, picture in sample.controls.items()}
        texts.append({"looks": [asdict(look) for look in sample.looks], "captions": sample.captions})
    arrays["texts"] = np.frombuffer(json.dumps(texts).encode(), np.uint8)
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
    partial.replace(path)


def _packed(kind: str, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return picture if kind == "normal" else picture[..., 0]


def read_shard(path: Path) -> Iterator[Sample]:
    """The scenes of one shard."""
    with np.load(path, allow_pickle=False) as arrays:
        texts = json.loads(arrays["texts"].tobytes())
        for index, text in enumerate(texts):
            controls = {kind: arrays[f"{index}.{kind}"] for kind in CONTROL_RECIPES}
            controls = {k: v if v.ndim == 3 else np.repeat(v[..., None], 3, 2) for k, v in controls.items()}
            looks = [read_look(look) for look in text["looks"]]
            yield Sample(arrays[f"{index}.pictures"], controls, arrays[f"{index}.parts"], looks, text["captions"])


def read_look(table: dict[str, Any]) -> Appearance:
    """An Appearance from its `asdict`."""
    surfaces = {name: Look(**table[name]) if table[name] else None for name in ("subject", "ground", "second")}
    return Appearance(**{**table, **surfaces})
