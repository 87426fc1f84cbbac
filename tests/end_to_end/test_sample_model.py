"""The model that ships, on ten Blender scenes that it never saw: captured, painted and judged from within Blender."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy
import numpy as np
import pytest

from tests.addon.fakes import module, ops
from tools import ten_scenes

SIZE = ten_scenes.SIZE
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def nothing_downloaded(ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has installed the add-on and downloaded nothing."""
    monkeypatch.delenv("GRISAILLE_MODELS")


def painted(kind: str, prompt: str, seed: int) -> np.ndarray:
    """(height, width, 3) uint8 of a picture that Generate made of the open scene, top row first."""
    chosen = bpy.context.scene.grisaille  # pyright: ignore[reportAttributeAccessIssue]
    chosen.size_mode, chosen.width, chosen.height = "CUSTOM", SIZE, SIZE
    assert chosen.model == "sample"
    assert ops().generate(prompt=prompt, controls=f"{kind}:1.0", seed=seed, steps=12) == {"FINISHED"}
    image = bpy.context.scene.grisaille_history[0].image  # pyright: ignore[reportAttributeAccessIssue]
    pixels = np.empty(SIZE * SIZE * 4, np.float32)
    image.pixels.foreach_get(pixels)
    return np.rint(pixels.reshape(SIZE, SIZE, 4)[::-1, :, :3] * 255).astype(np.uint8)


def steps_near(picture: np.ndarray, line: np.ndarray) -> float:
    """The part of the line's pixels with a step in the picture's colours within two pixels."""
    values = picture.astype(np.float32) / 255
    steep = np.zeros(line.shape, np.float32)
    steep[:, 1:-1] = np.abs(values[:, 2:] - values[:, :-2]).max(2)
    steep[1:-1] = np.maximum(steep[1:-1], np.abs(values[2:] - values[:-2]).max(2))
    is_edge = steep > 0.1
    padded = np.pad(is_edge, 2)
    height, width = line.shape
    near = np.logical_or.reduce([padded[y : y + height, x : x + width] for y in range(5) for x in range(5)])
    return float(near[line].mean())


def test_ten_scenes_are_followed_without_a_download(nothing_downloaded: None) -> None:
    capture: Callable[..., Any] = module("addon.capture.capture").capture_camera
    pictures, lines, reds = [], [], []
    for index, name in enumerate(ten_scenes.SCENES):
        ten_scenes.build(name)
        seen = ten_scenes.captured(capture)
        kind = ("depth", "normal", "line")[index % 3]
        picture = painted(kind, "a red matte object on a grey matte floor, overcast", index)
        pictures.append(picture)
        lines.append(seen["line"] > 0.5)
        thing = np.median(picture[seen["subject"]], axis=0)
        reds.append(thing[0] > 1.3 * max(thing[1], thing[2]))
    count = len(pictures)
    own = np.mean([steps_near(pictures[i], lines[i]) for i in range(count)])
    other = np.mean([steps_near(pictures[i], lines[(i + 1) % count]) for i in range(count)])
    assert own - other >= 0.30, (own, other)
    assert np.mean(reds) >= 0.6, reds
