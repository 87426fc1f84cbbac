"""Judges pictures: where edges are, what hue a thing has, what material. Nothing here knows how a picture was made.

python -m backend.sample.judge --work FOLDER --out FILE      trains the one that names materials
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .dataset import GROUPS, Sample, make_sample, read_shard, shard_path
from .training import Stage, generator_of, run_stage
from .world.looks import HUES, MATERIALS
from .world.meshes import Floats
from .world.scenes import GROUND, SUBJECT

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]
EDGE = 0.05
"""A step of this height in display values, over two pixels, is an edge."""
REACH = 2
"""Pixels that an edge may be off."""
CROP = 64
SCENES = 260
CALIBRATION = 71_000
CLEAR_LIGHTS = ("studio", "sunny", "overcast")
"""Those in which a colour looks like itself."""


def edges(picture: Picture) -> Mask:
    """(height, width): ridges of the colour's slope."""
    image = picture.astype(np.float32) / 255.0
    smooth = _blurred(image)
    across, down = np.zeros_like(smooth), np.zeros_like(smooth)
    across[:, 1:-1] = (smooth[:, 2:] - smooth[:, :-2]) / 2
    down[1:-1] = (smooth[2:] - smooth[:-2]) / 2
    steep_x, steep_y = np.abs(across).max(2), np.abs(down).max(2)
    steep = np.hypot(steep_x, steep_y)
    ridge = np.zeros(steep.shape, bool)
    inner = steep[1:-1, 1:-1]
    is_upright = steep_x[1:-1, 1:-1] >= steep_y[1:-1, 1:-1]
    beside = (inner >= steep[1:-1, :-2]) & (inner > steep[1:-1, 2:])
    above = (inner >= steep[:-2, 1:-1]) & (inner > steep[2:, 1:-1])
    ridge[1:-1, 1:-1] = np.where(is_upright, beside, above) & (inner > EDGE / 2)
    return ridge


