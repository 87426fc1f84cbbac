"""What is measured, most telling first. Each part stands alone, so that a run can be ended and gone on with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ..flux.load_transformer import load_transformer
from ..models.sizes import model_sizes
from . import floors, jobs, ours, theirs
from .scratch_models import Say, bench_model
from .sizes import BenchSize

Values = dict[str, float]
SIDES = ("main", "small", "large")
"""What the sides of `BenchSize` are called."""


class NotHereError(Exception):
    """This device cannot measure that; the text says why."""


@dataclass(frozen=True, eq=False, slots=True)
class Bench:
    """Where and at which size is measured."""

    scratch: Path
    size: BenchSize
    device: torch.device
    dtype: torch.dtype
    say: Say


@dataclass(frozen=True, slots=True)
class Part:
    """title: in a few words. run: measures; returns numbers by name (seconds, bytes, rates, errors)."""

    title: str
    run: Callable[[Bench], Values]


def measure_floors(bench: Bench) -> Values:
    """Rates of this device at each size of picture, in operations and bytes a second, and a loop's seconds by them."""
    values = floors.copy_rates(bench.size, bench.device)
    for name, side in zip(SIDES, bench.size.sides, strict=True):
        products, attention = floors.step_operations(bench.size, side)
        matmul_rate = floors.matmul_rate(bench.size, side, bench.device, bench.dtype)
        attention_rate = floors.attention_rate(bench.size, side, bench.device, bench.dtype)
        seconds = bench.size.steps * (products / matmul_rate + attention / attention_rate)
        values |= {f"matmul_{name}": matmul_rate, f"attention_{name}": attention_rate, f"loop_{name}": seconds}
    products, attention = floors.step_operations(bench.size, bench.size.sides[0])
    rate = floors.eight_bit_rate(bench.size, bench.size.sides[0], bench.device, bench.dtype)
    seconds = bench.size.steps * (products / rate + attention / values["attention_main"])
    return {**values, "matmul_eight_bit": rate, "loop_eight_bit": seconds}


def write_file(type_name: str) -> Callable[[Bench], Values]:
    """Makes the model's folder, so that the parts that read it are not timed out by its writing."""

    def run(bench: Bench) -> Values:
        folder = bench_model(bench.scratch, bench.size, type_name, bench.say)
        return {"bytes": folder.transformer.stat().st_size}

    return run


def measure_load(bench: Bench) -> Values:
    """The transformer from Q8_0 to ready, and what reading its bytes and copying them to the device takes."""
    folder = bench_model(bench.scratch, bench.size, "Q8_0", bench.say)
    size = folder.transformer.stat().st_size
    least = floors.read_seconds(folder.transformer)
    if bench.device.type != "cpu":
        least += size / floors.copy_rates(bench.size, bench.device)["copy_in"]

    def load() -> None:
        load_transformer(folder.transformer, folder.transformer_config, bench.device, bench.dtype)

    return {"seconds": floors.seconds_of(load, bench.device), "least": least}


def whole_job(cap: int | None) -> Callable[[Bench], Values]:
    """A whole picture from Q4_K through `Production`, the second one of a process, with a prompt of its own.

    cap: gigabytes of the card that the process may use; None for all.
    """

    def run(bench: Bench) -> Values:
        if cap is not None and bench.device.type != "cuda":
            raise NotHereError("A cap on the memory needs a CUDA card.")
        if cap is not None:
            total = torch.cuda.get_device_properties(bench.device).total_memory
            if total <= cap * 10**9:
                raise NotHereError(f"This card has no more than {cap} GB.")
            torch.cuda.set_per_process_memory_fraction(cap * 10**9 / total, bench.device)
        folder = bench_model(bench.scratch, bench.size, "Q4_K", bench.say)
        return jobs.second_job(folder, bench.size, str(bench.device))

    return run


