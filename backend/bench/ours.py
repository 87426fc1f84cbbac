"""Our engine's denoise loop, timed, by the memory plan that production would make for this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..flux.memory import peak_memory, reset_peak
from ..flux.model import FluxModel, load_model
from ..flux.picture_job import ControlInput, PictureJob
from ..flux.placement import Placement
from ..models import ModelFolder, choose_nets
from ..planning import MemoryPlan
from ..production import model_files
from ..production.machine import machine_of
from ..production.planned import plan_of_job
from ..wire import Control, GenerationRequest
from ..wire.speeds import EXACT
from .floors import synchronise
from .sizes import BenchSize

PROMPT = "a house on a hill"
STRENGTH = 0.8
OPERATORS = 25
"""Rows of a profile."""


@dataclass(frozen=True, eq=False, slots=True)
class Loop:
    """seconds: of the whole denoise loop. peak: bytes. tokens: what came of it. is_compiled: whether it ran so."""

    seconds: float
    peak: int
    tokens: Tensor
    is_compiled: bool = False


def plan(folder: ModelFolder, size: BenchSize, side: int, device: torch.device, speed: str = EXACT) -> MemoryPlan:
    """What production would decide for such a picture here and now."""
    request = replace(request_of(size, side, speed), controls=(Control("depth", STRENGTH, 0.0, 1.0),))
    choices = choose_nets(["depth"], folder.controlnets, folder.name, folder.joined)
    return plan_of_job(machine_of(str(device)), request, folder, choices, (), {})


def in_words(placement: Placement) -> str:
    """A placement, for a note."""
    said = [placement.transformer]
    said += ["encoders leave"] * placement.encoders_leave + ["T5 streamed"] * placement.encoders_streamed
    said += ["nets leave"] * placement.nets_leave + [f"VAE in tiles of {placement.vae_tile}"] * bool(placement.vae_tile)
    said += ["to be compiled" if placement.compiled else "not to be compiled"]
    return ", ".join([*said, *["with CUDA graphs"] * placement.graphs])


def load(folder: ModelFolder, device: torch.device, dtype: torch.dtype, placement: Placement) -> FluxModel:
    """The model, ready on the device as far as the placement has it there."""
    model = load_model(model_files(folder), device, dtype, lambda: None, placement)
    if placement.transformer != "streamed":
        model.places.use_whole_transformer()
    synchronise(device)
    return model


def request_of(size: BenchSize, side: int, speed: str = EXACT) -> GenerationRequest:
    """A square picture of the benchmark's size."""
    return GenerationRequest(PROMPT, side, side, steps=size.steps, speed=speed)


def control_of(folder: ModelFolder, side: int) -> ControlInput:
    """A control that acts in all steps."""
    picture = np.random.default_rng(3).integers(0, 256, (side, side, 3), np.uint8)
    return ControlInput(folder.controlnets[0].folder, None, picture, STRENGTH, 0.0, 1.0)


def run_loop(
    model: FluxModel,
    folder: ModelFolder,
    request: GenerationRequest,
    seconds_left: Callable[[], float],
    keep: Callable[[Loop], None],
) -> Loop:
    """One loop with the ControlNet in all steps, after a short one to warm up.

    Where the placement has it so, the short one has the blocks compiled, which is waited for while half of the time is
    left; until then there is a loop that runs as it is. keep: told of that one, should there be no other.
    """
    _timed(model, folder, replace(request, steps=2))
    if model.places.placement.compiled:
        keep(_timed(model, folder, request))
        if model.running.programs.wait(max(0.0, seconds_left() / 2)):
            _timed(model, folder, replace(request, steps=2))
    return _timed(model, folder, request)


def _timed(model: FluxModel, folder: ModelFolder, request: GenerationRequest) -> Loop:
    job = ready_job(model, folder, request)
    model.running.begin()
    synchronise(model.device)
    reset_peak(model.device)
    began = time.perf_counter()
    job.denoise(lambda step, tokens: None)
    synchronise(model.device)
    seconds = time.perf_counter() - began
    return Loop(seconds, peak_memory(model.device), job.tokens, model.running.is_compiled)


def ready_job(model: FluxModel, folder: ModelFolder, request: GenerationRequest) -> PictureJob:
    """A picture before its loop: text and control are read."""
    control = control_of(folder, request.width)
    job = PictureJob(model, request, [control])
    job.read_text()
    job.read_control(control)
    return job


def profile_step(model: FluxModel, folder: ModelFolder, request: GenerationRequest) -> str:
    """Which operators the second step of a loop spends its time in, the longest first: torch's own table."""
    from torch.profiler import ProfilerActivity, profile

    is_cuda = model.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_cuda else [])]
    job = ready_job(model, folder, replace(request, steps=3))
    profiler = profile(activities=activities, acc_events=True)

    def on_step(step: int, tokens: Tensor) -> None:
        synchronise(model.device)
        if step == 0:
            profiler.start()
        elif step == 1:
            profiler.stop()

    job.denoise(on_step)
    order = "self_cuda_time_total" if is_cuda else "self_cpu_time_total"
    return profiler.key_averages().table(sort_by=order, row_limit=OPERATORS, max_name_column_width=60)


def keep_tokens(path: Path, tokens: Tensor, origin: dict[str, str]) -> None:
    """Keeps what the exact loop came to, for the loops that are compared with it. origin: what it holds for."""
    save_file({"tokens": tokens.float().cpu().contiguous()}, path, metadata={"origin": json.dumps(origin)})


def kept_tokens(path: Path, origin: dict[str, str]) -> Tensor | None:
    """What an exact loop came to that ran by the same versions on the same machine; None where none did."""
    if not path.is_file():
        return None
    with safe_open(path, "pt") as file:
        file_: Any = file
        is_same = json.loads((file_.metadata() or {}).get("origin", "{}")) == origin
        return file_.get_tensor("tokens") if is_same else None
