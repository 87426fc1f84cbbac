"""The last stage at guidance 1: bricks, checks and stripes, learned on pictures that the painter itself begins.

A painter of this size, taught only to undo noise, paints the mean of all the bricks there could be, and then sees in
its own half-made picture that there are none. So it makes half a picture, guesses the rest, and a judge of latents says
how far the guess is of the material and the colour that the caption asked for (rewards through the last guess: Xu et
al. 2023, ImageReward, section 4). The loss of the stages before stays beside it, and keeps everything else as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..flux.latents import image_positions, unpack
from ..flux.schedules import Shift, simple
from .dataset import GROUPS, read_shard, shard_path
from .flow import GUESS_WEIGHT, Batch, Batches, Painter, blend, flow_loss, guess_loss, optimizer_of
from .latent_data import TOKEN, LatentGroup, load_latents
from .nets import CONTROL_MODES, LATENT_CHANNELS, SHIFT
from .training import Stage, generator_of, run_stage
from .world.captions import plain_caption
from .world.looks import COLOURS, MATERIALS, Appearance, random_appearance
from .world.scenes import GROUND, SUBJECT

JUDGED = 40
"""Pictures in a step of the judge."""
JUDGE_NOISE = 0.35
"""The judge learns under noise up to this level, and is asked under as much, which makes it harder to fool."""
BEGUN = 5
"""Pictures that the painter begins in a step."""
LEVELS, FIRST = 6, 3
"""Steps of a picture that is begun, and the first of them in which it may be judged: before, all guesses are blurs."""
EMA = 0.99
PARTS = (SUBJECT, GROUND)
NAMES: tuple[list[str], list[str]] = (list(MATERIALS), list(COLOURS))
LINE_SQUARE = 4
"""Pixels a side of the squares in which lines are looked for: as far as an edge may be off in the figures."""
SEEN = 8
"""Tokens of a part from which on it is judged."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the judge is asked for: weights of the material and the colour, of the thing and the ground.

    reward, later: what the judge's loss counts beside the flow's, up to the step `from_step` and from there on.
    """

    kinds: tuple[float, float]
    parts: tuple[float, float]
    reward: float
    later: float = 0.0
    from_step: int = 1 << 30

    def reward_at(self, step: int) -> float:
        return self.reward if step < self.from_step else self.later


MATERIAL = Wish((1.0, 0.0), (1.0, 0.0), 0.05)
MATERIAL_AND_COLOUR = Wish((1.0, 1.0), (1.0, 0.5), 0.02, 0.05, 450)
"""The first finds the materials and loses some colours, the second keeps the colours, finds fewer of the materials, and
paints beside the things. The mean of their weights has what is good in both and the faults of neither (as Wortsman et
al. 2022, Model soups, found for classifiers)."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Scenes of 256 x 256 with what is in them. masks: (n, 2, tokens) 0 or 1, what is the thing and what the ground.

    labels: (n, looks, 2, 2) of thing and ground, each its places in MATERIALS and in COLOURS. lines: (n, 64, 64) 0 or
    1, whether a line runs through a square of 4 x 4 pixels.
    """

    latents: LatentGroup
    masks: Tensor
    labels: Tensor
    lines: Tensor
    looks: list[list[Appearance]]


class LatentJudge(nn.Module):
    """Names the material and the colour of a part of a picture from its latents."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(12)
        widths = (LATENT_CHANNELS, 64, 96, 96)
        self.body = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(widths))
        self.heads = nn.ModuleList(nn.Linear(widths[-1], len(names)) for names in NAMES)

    def forward(self, tokens: Tensor, mask: Tensor) -> list[Tensor]:
        """tokens: (n, 256, 64). mask: (n, 256), what to look at. -> scores: (n, materials) and (n, colours)."""
        rows = TOKEN
        image = torch.cat([unpack(one[None], 2 * rows, 2 * rows) for one in tokens])
        near = mask.view(-1, 1, rows, rows).repeat_interleave(2, 2).repeat_interleave(2, 3)
        hidden = image * near
        for layer in self.body:
            hidden = torch.relu(layer(hidden))
        seen = (hidden * near).sum((2, 3)) / near.sum((2, 3)).clamp(min=1.0)
        return [head(seen) for head in self.heads]

    def losses(self, tokens: Tensor, mask: Tensor, labels: Tensor, kinds: tuple[float, float] = (1.0, 1.0)) -> Tensor:
        """labels: (n, 2), material and colour. kinds: their weights. -> (n,), the cross entropies of both."""
        scores = self(tokens, mask)
        each = [cross_entropy(score, labels[:, kind], reduction="none") for kind, score in enumerate(scores)]
        return kinds[0] * each[0] + kinds[1] * each[1]


