"""The last stage: pictures whose edges are where the control's lines are.

Flow matching sees what a picture is on the whole, and a line is a hundredth of it. So the painter begins pictures, as
in `looks.py`, and guesses the rest; a reader that learned on rendered pictures where their lines are
says how far the guess has them where the scene has (Li et al. 2024, ControlNet++, section 3.3: what a control shows
is read back from the picture). Most of these pictures follow lines, which are the hardest to follow: what is inside an
outline must be found by looking around. The velocity stays beside it, at all guidances, and keeps the rest.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, pixel_shuffle

from ..flux.latents import unpack
from .flow import GUIDANCE_MAX, Batches, Painter, blend, flow_loss, optimizer_of
from .latent_data import TOKEN
from .looks import BEGUN, Labelled, begin, disturbed, guess_of
from .nets import CONTROL_MODES, LATENT_CHANNELS
from .training import Stage, generator_of, run_stage

READ = 24
"""Pictures in a step of the reader."""
LINE_WEIGHT = 3.0
"""How much more a square counts that has a line: there are few."""
FIRST, LAST = 2, 4
"""When a begun picture may be read, in steps of LEVELS: where its forms are still being decided."""
LINES_SHARE = 0.6
REWARD = 0.5
"""What the reader's loss counts beside the flow's."""
READ_GUIDANCE_MAX = 5.0
KEPT = 0.7
"""The share of the weights as they came, in the mean that is the result. 270 steps from the model that shipped follow
the lines of captures by 0.47 beyond those of another scene where nothing is kept, 0.41 where 0.4 is, 0.33 here; but
grounds keep their colour in 83, 94 and 96 %, things their material in 40, 38 and 44 %; and with less than this, more
guidance than 3 says less."""
EMA = 0.99


class LineReader(nn.Module):
    """Says where lines are in a picture of 256 x 256, from its latents."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(15)
        widths = (LATENT_CHANNELS, 64, 96, 96)
        self.body = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(widths))
        self.head = nn.Conv2d(widths[-1], 4, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: (n, 256, 64). -> (n, 64, 64), logits of a line in each square of 4 x 4 pixels."""
        hidden = torch.cat([unpack(one[None], 2 * TOKEN, 2 * TOKEN) for one in tokens])
        for layer in self.body:
            hidden = torch.relu(layer(hidden))
        return pixel_shuffle(self.head(hidden), 2)[:, 0]

    def loss(self, tokens: Tensor, lines: Tensor) -> Tensor:
        """lines: (n, 64, 64) 0 or 1. Binary cross entropy, a mean over squares and pictures."""
        weight = torch.full((), LINE_WEIGHT, device=tokens.device)
        return binary_cross_entropy_with_logits(self(tokens), lines, pos_weight=weight)


def train_line_reader(work: Path, scenes: Labelled, stage: Stage) -> LineReader:
    """Learns from the training's own pictures, under some noise."""
    reader = LineReader()
    optimizer = torch.optim.AdamW(reader.parameters(), lr=stage.rate, weight_decay=0.05)

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        chance = generator_of(15, step)
        picks = torch.randint(len(scenes.lines), (READ,), generator=chance)
        looks = torch.randint(2, (READ,), generator=chance)
        tokens = disturbed(scenes.latents.pictures[picks, looks].float(), chance)
        loss = reader.loss(tokens, scenes.lines[picks])
        return loss, {"loss": loss.item()}

    run_stage(stage, work, {"reader": reader}, [optimizer], step_loss)
    return reader.eval().requires_grad_(False)


def train_following(
    work: Path, painter: Painter, batches: Batches, reader: LineReader, scenes: Labelled, stage: Stage,
    show: Callable[[int, Painter], None],
) -> Painter:  # fmt: skip
    """Returns the mean of the weights as they came and of their moving average. painter: changed itself."""
    device = batches.device
    teacher = copy.deepcopy(painter).requires_grad_(False).eval()
    painter.requires_grad_(True).train()
    average = copy.deepcopy(painter).requires_grad_(False).eval()
    optimizer = optimizer_of(painter, stage.rate)
    reader.to(device)

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        flow = _guided_flow_loss(painter, teacher, batches, step)
        read = _read_loss(painter, batches, reader, scenes, step)
        return flow + REWARD * read, {"flow": flow.item(), "read": read.item()}

    def after_step(step: int) -> None:
        blend(average, painter, min(EMA, (step + 1) / (step + 10)))

    nets: dict[str, nn.Module] = {"painter": painter, "average": average}
    run_stage(stage, work, nets, [optimizer], step_loss, after_step, lambda step: show(step, average))
    blend(average, teacher, 1.0 - KEPT)
    return average


def _guided_flow_loss(painter: Painter, teacher: Painter, batches: Batches, step: int) -> Tensor:
    """The flow's loss at any guidance: the velocity of the data, moved as far as guidance moves the teacher's."""
    batch = batches.draw(step, stage=6)
    guidance = 1 + (GUIDANCE_MAX - 1) * torch.rand(len(batch.sigma), generator=generator_of(16, step)).to(batch.sigma)
    with torch.autocast(batches.device.type, torch.bfloat16):
        with torch.no_grad():
            moved = teacher(batch, guidance).float() - teacher(batch, torch.ones_like(guidance)).float()
        velocity = painter(batch, guidance)
    return flow_loss(velocity, batch.noise - batch.clean + moved, batch.weight)


def _read_loss(painter: Painter, batches: Batches, reader: LineReader, scenes: Labelled, step: int) -> Tensor:
    """How far the lines that the reader finds in begun pictures are from those of their scenes."""
    chance = generator_of(17, step)
    mode = torch.randint(len(CONTROL_MODES), (BEGUN,), generator=chance)
    mode[torch.rand(BEGUN, generator=chance) < LINES_SHARE] = CONTROL_MODES["line"]
    batch, _, picks = begin(batches, scenes, (18, step), chance, mode)
    guidance = 1 + (READ_GUIDANCE_MAX - 1) * torch.rand(BEGUN, generator=chance).to(batch.sigma)
    last = int(torch.randint(FIRST, LAST + 1, (1,), generator=chance))
    guess = disturbed(guess_of(painter, batch, guidance, last), chance)
    return reader.loss(guess, scenes.lines[picks].to(guess))
