"""The transformer and its ControlNet, trained together to paint latents from noise, a caption and a control."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..flux.latents import image_positions
from ..flux.load_parts import without_deprecations
from ..flux.text import TextEncoders
from .latent_data import LatentGroup
from .nets import CONTROL_MODES, CONTROLNET, LATENT_CHANNELS, TRANSFORMER
from .training import Stage, generator_of, run_stage

TOKENS_A_STEP = 1200
BATCH_MAX = 24
SHORT_TOKENS = 200
SCATTERED_TOKENS, SCATTERED_UNTIL = 72, 0.25
"""Until this part of the steps, a step sees so many tokens of a picture of 256², more of larger ones, here and there:
what a caption says and what a control shows is learned from many pictures, not from many tokens of a few."""
WINDOW_TOKENS, WINDOW_UNTIL = 144, 0.5
"""Then so many side by side, since what noise is shows only beside its neighbours; and at last whole pictures."""
NO_CONTROL, NO_CAPTION = 0.08, 0.1
SUBJECT_WEIGHT = 2.0
"""How much more a token counts that shows a thing."""
SIGMA_MEAN, SIGMA_SPREAD, SIGMA_EVEN = 1.5, 1.1, 0.25
"""Noise levels are logit-normal with this mean and spread, but for a share that is drawn evenly. Caption and control
matter almost only near pure noise, where the usual mean of 0 seldom goes."""
DETAIL_MEAN = 0.3
"""The mean of the last stage at guidance 1: bricks, checks and highlights are decided once the large forms stand."""
EMA = 0.998
CONTROL_SHARES = (0.5, 0.2)
"""How much of the control each of the ControlNet's outputs, one for the double blocks and one for the single blocks,
hands on at the start."""
GUESS_WEIGHT = 0.25
"""Of the ControlNet's guesses at the picture, beside the velocity."""
CONTROLS_MAX = 2.1
"""What three controls at the usual strength of 0.7 add up to."""
GUIDANCE_MAX = 7.0
GUIDANCE_SLOPES = (0.9, 0.14)
"""The classifier-free guidance that the guidance g stands for is 1 + slope x (g - 1), away from no caption with the
control kept, and away from neither. The first brings out materials and colours: what users know from FLUX.1-dev, 3.5,
is then a scale of 3.2. The second holds the picture to the scene: with 0.2, edge recall of 24 pictures from lines rises
from 0.32 to 0.42 beyond another scene's, and materials from 22 of 48 fall to 20."""
RESCALE = 0.7
"""How far the guided guess at the picture is brought back to the contrast of the plain one (Lin et al. 2023, section
3.4, where it is phi): without it colours overshoot, and are then further from what was asked for than with none."""


@dataclass(frozen=True, eq=False)
class Batch:
    """What a step learns from. clean, noise: (n, tokens, 64). sigma: (n,). control: (n, tokens, 64). mode: (n, 1).

    strength: (n,) 0 or 1, whether the control is given. weight: (n, tokens). text, pooled: of the captions.
    """

    clean: Tensor
    noise: Tensor
    sigma: Tensor
    control: Tensor
    mode: Tensor
    strength: Tensor
    weight: Tensor
    text: Tensor
    pooled: Tensor
    positions: Tensor