def ours_exact(type_name: str, place: int = 0) -> Callable[[Bench], Values]:
    """Our loop from a file of that number format, at the size's side of that place."""

    def run(bench: Bench) -> Values:
        folder = bench_model(bench.scratch, bench.size, type_name, bench.say)
        model = ours.load(folder, bench.device, bench.dtype)
        loop = ours.run_loop(model, folder, ours.request_of(bench.size, bench.size.sides[place]))
        return {"seconds": loop.seconds, "peak": loop.peak, "files": model_sizes(folder).files}

    return run


def ours_by(speed: str) -> Callable[[Bench], Values]:
    """Our loop from Q8_0 by a speed that changes pixels, and how far its latents are from the exact loop's."""

    def run(bench: Bench) -> Values:
        folder = bench_model(bench.scratch, bench.size, "Q8_0", bench.say)
        model = ours.load(folder, bench.device, bench.dtype)
        side = bench.size.sides[0]
        exact = ours.run_loop(model, folder, ours.request_of(bench.size, side))
        near = ours.run_loop(model, folder, ours.request_of(bench.size, side, speed))
        error = float((near.tokens - exact.tokens).norm() / exact.tokens.norm())
        return {"seconds": near.seconds, "exact": exact.seconds, "peak": near.peak, "error": error}

    return run


def stock(form: str, place: int = 0) -> Callable[[Bench], Values]:
    """diffusers' pipeline from Q8_0; form: see `theirs.load_stock`."""

    def run(bench: Bench) -> Values:
        folder = bench_model(bench.scratch, bench.size, "Q8_0", bench.say)
        nets = theirs.load_stock(folder, bench.size, bench.device, bench.dtype, form)
        parts = ours.load(folder, torch.device("cpu"), bench.dtype)
        parts.encode_prompt(ours.PROMPT)
        torch.nn.Module.to(parts.vae, bench.device)
        request = ours.request_of(bench.size, bench.size.sides[place])
        loop = theirs.run_stock(nets, parts, folder, request, bench.device)
        return {"seconds": loop.seconds, "peak": loop.peak}

    return run


PARTS = {
    "floors": Part("what this device can do at best", measure_floors),
    "write_q8_0": Part("the model's file in Q8_0 is written", write_file("Q8_0")),
    "exact": Part("ours exact, Q8_0 with ControlNet", ours_exact("Q8_0")),
    "stock": Part("stock diffusers, GGUF Q8_0 with ControlNet", stock("gguf")),
    "resident": Part("diffusers, the same weights unpacked once", stock("resident")),
    "compiled": Part("diffusers, unpacked once and compiled", stock("compiled")),
    "eight_bit": Part("ours with 8-bit products", ours_by("eight_bit")),
    "write_q4_k": Part("the model's file in Q4_K is written", write_file("Q4_K")),
    "q4_k": Part("ours exact, Q4_K", ours_exact("Q4_K")),
    "write_q6_k": Part("the model's file in Q6_K is written", write_file("Q6_K")),
    "q6_k": Part("ours exact, Q6_K", ours_exact("Q6_K")),
    "load": Part("loading the transformer from Q8_0", measure_load),
    "uncapped": Part("a whole job from Q4_K with all of the card", whole_job(None)),
    "capped_8": Part("the same with 8 GB of it", whole_job(8)),
    "capped_12": Part("the same with 12 GB of it", whole_job(12)),
    "capped_16": Part("the same with 16 GB of it", whole_job(16)),
    "capped_24": Part("the same with 24 GB of it", whole_job(24)),
    "small": Part("ours exact, Q8_0, the smaller picture", ours_exact("Q8_0", 1)),
    "stock_small": Part("stock diffusers, the smaller picture", stock("gguf", 1)),
    "large": Part("ours exact, Q8_0, the larger picture", ours_exact("Q8_0", 2)),
    "cached": Part("ours with cached steps, and its error", ours_by("cached")),
    "fast": Part("ours by all that is fast, and its error", ours_by("fast")),
    "stock_large": Part("stock diffusers, the larger picture", stock("gguf", 2)),
}
"""By name, most telling first."""
