"""What every stage of the training shares: a loop with checkpoints, a learning rate that rises and falls, a bar."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

CHECKPOINT_SECONDS = 120.0
SHEET_SECONDS = 480.0


@dataclass(frozen=True)
class Stage:
    """One stage's budget. warmup: steps over which the learning rate rises; it falls along a cosine to a twentieth."""

    name: str
    steps: int
    rate: float
    warmup: int = 100

    def rate_at(self, step: int) -> float:
        rise = min(1.0, (step + 1) / self.warmup)
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))
        return self.rate * rise * (0.05 + 0.95 * fall)


def run_stage(
    stage: Stage,
    folder: Path,
    nets: dict[str, nn.Module],
    optimizers: list[torch.optim.Optimizer],
    step_loss: Callable[[int], tuple[Tensor, dict[str, float]]],
    after_step: Callable[[int], None] = lambda step: None,
    show: Callable[[int], None] = lambda step: None,
) -> None:
    """Trains to the stage's last step, from its checkpoint where there is one.

    step_loss: the step's number -> a loss and figures for the bar. It draws all chance from the number, so that a
    training that was resumed is the one that was not interrupted. nets: what a checkpoint keeps. show: draws a
    contact sheet, every few minutes.
    """
    path = folder / f"{stage.name}.checkpoint"
    start, seconds = _resume(path, nets, optimizers)
    began = time.monotonic() - seconds
    averages: dict[str, float] = {}
    saved = shown = time.monotonic()
    parameters = [parameter for net in nets.values() for parameter in net.parameters() if parameter.requires_grad]
    bar = tqdm(range(start, stage.steps), initial=start, total=stage.steps, desc=stage.name)
    for step in bar:
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = stage.rate_at(step) * group.get("share", 1.0)
            optimizer.zero_grad(set_to_none=True)
        loss, figures = step_loss(step)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        after_step(step)
        for name, value in figures.items():
            averages[name] = value if name not in averages else 0.98 * averages[name] + 0.02 * value
        bar.set_postfix({name: f"{value:.4f}" for name, value in averages.items()}, refresh=False)
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            save_checkpoint(path, step + 1, nets, optimizers, time.monotonic() - began)
            saved = time.monotonic()
        if time.monotonic() - shown > SHEET_SECONDS:
            show(step)
            shown = time.monotonic()
    if start < stage.steps:
        save_checkpoint(path, stage.steps, nets, optimizers, time.monotonic() - began)
        show(stage.steps)


def save_checkpoint(
    path: Path, step: int, nets: dict[str, nn.Module], optimizers: list[torch.optim.Optimizer], seconds: float
) -> None:
    """Written beside and renamed: an interruption leaves the one before. seconds: of training so far."""
    state: dict[str, Any] = {
        "step": step,
        "seconds": seconds,
        "nets": {name: net.state_dict() for name, net in nets.items()},
    }
    state["optimizers"] = [optimizer.state_dict() for optimizer in optimizers]
    partial = path.with_suffix(".part")
    torch.save(state, partial)
    partial.replace(path)


def _resume(path: Path, nets: dict[str, nn.Module], optimizers: list[torch.optim.Optimizer]) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, net in nets.items():
        net.load_state_dict(state["nets"][name])
    for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(kept)
    return int(state["step"]), float(state.get("seconds", 0.0))


def progress_of(folder: Path, name: str) -> tuple[int, float]:
    """Steps and seconds of a stage so far; nothing where it has no checkpoint."""
    path = folder / f"{name}.checkpoint"
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return int(state["step"]), float(state.get("seconds", 0.0))


def generator_of(*numbers: int) -> torch.Generator:
    """Chance that depends on these numbers alone."""
    seed = 0x5EED
    for number in numbers:
        seed = (seed * 1_000_003 + number + 1) % (2**63)
    return torch.Generator("cpu").manual_seed(seed)
