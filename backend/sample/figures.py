"""The sample model's figures, through the product's own production, on things that never occur in training.

python -m backend.sample.figures --judge FILE [--exact FOLDER] [--captures FOLDER]

prints them and writes them beside the model.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..production import Production
from ..wire import Control, ControlMaps, GenerationRequest, GenerationResult
from ..wire.model_names import shipped_models
from . import NAME, model_folder
from .dataset import make_scene
from .judge import CLEAR_LIGHTS, ColourJudge, MaterialJudge, colour_judges, edge_recall, load_judge
from .nets import CONTROL_MODES
from .world.captions import plain_caption
from .world.looks import HUES, MATERIALS, Appearance, Look
from .world.scenes import GROUND, SUBJECT
from .world.shapes import HELD_OUT

Picture = NDArray[np.uint8]
CASES = 80_000
GUIDANCE = 3.5
STEPS = 12
CAPTURE_SEEDS = 3
"""Pictures of each capture and kind: there are ten captures only."""
LINE = 0.5
"""A line map's pixel is on a line from here on."""


@dataclass(frozen=True, eq=False)
class Case:
    """One view to paint. subject, ground: (height, width), what shows the things and what they stand on."""

    maps: ControlMaps
    subject: NDArray[np.bool_]
    ground: NDArray[np.bool_]
    background: str

    @property
    def line(self) -> NDArray[np.bool_]:
        assert self.maps.line is not None
        return self.maps.line > LINE


class Painting:
    """Paints cases with a model; remembers nothing."""

    def __init__(self, production: Production, model: str = NAME) -> None:
        self.production, self.model = production, model

    def __call__(
        self, case: Case, prompt: str, kind: str | None, seed: int, guidance: float = GUIDANCE, strength: float = 1.0
    ) -> Picture:
        """(height, width, 3) uint8. Raises RuntimeError with the failure's message when there is no picture."""
        height, width = case.subject.shape
        controls = (Control(kind, strength),) if kind else ()
        request = GenerationRequest(
            prompt, width, height, seed=seed, steps=STEPS, guidance=guidance, model=self.model, controls=controls
        )
        result = self.production.run(
            request,
            case.maps,
            on_progress=lambda progress: None,
            on_preview=lambda picture: None,
            is_cancelled=lambda: False,
        )
        if not isinstance(result, GenerationResult) or result.png is None:
            raise RuntimeError(f"{result}")
        return np.asarray(Image.open(io.BytesIO(result.png)).convert("RGB"))


def held_out_cases(count: int, size: int = 256) -> list[Case]:
    """Scenes of shapes that never occur in training, one look for all their things."""
    found, index = [], 0
    while len(found) < count:
        scene, _, rendered, _ = make_scene((CASES, index), size, size, HELD_OUT)
        index += 1
        subject, ground = rendered.parts == SUBJECT, rendered.parts == GROUND
        if scene.shapes[1] is None and subject.mean() > 0.06 and ground.mean() > 0.08:
            found.append(Case(rendered.maps, subject, ground, scene.background))
    return found


def look_for(case: Case, index: int, hue: str | None = None, material: str | None = None) -> Appearance:
    """A look that a prompt can ask for: of each hue and each material in turn, in light that shows colours."""
    hues = list(HUES)
    subject = Look(hue or hues[index % len(hues)], material or ("matte", "glossy")[index % 2])
    ground = Look(hues[(index * 3 + 4) % len(hues)], "matte")
    if ground.colour == subject.colour:
        ground = Look(hues[(index * 3 + 5) % len(hues)], "matte")
    background = "grey" if case.background != "sky" else "white"
    light = CLEAR_LIGHTS[index % len(CLEAR_LIGHTS)]
    return Appearance(subject, ground, case.background, background, light, ("left", "right")[index % 2])


def edge_figures(
    paint: Painting, cases: Sequence[Case], times: int = 1, kinds: Sequence[str] = tuple(CONTROL_MODES)
) -> dict[str, float]:
    """For each kind: edge recall of the picture's own map, less that of the next scene's map.

    times: pictures of each case, from as many seeds. Ten cases once are off by as much as 0.05.
    """
    found = {}
    for kind in kinds:
        own, other = [], []
        for seed in range(len(cases) * times):
            index = seed % len(cases)
            picture = paint(cases[index], plain_caption(look_for(cases[index], index)), kind, seed)
            own.append(edge_recall(picture, cases[index].line))
            other.append(edge_recall(picture, cases[(index + 1) % len(cases)].line))
        found[kind] = float(np.mean(own) - np.mean(other))
        found[f"{kind}, own map"] = float(np.mean(own))
    return found


def colour_figures(
    paint: Painting,
    cases: Sequence[Case],
    judges: tuple[ColourJudge, ColourJudge],
    count: int,
    guidance: float = GUIDANCE,
) -> dict[str, float]:
    """The share of pictures in which the thing (the ground) has the hue that was asked for, of eight."""
    kinds, hits = list(CONTROL_MODES), {"subject": 0, "ground": 0}
    for index in range(count):
        case = cases[index % len(cases)]
        look = look_for(case, index)
        picture = paint(case, plain_caption(look), kinds[index % 3], 100 + index, guidance)
        hits["subject"] += judges[0].name(picture, case.subject) == look.subject.colour
        hits["ground"] += judges[1].name(picture, case.ground) == look.ground.colour
    return {name: hit / count for name, hit in hits.items()}