def labelled_scenes(work: Path) -> Labelled:
    """The first group's scenes: their latents, and what the shards say of them."""
    masks, labels, lines, looks = [], [], [], []
    group = GROUPS[0]
    for shard in range(group.scenes):
        path = shard_path(work / "data", group, shard)
        if not path.exists():
            break
        for sample in read_shard(path):
            rows = sample.parts.shape[0] // TOKEN
            blocks = sample.parts.reshape(rows, TOKEN, -1, TOKEN)
            masks.append([(blocks == part).mean((1, 3)).reshape(-1) > 0.5 for part in PARTS])
            labels.append([labels_of(look) for look in sample.looks])
            lines.append(line_squares(sample.controls["line"][..., 0]))
            looks.append(sample.looks)
    # The halves of larger scenes come after them.
    latents = load_latents(work / "latents", lambda size: size == group.name)[0]
    tensors = [torch.from_numpy(np.array(found)).float() for found in (masks, lines)]
    return Labelled(latents, tensors[0], torch.tensor(labels), tensors[1], looks)


def line_squares(line: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(height / 4, width / 4): whether a line runs through. line: (height, width) uint8, 255 on a line."""
    rows, columns = line.shape[0] // LINE_SQUARE, line.shape[1] // LINE_SQUARE
    return line.reshape(rows, LINE_SQUARE, columns, LINE_SQUARE).max((1, 3)) > 127


def labels_of(look: Appearance) -> list[list[int]]:
    """Of thing and ground: the material's place in MATERIALS, the colour's in COLOURS."""
    return [[NAMES[0].index(one.material), NAMES[1].index(one.colour)] for one in (look.subject, look.ground)]


def train_latent_judge(work: Path, scenes: Labelled, stage: Stage) -> LatentJudge:
    """Learns from the training's own pictures, under some noise."""
    judge = LatentJudge()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=stage.rate, weight_decay=0.05)
    enough = [torch.nonzero(scenes.masks[:, part].sum(1) >= SEEN).flatten() for part in range(len(PARTS))]

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        chance = generator_of(12, step)
        part = step % len(PARTS)
        picks = enough[part][torch.randint(len(enough[part]), (JUDGED,), generator=chance)]
        looks = torch.randint(2, (JUDGED,), generator=chance)
        tokens = scenes.latents.pictures[picks, looks].float()
        labels, mask = scenes.labels[picks, looks, part], scenes.masks[picks, part]
        tokens = disturbed(tokens, chance)
        loss = judge.losses(tokens, mask, labels).mean()
        with torch.no_grad():
            right = [(score.argmax(1) == labels[:, kind]).float() for kind, score in enumerate(judge(tokens, mask))]
        return loss, {"loss": loss.item(), "material": right[0].mean().item(), "colour": right[1].mean().item()}

    run_stage(stage, work, {"judge": judge}, [optimizer], step_loss)
    return judge.eval().requires_grad_(False)


def disturbed(tokens: Tensor, chance: torch.Generator) -> Tensor:
    """Under noise of a level up to JUDGE_NOISE, another for each picture."""
    level = JUDGE_NOISE * torch.rand((len(tokens), 1, 1), generator=chance).to(tokens)
    return (1 - level) * tokens + level * torch.randn(tokens.shape, generator=chance).to(tokens)


