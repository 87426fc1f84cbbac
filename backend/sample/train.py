"""Makes the sample model from nothing:  python -m backend.sample.train --preset cpu

Stages, each with a checkpoint that a later run goes on from: data, text, vae, latents, control, flow, polish, detail,
material, looks, guidance, follow, style, export. Look at the contact sheets in the work folder while it runs.
"""

from __future__ import annotations

import argparse
import copy
import os
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from gguf import GGMLQuantizationType
from torch import Tensor

from ..flux.text import TextEncoders
from ..wire.lora_files import FOLDER
from . import model_folder
from .dataset import make_dataset
from .export import export_model
from .flow import DETAIL_MEAN, SIGMA_MEAN, Batches, Painter, train_control, train_flow, train_guidance
from .follow import train_following, train_line_reader
from .latent_data import encode_dataset, load_latents
from .looks import MATERIAL, MATERIAL_AND_COLOUR, labelled_scenes, mean_of, train_latent_judge, train_looks
from .painting import draw_sheet, save_sheet
from .style import FILE, train_style
from .text import make_encoders, train_text
from .trained import load_trained
from .training import Stage
from .vae import fit_scale, load_pictures, make_vae, train_vae

FLOAT_FOLDER = "float"
"""In the work folder: the model before it was quantised, to compare with."""
DEFAULT_WORK = Path.home() / ".cache" / "grisaille" / "sample"
SIZES = {
    "256x256": 0.4, "320x208": 0.1, "208x320": 0.1, "128x128": 0.06, "512x512": 0.17, "640x384": 0.04,
    "384x640": 0.04, "320x192": 0.02, "192x320": 0.02, "768x768": 0.03, "384x384": 0.02,
}  # fmt: skip
"""How often each size is drawn; those of half a rendered size come from its shards."""


CONTROL_TIMES = 2
"""The control stage's steps see so many times as many pictures: its net is small."""


@dataclass(frozen=True)
class Preset:
    """A budget. scenes: times those in dataset.GROUPS. shard: scenes in a file. batch: times the pictures of a step."""

    scenes: float
    shard: int
    batch: int
    text: Stage
    vae: Stage
    control: Stage
    flow: Stage
    polish: Stage
    detail: Stage
    judge: Stage
    material: Stage
    looks: Stage
    guidance: Stage
    reader: Stage
    follow: Stage
    style: Stage