def material_figure(paint: Painting, cases: Sequence[Case], judge: MaterialJudge, count: int) -> float:
    """The share of pictures in which the thing's material, as the judge sees it, is the one that was asked for."""
    hits = 0
    for index in range(count):
        case = cases[index % len(cases)]
        look = look_for(case, index, material=MATERIALS[index % len(MATERIALS)])
        picture = paint(case, plain_caption(look), ("depth", "normal")[index % 2], 200 + index)
        hits += judge.name(picture, case.subject) == look.subject.material
    return hits / count


def strength_figures(paint: Painting, cases: Sequence[Case]) -> list[float]:
    """Edge recall at control strength 0, 0.33, 0.67 and 1, a mean over the cases and kinds."""
    found = []
    for strength in (0.0, 0.33, 0.67, 1.0):
        recalls = [
            edge_recall(paint(case, plain_caption(look_for(case, index)), kind, index, strength=strength), case.line)
            for index, case in enumerate(cases)
            for kind in CONTROL_MODES
        ]
        found.append(float(np.mean(recalls)))
    return found


def obedience(paint: Painting, cases: Sequence[Case], judge: ColourJudge, guidances: Sequence[float]) -> list[float]:
    """How much nearer the thing's colour is to the hue that was asked for than to the others: at each guidance.

    Oklab distance to the nearest other hue, less that to the right one: it can rise where all pictures are right.
    """
    found = []
    for guidance in guidances:
        margins = []
        for index, case in enumerate(cases):
            look = look_for(case, index)
            picture = paint(case, plain_caption(look), "depth", 300 + index, guidance)
            margins.append(judge.margin(picture, case.subject, look.subject.colour))
        found.append(float(np.mean(margins)))
    return found


def psnr(one: Picture, other: Picture) -> float:
    """Decibels between two pictures of display values 0..255."""
    error = float(((one.astype(np.float64) - other.astype(np.float64)) ** 2).mean())
    return float("inf") if error == 0 else 10 * float(np.log10(255.0**2 / error))


def quantisation_psnr(paint: Painting, exact: Painting, cases: Sequence[Case]) -> float:
    """Decibels between the pictures of the quantised model and of the exact one, a mean over cases."""
    found = []
    for index, case in enumerate(cases):
        prompt = plain_caption(look_for(case, index))
        found.append(psnr(paint(case, prompt, "normal", index), exact(case, prompt, "normal", index)))
    return float(np.mean(found))


def captured_cases(folder: Path) -> list[Case]:
    """The captures that tools/ten_scenes.py wrote, by name."""
    found = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            maps = ControlMaps(arrays["depth"], arrays["normal"], arrays["line"])
            found.append(Case(maps, arrays["subject"], arrays["ground"], "plain"))
    return found


def vae_psnr(model: Path, count: int = 24) -> float:
    """Decibels that pictures of held-out things, 256 x 256, keep through the VAE."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    from ..flux.load_parts import load_part
    from ..flux.vae import decode, encode

    vae = load_part(AutoencoderKL, model / "vae", torch.device("cpu"), torch.float32)
    found = []
    for index in range(count):
        _, _, rendered, _ = make_scene((CASES, 1000 + index), 256, 256, HELD_OUT)
        for picture in rendered.pictures:
            with torch.inference_mode():
                image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1.0
                out = decode(vae, encode(vae, image))[0].permute(1, 2, 0)
            found.append(psnr(picture, ((out.clamp(-1, 1) + 1) * 127.5).round().byte().numpy()))
    return float(np.mean(found))


def all_figures(models: Path, judge: MaterialJudge, exact: Path | None, captures: Path | None) -> dict[str, Any]:
    """Every figure of the card, at full count. models, exact: folders with the model and with its float16 form."""
    paint, cases = Painting(Production(models)), held_out_cases(24)
    judges = colour_judges()
    figures: dict[str, Any] = {
        "VAE PSNR, dB": vae_psnr(model_folder()),
        "edge recall, 256": edge_figures(paint, cases),
        "edge recall, 512": edge_figures(paint, held_out_cases(8, 512)),
        "colour": colour_figures(paint, cases, judges, 48),
        "material": material_figure(paint, cases, judge, 48),
        "edge recall by strength 0, 0.33, 0.67, 1": strength_figures(paint, cases[:8]),
        "colour margin by guidance 1, 2, 3.5, 5": obedience(paint, cases, judges[0], (1.0, 2.0, 3.5, 5.0)),
    }
    if exact is not None:
        figures["PSNR of Q8_0 against fp16, dB"] = quantisation_psnr(paint, Painting(Production(exact)), cases[:12])
    if captures is not None:
        real = captured_cases(captures)
        figures["edge recall, Blender captures"] = edge_figures(paint, real, CAPTURE_SEEDS)
        figures["colour, Blender captures"] = colour_figures(paint, real, judges, 40)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", type=Path, required=True, help="the material judge's weights (backend.sample.judge)")
    parser.add_argument("--exact", type=Path, help="where the model is in float16 (the training's work folder / float)")
    parser.add_argument("--captures", type=Path, help="what tools/ten_scenes.py wrote")
    parser.add_argument("--out", type=Path, default=model_folder() / "figures.json")
    arguments = parser.parse_args()
    figures = all_figures(shipped_models(), load_judge(arguments.judge), arguments.exact, arguments.captures)
    text = json.dumps(figures, indent=1)
    arguments.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