class Painter(nn.Module):
    """The transformer with its ControlNet, for many pictures at once: what the engine does for one."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = FluxTransformer2DModel(**TRANSFORMER)
        with without_deprecations():
            self.controlnet = FluxControlNetModel(**CONTROLNET)
        for module in (self.transformer, self.controlnet):
            for name, part in module.named_modules():
                if isinstance(part, nn.Linear) and ("norm" in name):
                    nn.init.zeros_(part.weight)
                    nn.init.zeros_(part.bias)
        # From the start the ControlNet hands the control on, and nothing of the noise: what it adds after every block
        # would drown the transformer's own stream.
        nn.init.zeros_(self.controlnet.x_embedder.weight)
        nn.init.zeros_(self.controlnet.x_embedder.bias)
        outputs: list[Any] = [*self.controlnet.controlnet_blocks, *self.controlnet.controlnet_single_blocks]
        for output, share in zip(outputs, CONTROL_SHARES, strict=True):
            nn.init.eye_(output.weight)
            output.weight.data.mul_(share)
        self.guess_heads = nn.ModuleList(nn.Linear(output.in_features, LATENT_CHANNELS * 4) for output in outputs)
        nn.init.zeros_(self.transformer.proj_out.weight)
        nn.init.kaiming_uniform_(self.controlnet.controlnet_x_embedder.weight, a=5**0.5)

    def forward(self, batch: Batch, guidance: Tensor) -> Tensor:
        """(n, tokens, 64): the velocity, noise minus clean. guidance: (n,)."""
        return self.velocity_and_guesses(batch, guidance)[0]

    def velocity_and_guesses(self, batch: Batch, guidance: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The velocity, and what each of the ControlNet's outputs says of the clean picture: (n, tokens, 64) all."""
        sigma = batch.sigma[:, None, None]
        noisy = (1 - sigma) * batch.clean + sigma * batch.noise
        common = self._inputs(batch, noisy, guidance)
        scale = batch.strength[:, None, None]
        with _fastest_attention(batch):
            double, single = self._steering(batch, common)
            velocity = self.transformer(
                controlnet_block_samples=[part * scale for part in double],
                controlnet_single_block_samples=[part * scale for part in single],
                **common,
            )[0]
        return velocity, self._guesses([*double, *single])

    def guesses(self, batch: Batch) -> list[Tensor]:
        """What each of the ControlNet's outputs says of the clean picture, from control and caption alone."""
        common = self._inputs(batch, torch.zeros_like(batch.clean), torch.ones_like(batch.sigma))
        with _fastest_attention(batch):
            double, single = self._steering(batch, common)
        return self._guesses([*double, *single])

    def _guesses(self, outputs: list[Tensor]) -> list[Tensor]:
        return [head(output) for head, output in zip(self.guess_heads, outputs, strict=True)]

    def _inputs(self, batch: Batch, noisy: Tensor, guidance: Tensor) -> dict[str, Any]:
        text_positions = torch.zeros(batch.text.shape[1], 3, device=noisy.device)
        return {
            "hidden_states": noisy,
            "encoder_hidden_states": batch.text,
            "pooled_projections": batch.pooled,
            "timestep": batch.sigma,
            "guidance": guidance,
            "img_ids": batch.positions,
            "txt_ids": text_positions,
            "return_dict": False,
        }

    def _steering(self, batch: Batch, common: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
        return self.controlnet(controlnet_cond=batch.control, controlnet_mode=batch.mode, **common)


def _fastest_attention(batch: Batch) -> AbstractContextManager[Any]:
    """On a CPU short sequences are faster without the fused kernel, forward and back."""
    is_short = batch.clean.device.type == "cpu" and batch.clean.shape[1] <= SHORT_TOKENS
    return sdpa_kernel(SDPBackend.MATH) if is_short else nullcontext()


class Batches:
    """Draws batches from the latents; all chance comes from the step's number."""

    def __init__(
        self,
        groups: list[LatentGroup],
        encoders: TextEncoders,
        device: torch.device,
        shares: dict[str, float],
        steps: int = 0,
        times: int = 1,
        sigma_mean: float = SIGMA_MEAN,
    ):
        """shares: how often each size is drawn, by its name. steps: of the stage; 0: every step sees whole pictures.

        times: as many pictures a step. sigma_mean: of the noise levels, as logits.
        """
        self.sigma_mean = sigma_mean
        self.steps, self.times = steps, times
        self.groups = [group for group in groups if f"{group.width}x{group.height}" in shares]
        self.encoders, self.device = encoders, device
        self.chances = torch.tensor([shares[f"{group.width}x{group.height}"] for group in self.groups])

    def draw(self, step: int, stage: int = 0) -> Batch:
        """stage: a number; each stage has its own chance."""
        chance = generator_of(5, 1_000_000 * stage + step)
        group = self.groups[int(torch.multinomial(self.chances, 1, generator=chance))]
        kept = self._kept_tokens(*group.latent_size, step, chance)
        count = self.times * max(1, min(BATCH_MAX, round(TOKENS_A_STEP / len(kept))))

        def whole(limit: int) -> Tensor:
            return torch.randint(limit, (count,), generator=chance)

        def share() -> Tensor:
            return torch.rand(count, generator=chance)

        scene, look, caption = whole(len(group.pictures)), whole(2), whole(4)
        captions = [
            group.captions[s][p][c] for s, p, c in zip(scene.tolist(), look.tolist(), caption.tolist(), strict=True)
        ]
        captions = ["" if drop < NO_CAPTION else text for text, drop in zip(captions, share().tolist(), strict=True)]
        text, pooled = self.encode(captions)
        normal = torch.randn(count, generator=chance)
        sigma = torch.sigmoid(self.sigma_mean + SIGMA_SPREAD * normal)
        sigma = torch.where(share() < SIGMA_EVEN, share(), sigma)
        mode = whole(len(CONTROL_MODES))
        clean = group.pictures[scene, look][:, kept].float()
        noise = torch.randn(clean.shape, generator=chance)
        strength = (share() >= NO_CONTROL).float()
        rows, columns = group.latent_size
        weight = 1.0 + SUBJECT_WEIGHT * group.subject[scene][:, kept].float()
        parts = (clean, noise, sigma, group.controls[scene, mode][:, kept].float(), mode[:, None], strength)
        rest = (weight / weight.mean(), text, pooled, image_positions(rows, columns)[kept])
        return Batch(*(part.to(self.device) for part in (*parts, *rest)))

    def _kept_tokens(self, latent_rows: int, latent_columns: int, step: int, chance: torch.Generator) -> Tensor:
        """The indices of the tokens that a step sees, sorted."""
        rows, columns = latent_rows // 2, latent_columns // 2
        tokens = rows * columns
        share = max(1.0, tokens / 256) ** 0.5 / tokens
        if step < SCATTERED_UNTIL * self.steps and SCATTERED_TOKENS * share < 1:
            few = round(SCATTERED_TOKENS * share * tokens)
            return torch.randperm(tokens, generator=chance)[:few].sort().values
        if step < WINDOW_UNTIL * self.steps and WINDOW_TOKENS * share < 1:
            side = (WINDOW_TOKENS * share) ** 0.5
            height, width = max(1, round(rows * side)), max(1, round(columns * side))
            top = int(torch.randint(rows - height + 1, (1,), generator=chance))
            left = int(torch.randint(columns - width + 1, (1,), generator=chance))
            return torch.arange(tokens).view(rows, columns)[top : top + height, left : left + width].flatten()
        return torch.arange(tokens)

    def encode(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return self.encoders.encode_all(captions)


def flow_loss(velocity: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return (((velocity.float() - target) ** 2).mean(2) * weight).mean()


def guess_loss(guesses: list[Tensor], batch: Batch) -> Tensor:
    """A mean over the ControlNet's outputs."""
    return torch.stack([flow_loss(guess, batch.clean, batch.weight) for guess in guesses]).mean()


def train_control(folder: Path, painter: Painter, batches: Batches, stage: Stage) -> None:
    """Teaches the ControlNet to say, from control and caption alone, what the picture is like on the whole.

    Whose colour goes where is a question of both, and the answer is found ten times sooner without noise in the way
    and without the transformer behind it.
    """
    optimizer = optimizer_of(painter, stage.rate)

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        batch = batches.draw(step, stage=2)
        with torch.autocast(batches.device.type, torch.bfloat16):
            guesses = painter.guesses(batch)
        loss = guess_loss(guesses, batch)
        return loss, {"loss": loss.item()}

    run_stage(stage, folder, {"painter": painter}, [optimizer], step_loss)


def train_flow(
    folder: Path,
    painter: Painter,
    batches: Batches,
    stage: Stage,
    show: Callable[[int, Painter], None],
    chance: int = 0,
) -> Painter:
    """Trains with guidance 1; returns the moving average of the weights, which is what paints well.

    chance: a number for each stage that is trained like this.
    """
    device = batches.device
    painter.requires_grad_(True).train()
    average = copy.deepcopy(painter).requires_grad_(False).eval()
    optimizer = optimizer_of(painter, stage.rate)

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        batch = batches.draw(step, chance)
        with torch.autocast(device.type, torch.bfloat16):
            velocity, guesses = painter.velocity_and_guesses(batch, torch.ones_like(batch.sigma))
        loss = flow_loss(velocity, batch.noise - batch.clean, batch.weight)
        guess = guess_loss(guesses, batch)
        return loss + GUESS_WEIGHT * guess, {"loss": loss.item(), "guess": guess.item()}

    def after_step(step: int) -> None:
        blend(average, painter, min(EMA, (step + 1) / (step + 10)))

    nets: dict[str, nn.Module] = {"painter": painter, "average": average}
    run_stage(stage, folder, nets, [optimizer], step_loss, after_step, lambda step: show(step, average))
    return average


def train_guidance(
    folder: Path, painter: Painter, batches: Batches, stage: Stage, show: Callable[[int, Painter], None]
) -> Painter:
    """Teaches the guidance input what classifier-free guidance does, so that one forward a step obeys the slider.

    The target is the velocity of the teacher (the painter as it came), moved by what it makes of the caption beyond the
    control alone, and a little by what it makes of both beyond neither. In half of the pictures the controls come
    stronger than the teacher's, too: several at once add up to more than one.
    """
    device = batches.device
    teacher = copy.deepcopy(painter).requires_grad_(False).eval()
    painter.requires_grad_(True).train()
    average = copy.deepcopy(painter).requires_grad_(False).eval()
    optimizer = optimizer_of(painter, stage.rate)
    no_text, no_pooled = batches.encode([""])

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        batch = batches.draw(step, stage=1)
        chance = generator_of(6, step)
        guidance = 1 + (GUIDANCE_MAX - 1) * torch.rand(len(batch.sigma), generator=chance).to(device)
        ones = torch.ones_like(batch.sigma)
        without = replace(batch, text=no_text.expand_as(batch.text), pooled=no_pooled.expand_as(batch.pooled))
        free = replace(without, strength=torch.zeros_like(batch.strength))
        more = 1 + (CONTROLS_MAX - 1) * (2 * torch.rand(len(batch.sigma), generator=chance) - 1).clamp(min=0).to(device)
        stronger = replace(batch, strength=batch.strength * more)
        with torch.autocast(device.type, torch.bfloat16):
            with torch.no_grad():
                plain, *others = (teacher(one, ones).float() for one in (batch, without, free))
                target = _guided(batch, plain, others, guidance)
            velocity = painter(stronger, guidance)
        loss = flow_loss(velocity, target, batch.weight)
        return loss, {"loss": loss.item()}

    def after_step(step: int) -> None:
        blend(average, painter, min(EMA, (step + 1) / (step + 10)))

    nets: dict[str, nn.Module] = {"painter": painter, "average": average}
    run_stage(stage, folder, nets, [optimizer], step_loss, after_step, lambda step: show(step, average))
    return average


def _guided(batch: Batch, plain: Tensor, others: Sequence[Tensor], guidance: Tensor) -> Tensor:
    """The velocity at a guidance: (n, tokens, 64), from the plain one and those to go away from, by GUIDANCE_SLOPES."""
    sigma = batch.sigma[:, None, None].clamp(min=1e-3)
    noisy = (1 - sigma) * batch.clean + sigma * batch.noise
    away = torch.stack([slope * (plain - other) for slope, other in zip(GUIDANCE_SLOPES, others, strict=True)]).sum(0)
    pushed = plain + (guidance - 1)[:, None, None] * away
    guess, pushed_guess = noisy - sigma * plain, noisy - sigma * pushed
    contrast = guess.std((1, 2), keepdim=True) / pushed_guess.std((1, 2), keepdim=True)
    return (noisy - pushed_guess * (1 - RESCALE + RESCALE * contrast)) / sigma


@torch.no_grad()
def blend(average: nn.Module, net: nn.Module, share: float) -> None:
    """average <- share x average + (1 - share) x net."""
    for kept, new in zip(average.parameters(), net.parameters(), strict=True):
        kept.lerp_(new, 1.0 - share)


def optimizer_of(net: nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(net.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