def train_looks(
    work: Path, painter: Painter, batches: Batches, judge: LatentJudge, scenes: Labelled, stage: Stage,
    wish: Wish, show: Callable[[int, Painter], None],
) -> Painter:  # fmt: skip
    """Returns the moving average of the weights. The painter itself is changed."""
    device = batches.device
    painter.requires_grad_(True).train()
    average = copy.deepcopy(painter).requires_grad_(False).eval()
    optimizer = optimizer_of(painter, stage.rate)
    judge.to(device)

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        batch = batches.draw(step, stage=5)
        ones = torch.ones_like(batch.sigma)
        with torch.autocast(device.type, torch.bfloat16):
            velocity, guesses = painter.velocity_and_guesses(batch, ones)
        flow = flow_loss(velocity, batch.noise - batch.clean, batch.weight) + GUESS_WEIGHT * guess_loss(guesses, batch)
        reward = _look_loss(painter, batches, judge, scenes, wish, step)
        return flow + wish.reward_at(step) * reward, {"flow": flow.item(), "looks": reward.item()}

    def after_step(step: int) -> None:
        blend(average, painter, min(EMA, (step + 1) / (step + 10)))

    nets: dict[str, nn.Module] = {"painter": painter, "average": average}
    run_stage(stage, work, nets, [optimizer], step_loss, after_step, lambda step: show(step, average))
    return average


def mean_of(painters: Sequence[Painter]) -> Painter:
    """The painter whose weights are the mean of theirs."""
    mean = copy.deepcopy(painters[0])
    for count, other in enumerate(painters[1:], 1):
        blend(mean, other, count / (count + 1))
    return mean


def _look_loss(
    painter: Painter, batches: Batches, judge: LatentJudge, scenes: Labelled, wish: Wish, step: int
) -> Tensor:
    """What the judge says of pictures that the painter has begun."""
    chance = generator_of(13, step)
    device = batches.device
    mode = torch.randint(len(CONTROL_MODES), (BEGUN,), generator=chance)
    batch, looks, picks = begin(batches, scenes, (14, step), chance, mode)
    last = int(torch.randint(FIRST, LEVELS, (1,), generator=chance))
    guess = disturbed(guess_of(painter, batch, torch.ones(BEGUN, device=device), last), chance)
    labels = torch.tensor([labels_of(look) for look in looks], device=device)
    losses = []
    for part in range(len(PARTS)):
        mask = scenes.masks[picks, part].to(device)
        of_part = judge.losses(guess, mask, labels[:, part], wish.kinds)
        losses.append(wish.parts[part] * (of_part * (mask.sum(1) >= SEEN)).mean())
    return losses[0] + losses[1]


def guess_of(painter: Painter, batch: Batch, guidance: Tensor, last: int) -> Tensor:
    """(n, tokens, 64): what the painter guesses of its own pictures when `last` of LEVELS steps are done.

    batch: noise alone. Gradients go through the guess, not through the steps before it.
    """
    levels = simple(LEVELS, batch.noise.shape[1], Shift(is_dynamic=False, fixed=SHIFT)).tolist()
    ones = torch.ones_like(guidance)

    def velocity(latents: Tensor, level: float) -> Tensor:
        now = replace(batch, clean=latents, noise=latents, sigma=ones * level)
        with torch.autocast(latents.device.type, torch.bfloat16):
            return painter(now, guidance).float()

    latents = batch.noise
    with torch.no_grad():
        for level, following in list(pairwise(levels))[:last]:
            latents = latents + (following - level) * velocity(latents, level)
    return latents - levels[last] * velocity(latents, levels[last])


def begin(
    batches: Batches, scenes: Labelled, seed: tuple[int, int], chance: torch.Generator, mode: Tensor
) -> tuple[Batch, list[Appearance], Tensor]:
    """Scenes to begin a picture of, in looks that were never rendered of them, and which scenes. mode: (BEGUN,)."""
    device = batches.device
    picks = torch.randint(len(scenes.masks), (BEGUN,), generator=chance)
    rng = np.random.default_rng(seed)
    looks = []
    for pick in picks.tolist():
        rendered = scenes.looks[pick][0]
        looks.append(random_appearance(rng, rendered.second is not None, rendered.background))
    text, pooled = batches.encode([plain_caption(look) for look in looks])
    noise = torch.randn((BEGUN, 256, 4 * LATENT_CHANNELS), generator=chance)
    ones = torch.ones(BEGUN)
    control = scenes.latents.controls[picks, mode].float()
    parts = (noise, noise, ones, control, mode[:, None], ones, torch.ones(BEGUN, 256), text, pooled)
    rest = image_positions(2 * TOKEN, 2 * TOKEN)
    return Batch(*(part.to(device) for part in (*parts, rest))), looks, picks
