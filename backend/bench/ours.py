"""Our engine's denoise loop, timed."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..flux.memory import peak_memory, reset_peak
from ..flux.model import FluxModel, load_model
from ..flux.picture_job import ControlInput, PictureJob
from ..models import ModelFolder
from ..production import model_files
from ..wire import GenerationRequest
from ..wire.speeds import EXACT
from .floors import synchronise
from .sizes import BenchSize

PROMPT = "a house on a hill"
STRENGTH = 0.8


@dataclass(frozen=True, eq=False, slots=True)
class Loop:
    """seconds: of the whole denoise loop. peak: bytes. tokens: what came of it."""

    seconds: float
    peak: int
    tokens: Tensor


def load(folder: ModelFolder, device: torch.device, dtype: torch.dtype) -> FluxModel:
    """The model, ready on the device."""
    model = load_model(model_files(folder), device, dtype, lambda: None)
    synchronise(device)
    return model


def request_of(size: BenchSize, side: int, speed: str = EXACT) -> GenerationRequest:
    """A square picture of the benchmark's size."""
    return GenerationRequest(PROMPT, side, side, steps=size.steps, speed=speed)


def control_of(folder: ModelFolder, side: int) -> ControlInput:
    """A control that acts in all steps."""
    picture = np.random.default_rng(3).integers(0, 256, (side, side, 3), np.uint8)
    return ControlInput(folder.controlnets[0].folder, None, picture, STRENGTH, 0.0, 1.0)


def run_loop(model: FluxModel, folder: ModelFolder, request: GenerationRequest) -> Loop:
    """One loop with the ControlNet in all steps, after a short one to warm up."""
    for steps in (2, request.steps):
        job = ready_job(model, folder, request, steps)
        synchronise(model.device)
        reset_peak(model.device)
        began = time.perf_counter()
        job.denoise(lambda step, tokens: None)
        synchronise(model.device)
        seconds = time.perf_counter() - began
    return Loop(seconds, peak_memory(model.device), job.tokens)


def ready_job(model: FluxModel, folder: ModelFolder, request: GenerationRequest, steps: int) -> PictureJob:
    """A picture before its loop: text and control are read."""
    from dataclasses import replace

    control = control_of(folder, request.width)
    job = PictureJob(model, replace(request, steps=steps), [control])
    job.read_text()
    job.read_control(control)
    return job