PRESETS = {
    "cpu": Preset(
        1.0, 50, 1, Stage("text", 2200, 2e-3), Stage("vae", 4200, 7e-4, 200), Stage("control", 1400, 2e-3, 100),
        Stage("flow", 5000, 1.2e-3, 150), Stage("polish", 7000, 1e-3, 150), Stage("detail", 6000, 1e-3, 150),
        Stage("latent-judge", 900, 2e-3), Stage("material", 450, 4e-4, 30), Stage("looks", 1150, 4e-4, 30),
        Stage("guidance", 1000, 4e-4, 30), Stage("line-reader", 500, 2e-3, 30), Stage("follow", 270, 4e-4, 30),
        Stage("style", 300, 2e-3, 20),
    ),
    "gpu": Preset(
        8.0, 50, 8, Stage("text", 3000, 2e-3), Stage("vae", 12000, 7e-4, 200), Stage("control", 6000, 2e-3, 200),
        Stage("flow", 20000, 1.5e-3, 500), Stage("polish", 10000, 1e-3, 200), Stage("detail", 10000, 1e-3, 200),
        Stage("latent-judge", 3000, 2e-3), Stage("material", 1600, 4e-4, 50), Stage("looks", 4000, 4e-4, 50),
        Stage("guidance", 3000, 2e-4, 100), Stage("line-reader", 2000, 2e-3), Stage("follow", 2000, 4e-4, 50),
        Stage("style", 800, 2e-3, 20),
    ),
    "try": Preset(
        0.002, 4, 1, Stage("text", 4, 2e-3, 2), Stage("vae", 4, 1.5e-3, 2), Stage("control", 2, 1e-3, 2),
        Stage("flow", 4, 1e-3, 2), Stage("polish", 2, 1e-3, 2), Stage("detail", 2, 1e-3, 2),
        Stage("latent-judge", 2, 2e-3), Stage("material", 2, 4e-4, 2), Stage("looks", 2, 4e-4, 2),
        Stage("guidance", 2, 2e-4, 2), Stage("line-reader", 2, 2e-3, 2), Stage("follow", 2, 4e-4, 2),
        Stage("style", 2, 2e-3, 2),
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK, help="data, checkpoints and sheets (%(default)s)")
    parser.add_argument("--preset", choices=PRESETS, default="gpu" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes")
    parser.add_argument(
        "--until", choices=("data", "text", "vae", "latents", "flow", "guidance"), help="stop after this"
    )
    parser.add_argument("--go-on", type=Path, help="a finished model's folder, to train `follow` and `style` again")
    parser.add_argument("--out", type=Path, default=model_folder().parent, help="where the model's folder goes")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
    torch.set_num_threads(os.cpu_count() or 1)
    training = Training(arguments.work, PRESETS[arguments.preset], arguments.seed)
    if arguments.go_on:
        training.go_on(arguments.go_on, arguments.out)
    else:
        training.run(arguments.until, arguments.out)


class Training:
    """One training in one work folder."""

    def __init__(self, work: Path, preset: Preset, seed: int) -> None:
        self.work, self.preset, self.seed = work, preset, seed
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def run(self, until: str | None, out: Path) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        make_dataset(self.work / "data", self.seed, self.preset.scenes, self.preset.shard)
        if until == "data":
            return
        encoders = self.text()
        if until == "text":
            return
        vae = self.vae()
        if until == "vae":
            return
        encode_dataset(self.work / "data", self.work / "latents", vae)
        if until == "latents":
            return
        painter = self.flow(vae, encoders)
        if until == "flow":
            return
        painter = self.guidance(painter, vae, encoders)
        if until == "guidance":
            return
        self.finish(painter, vae, encoders, out)

    def go_on(self, model: Path, out: Path) -> None:
        """The last stages once more, on a model that was trained before. model: its folder."""
        nets = load_trained(model, self.device)
        make_dataset(self.work / "data", self.seed, self.preset.scenes, self.preset.shard)
        encode_dataset(self.work / "data", self.work / "latents", nets.vae)
        self.finish(nets.painter, nets.vae, nets.encoders, out)

    def finish(self, painter: Painter, vae: AutoencoderKL, encoders: TextEncoders, out: Path) -> None:
        """From the painter with its guidance to the model's folder, in `out`."""
        painter = self.follow(painter, vae, encoders)
        export_model(self.work / FLOAT_FOLDER, painter, vae, encoders, GGMLQuantizationType.F16)
        model = export_model(out, painter, vae, encoders)
        print(model)
        show = self._show("style", vae, encoders, 3.5)
        train_style(self.work, painter, vae, encoders, self.preset.style, show)
        (model / FOLDER).mkdir()
        shutil.copyfile(self.work / FILE, model / FOLDER / FILE)

    def text(self) -> TextEncoders:
        encoders = make_encoders(self.work / "tokenizers")
        train_text(self.work, encoders, self.preset.text)
        return encoders

    def vae(self) -> AutoencoderKL:
        vae, finished = make_vae(self.device), self.work / "vae-finished.pt"
        if finished.exists():
            kept = torch.load(finished, map_location=self.device, weights_only=True)
            vae.load_state_dict(kept["weights"])
            vae.register_to_config(**kept["scale"])
            return vae.eval().requires_grad_(False)
        pictures = load_pictures(self.work / "data")
        train_vae(
            self.work, vae, self.preset.vae, self.preset.batch, pictures, lambda step: self._vae_sheet(vae, pictures)
        )
        fit_scale(vae, pictures)
        scale = {name: vae.config[name] for name in ("shift_factor", "scaling_factor")}
        torch.save({"weights": vae.state_dict(), "scale": scale}, finished)
        return vae

    def flow(self, vae: AutoencoderKL, encoders: TextEncoders) -> Painter:
        torch.manual_seed(5)
        painter = Painter().to(self.device)
        stage = self.preset.control
        # Its steps all see few tokens.
        train_control(self.work, painter, self._batches(encoders, 10 * stage.steps, CONTROL_TIMES), stage)
        batches = self._batches(encoders, self.preset.flow.steps)
        painter = train_flow(self.work, painter, batches, self.preset.flow, self._show("flow", vae, encoders, 1.0))
        # The same again from the average, on whole pictures throughout.
        whole, show = self._batches(encoders, 0), self._show("polish", vae, encoders, 1.0)
        painter = train_flow(self.work, painter, whole, self.preset.polish, show, chance=3)
        fine, show = self._batches(encoders, 0, sigma_mean=DETAIL_MEAN), self._show("detail", vae, encoders, 1.0)
        painter = train_flow(self.work, painter, fine, self.preset.detail, show, chance=4)
        return self.looks(painter, fine, vae, encoders)

    def looks(self, painter: Painter, batches: Batches, vae: AutoencoderKL, encoders: TextEncoders) -> Painter:
        scenes = labelled_scenes(self.work)
        judge = train_latent_judge(self.work, scenes, self.preset.judge)
        painters = []
        for stage, wish in ((self.preset.material, MATERIAL), (self.preset.looks, MATERIAL_AND_COLOUR)):
            show = self._show(stage.name, vae, encoders, 1.0)
            own = copy.deepcopy(painter)
            painters.append(train_looks(self.work, own, batches, judge, scenes, stage, wish, show))
        return mean_of(painters)

    def guidance(self, painter: Painter, vae: AutoencoderKL, encoders: TextEncoders) -> Painter:
        show = self._show("guidance", vae, encoders, 3.5)
        return train_guidance(self.work, painter, self._batches(encoders, 0), self.preset.guidance, show)

    def follow(self, painter: Painter, vae: AutoencoderKL, encoders: TextEncoders) -> Painter:
        scenes = labelled_scenes(self.work)
        reader = train_line_reader(self.work, scenes, self.preset.reader)
        show = self._show("follow", vae, encoders, 3.5)
        stage = self.preset.follow
        return train_following(self.work, painter, self._batches(encoders, 0), reader, scenes, stage, show)

    def _batches(self, encoders: TextEncoders, steps: int, times: int = 1, sigma_mean: float = SIGMA_MEAN) -> Batches:
        groups = load_latents(self.work / "latents", SIZES.__contains__)
        return Batches(groups, encoders, self.device, SIZES, steps, times * self.preset.batch, sigma_mean)

    def _show(self, name: str, vae: AutoencoderKL, encoders: TextEncoders, guidance: float) -> Any:
        def show(step: int, painter: Painter) -> None:
            draw_sheet(self.work / "sheets" / f"{name}-{step:06d}.png", painter, vae, encoders, guidance)

        return show

    @torch.no_grad()
    def _vae_sheet(self, vae: AutoencoderKL, pictures: dict[str, list[Tensor]]) -> None:
        """Some pictures and controls, above what comes out of the VAE."""
        columns = []
        for kind, place in (("picture", 0.01), ("picture", 0.2), ("picture", 0.5), ("normal", 0.1), ("line", 0.1)):
            index = int(place * len(pictures[kind]))
            image = pictures[kind][index][..., :208, :208].expand(3, -1, -1)[None].to(self.device).float() / 127.5 - 1.0
            latents: Any = vae.encode(image, return_dict=False)[0].mean
            out = vae.decode(latents, return_dict=False)[0]
            pair = [((one[0].clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0).byte().cpu().numpy() for one in (image, out)]
            columns.append(np.concatenate(pair))
        save_sheet(self.work / "sheets" / "vae.png", [columns], ["above: the picture; below: through the VAE"])


if __name__ == "__main__":
    main()