def _blurred(image: Floats) -> Floats:
    """By 1, 2, 1 in both directions."""
    padded = np.pad(image, ((1, 1), (0, 0), (0, 0)), mode="edge")
    image = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    padded = np.pad(image, ((0, 0), (1, 1), (0, 0)), mode="edge")
    return (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4


def edge_recall(picture: Picture, line: Mask) -> float:
    """The part of the map's lines that have an edge of the picture within REACH pixels. line: (height, width)."""
    near = edges(picture)
    wide = np.zeros_like(near)
    height, width = near.shape
    padded = np.pad(near, REACH)
    for y in range(2 * REACH + 1):
        for x in range(2 * REACH + 1):
            if np.hypot(y - REACH, x - REACH) <= REACH + 0.3:
                wide |= padded[y : y + height, x : x + width]
    return float(wide[line].mean()) if line.any() else 1.0


def oklab(picture: Picture) -> Floats:
    """(n, 3) display values 0..255 -> Oklab (Ottosson 2020)."""
    value = picture.reshape(-1, 3).astype(np.float32) / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    cone = np.array(
        [[0.41222147, 0.53633254, 0.05144599], [0.2119035, 0.6806995, 0.10739696], [0.08830246, 0.28171884, 0.6299787]]
    )
    mix = np.array(
        [
            [0.21045426, 0.79361779, -0.00407205],
            [1.97799850, -2.42859221, 0.45059371],
            [0.02590404, 0.78277177, -0.80867577],
        ]
    )
    return (np.cbrt(linear @ cone.T) @ mix.T).astype(np.float32)


def typical_colour(picture: Picture, mask: Mask) -> Floats:
    """(3,) Oklab: the median of the more colourful half of what is masked, since patterns have a pale half."""
    colours = oklab(picture[mask])
    chroma = np.hypot(colours[:, 1], colours[:, 2])
    return np.median(colours[chroma >= np.median(chroma)], axis=0)


class ColourJudge:
    """Names the hue of a surface: the nearest of the eight as they look in rendered pictures."""

    def __init__(self, centres: dict[str, Floats]) -> None:
        """centres: hue -> its typical colour, Oklab."""
        self.centres = centres

    def name(self, picture: Picture, mask: Mask) -> str:
        """One of HUES."""
        distances = self._distances(picture, mask)
        return min(distances, key=distances.__getitem__)

    def margin(self, picture: Picture, mask: Mask, hue: str) -> float:
        """How much nearer the colour is to `hue` than to the nearest other, in Oklab; below 0 where it is not."""
        distances = self._distances(picture, mask)
        return min(value for name, value in distances.items() if name != hue) - distances[hue]

    def _distances(self, picture: Picture, mask: Mask) -> dict[str, float]:
        """Lightness counts a third: light and shade differ between pictures."""
        colour = typical_colour(picture, mask)
        weight = np.array([0.33, 1.0, 1.0])
        return {hue: float(np.linalg.norm((centre - colour) * weight)) for hue, centre in self.centres.items()}


def colour_judges(scenes: int = SCENES) -> tuple[ColourJudge, ColourJudge]:
    """Of things and of grounds, calibrated on rendered pictures in light that shows colours."""
    found: dict[int, dict[str, list[Floats]]] = {part: {hue: [] for hue in HUES} for part in (SUBJECT, GROUND)}
    for index in range(scenes):
        sample = make_sample((CALIBRATION, index), 96, 96)
        for look, picture in zip(sample.looks, sample.pictures, strict=True):
            for part, surface in ((SUBJECT, look.subject), (GROUND, look.ground)):
                mask = sample.parts == part
                if surface.colour in HUES and look.light in CLEAR_LIGHTS and mask.sum() > 200:
                    found[part][surface.colour].append(typical_colour(picture, mask))
    things, grounds = (
        ColourJudge({hue: np.median(colours, axis=0) for hue, colours in found[part].items()})
        for part in (SUBJECT, GROUND)
    )
    return things, grounds


class MaterialJudge(nn.Module):
    """Names the material from crops of 64 x 64 pixels; what is not the thing is grey in them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(11)
        widths = (3, 24, 48, 64, 64)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], len(MATERIALS))

    def forward(self, crops: Tensor) -> Tensor:
        return self.head(self.body(crops).mean((2, 3)))

    @torch.no_grad()
    def name(self, picture: Picture, mask: Mask) -> str:
        """One of MATERIALS: what most crops say."""
        crops = torch.stack([crop_of(picture, mask, generator_of(8, index)) for index in range(9)])
        return MATERIALS[int(self(crops).log_softmax(1).mean(0).argmax())]


def crop_of(picture: Picture, mask: Mask, chance: torch.Generator) -> Tensor:
    """(3, 64, 64) around a random pixel of the mask, -1..1, 0 outside the mask."""
    rows, columns = np.nonzero(mask)
    at = int(torch.randint(len(rows), (1,), generator=chance))
    top = int(np.clip(rows[at] - CROP // 2, 0, picture.shape[0] - CROP))
    left = int(np.clip(columns[at] - CROP // 2, 0, picture.shape[1] - CROP))
    window = np.s_[top : top + CROP, left : left + CROP]
    values = (picture[window].astype(np.float32) / 127.5 - 1.0) * mask[window][..., None]
    return torch.from_numpy(values).permute(2, 0, 1)


def train_material_judge(work: Path, samples: list[Sample], steps: int) -> MaterialJudge:
    """Learns from rendered pictures of 256 x 256 pixels; its checkpoint goes to `work`."""
    judge = MaterialJudge()
    seen = [
        (picture, sample.parts == SUBJECT, MATERIALS.index(look.subject.material))
        for sample in samples
        for look, picture in zip(sample.looks, sample.pictures, strict=True)
        if (sample.parts == SUBJECT).sum() > 2000 and look.light != "night"
    ]
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3)

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        chance = generator_of(9, step)
        picks = torch.randint(len(seen), (48,), generator=chance).tolist()
        crops = torch.stack([crop_of(seen[pick][0], seen[pick][1], chance) for pick in picks])
        # A painted picture is flatter or harsher than a rendered one; that may not decide.
        crops = crops * (0.85 + 0.3 * torch.rand((48, 1, 1, 1), generator=chance))
        labels = torch.tensor([seen[pick][2] for pick in picks])
        scores = judge(crops)
        right = (scores.argmax(1) == labels).float().mean().item()
        loss = cross_entropy(scores, labels)
        return loss, {"loss": loss.item(), "right": right}

    run_stage(Stage("judge", steps, 2e-3), work, {"judge": judge}, [optimizer], step_loss)
    return judge.eval().requires_grad_(False)


def save_judge(judge: MaterialJudge, path: Path) -> None:
    save_file({name: value.half().contiguous() for name, value in judge.state_dict().items()}, path)


def load_judge(path: Path) -> MaterialJudge:
    judge = MaterialJudge()
    judge.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return judge.eval().requires_grad_(False)


def right_on_renders(judge: MaterialJudge, count: int = 60) -> float:
    """The share of rendered pictures that it did not learn from in which it names the material."""
    hits, seen, index = 0, 0, 0
    while seen < count:
        sample = make_sample((CALIBRATION, 10_000 + index), 256, 256)
        index += 1
        for look, picture in zip(sample.looks, sample.pictures, strict=True):
            if (sample.parts == SUBJECT).sum() > 2000 and look.light != "night":
                hits += judge.name(picture, sample.parts == SUBJECT) == look.subject.material
                seen += 1
    return hits / seen


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains the material judge on the training's data.")
    parser.add_argument("--work", type=Path, required=True, help="the training's work folder")
    parser.add_argument("--out", type=Path, required=True, help="the judge's weights")
    parser.add_argument("--steps", type=int, default=900)
    arguments = parser.parse_args()
    samples = [
        sample for shard in range(16) for sample in read_shard(shard_path(arguments.work / "data", GROUPS[0], shard))
    ]
    judge = train_material_judge(arguments.work, samples, arguments.steps)
    save_judge(judge, arguments.out)
    print(f"right on rendered pictures that it did not learn from: {right_on_renders(judge):.0%}")


if __name__ == "__main__":
    main()
