"""The model card, written from what was measured:  python -m backend.sample.card --work FOLDER"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from pathlib import Path
from typing import Any

import torch

from . import model_folder
from .train import DEFAULT_WORK
from .training import progress_of
from .world.looks import COLOURS, LIGHTS, MATERIALS
from .world.shapes import HELD_OUT, TRAINING

STAGES = (
    "text",
    "vae",
    "control",
    "flow",
    "polish",
    "detail",
    "latent-judge",
    "material",
    "looks",
    "guidance",
    "line-reader",
    "follow",
    "style",
)
PARTS = {
    "transformer (GGUF, Q8_0)": "transformer.gguf",
    "union ControlNet": "controlnet/diffusion_pytorch_model.safetensors",
    "VAE": "vae/diffusion_pytorch_model.safetensors",
    "T5": "text_encoder_2/model.safetensors",
    "CLIP": "text_encoder/model.safetensors",
    "style LoRA": "loras/woodcut.safetensors",
}


def card(folder: Path, work: Path, figures: dict[str, Any]) -> str:
    """Markdown. folder: the model's. work: the training's, for steps and times."""
    sizes = "\n".join(f"| {name} | {_size(folder / file)} |" for name, file in PARTS.items())
    stages = "\n".join(f"| {name} | {steps} | {seconds / 60:.0f} |" for name, (steps, seconds) in _stages(work).items())
    device = "one GPU" if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU cores ({platform.machine()})"
    rows = "\n".join(f"| {name} | {value} |" for name, value in _flat(figures))
    return f"""# Sample model

A tiny FLUX of our own, trained from nothing by `python -m backend.sample.train` on pictures that the repository's own
renderer makes (`backend/sample/world`). It ships with Grisaille so that the first picture needs no download. **It knows
only simple things**; for anything else, use a full FLUX.

*It understands* the colours {", ".join(COLOURS)}; the materials {", ".join(MATERIALS)}; the lights {", ".join(LIGHTS)},
from the left or the right; a ground, and behind it the sky, a wall or a plain background. Say it as in: “{EXAMPLE}”.
Words that it does not know it passes over.

*Trained on* {len(TRAINING)} kinds of shapes from 128 to 768 pixels a side, never on {", ".join(HELD_OUT)}, which the
figures are taken on. Control pictures in training were made by `backend/flux/control_pictures.py`.

*Date*: {datetime.date.today().isoformat()}. *Device*: {device}. *Seed*: 0. *Licence*: GPL-3.0-or-later, ours.
`loras/woodcut.safetensors` is a style LoRA of rank 6 for it, in diffusers' names.

| part | size |
|---|---|
{sizes}

| stage | steps | minutes |
|---|---|---|
{stages}

Three things were done otherwise than the program does them now: the judge that rewarded `material` knew materials only,
and was taught apart from the one above; the first 400 steps of `guidance` knew only the first of its two directions;
`line-reader` (350 steps) and `follow` went on from a finished model, whose transformer was in Q8_0, with 13 shards of
four sizes, and the rate of `follow` fell as for 520 steps up to step 236. `style` is of that model.

## Figures

Through the product's own path, 12 steps, guidance 3.5. Edge recall: the part of a map's lines that have an edge of the
picture within 2 pixels, less the same for another scene's map.

| figure | |
|---|---|
{rows}
"""


EXAMPLE = "a red glossy object on a white marble floor, grey wall, studio light from the left"


def _stages(work: Path) -> dict[str, tuple[int, float]]:
    return {name: progress_of(work, name) for name in STAGES}


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB" if path.exists() else "not made"


def _flat(figures: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for name, value in figures.items():
        if isinstance(value, dict):
            found += [(f"{name}: {key}", f"{number:.2f}") for key, number in value.items()]
        elif isinstance(value, list):
            found.append((name, ", ".join(f"{number:.3f}" for number in value)))
        else:
            found.append((name, f"{value:.2f}"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    parser.add_argument("--figures", type=Path, default=model_folder() / "figures.json")
    arguments = parser.parse_args()
    figures = json.loads(arguments.figures.read_text(encoding="utf-8"))
    text = card(model_folder(), arguments.work, figures)
    (model_folder() / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
