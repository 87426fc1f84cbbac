"""What is measured, most telling first. Each part stands alone, so that a run can be ended and gone on with.

A part tells what it has as it goes: should its time be over, that is kept.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from ..flux.memory import release
from ..flux.model import FluxModel
from ..flux.placement import Placement
from ..models import ModelFolder
from ..models.sizes import model_sizes, transformer_files, weights_in
from ..wire.speeds import EXACT
from . import floors, jobs, ours, theirs
from .scratch_models import Say, bench_model, shared_parts
from .sizes import BenchSize

Values = dict[str, float]
SIDES = ("main", "small", "large")
"""What the sides of `BenchSize` are called."""
LOADS = 3
"""Of the model, timed, after one that is not."""


class NotHereError(Exception):
    """This device cannot measure that; the text says why."""


@dataclass(frozen=True, eq=False, slots=True)
class Bench:
    """Where and at which size is measured, and whom a part tells what.

    machine: device and versions. done: the numbers of the parts that were measured before, by their names. keep: takes
    what a part has by now. notes: sentences for below the table. ends: when the part's time is over, by
    `time.monotonic`. profile: whether the time of one step is to be told operator by operator.
    """

    scratch: Path
    size: BenchSize
    device: torch.device
    dtype: torch.dtype
    say: Say
    keep: Callable[[Values], None]
    ends: float
    machine: Mapping[str, str] = field(default_factory=dict)
    done: Mapping[str, Values] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    profile: bool = False

    def seconds_left(self) -> float:
        return self.ends - time.monotonic()

    @property
    def origin(self) -> dict[str, str]:
        """Of what is kept in a file."""
        return {name: value for name, value in self.machine.items() if name != "date"}

    @property
    def exact_path(self) -> Path:
        """Of what the exact loop came to."""
        return self.scratch / f"exact-{self.size.name}.safetensors"


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


def write_parts(bench: Bench) -> Values:
    """Makes what all models share: ControlNet, VAE, text encoders."""
    folder = shared_parts(bench.scratch, bench.size, bench.say)
    return {"bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())}


def write_file(type_name: str) -> Callable[[Bench], Values]:
    """Makes the model's folder, so that the parts that read it are not timed out by its writing."""

    def run(bench: Bench) -> Values:
        folder = bench_model(bench.scratch, bench.size, type_name, bench.say)
        return {"bytes": folder.transformer.stat().st_size}

    return run


def measure_load(bench: Bench) -> Values:
    """All of the model from Q8_0 to ready as its plan has it, and reading and copying the bytes of the same files.

    As production does it (`load_model`): transformer, text encoders and VAE, without the ControlNet. The bytes are read
    into memory that is used again, which is the least there can be.
    """
    folder = bench_model(bench.scratch, bench.size, "Q8_0", bench.say)
    placement = _placement(bench, folder, bench.size.sides[0])
    parts = [path for name in ("vae", "text_encoder", "text_encoder_2") for path in weights_in(folder.parts[name])]
    files = [*transformer_files(folder), *parts]
    least = sum(map(floors.read_seconds, files))
    if bench.device.type != "cpu":
        least += sum(path.stat().st_size for path in files) / floors.copy_rates(bench.size, bench.device)["copy_in"]
    times: list[float] = []
    for _ in range(1 + LOADS):
        began = time.perf_counter()
        model = ours.load(folder, bench.device, bench.dtype, placement)
        times.append(time.perf_counter() - began)
        del model
        gc.collect()
        release()
        if times[1:]:
            bench.keep({"seconds": statistics.median(times[1:]), "least": least})
    return {"seconds": statistics.median(times[1:]), "least": least}


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
        side = bench.size.sides[place]
        placement = _placement(bench, folder, side)
        model = ours.load(folder, bench.device, bench.dtype, placement)
        values, tokens = _loop(bench, model, folder, EXACT, side)
        if type_name == "Q8_0" and place == 0:
            ours.keep_tokens(bench.exact_path, tokens, bench.origin)
        return {**values, "files": model_sizes(folder).files}

    return run


def ours_packed(bench: Bench) -> Values:
    """Our loop from Q8_0 with the weights as in the file and all of the model on the device, whatever its plan."""
    folder = bench_model(bench.scratch, bench.size, "Q8_0", bench.say)
    side = bench.size.sides[0]
    plan = ours.plan(folder, bench.size, side, bench.device)
    is_compiled, has_graphs = plan.placement.compiled, plan.placement.graphs
    placement = Placement("packed", compiled=is_compiled, graphs=has_graphs)
    files = model_sizes(folder).files
    if plan.machine.usable and files > plan.machine.usable:
        raise NotHereError("This device does not hold all of the model at once.")
    bench.notes.append(f"{ours.in_words(placement)} (not by its plan)")
    model = ours.load(folder, bench.device, bench.dtype, placement)
    values, _ = _loop(bench, model, folder, EXACT, side)
    return {**values, "files": files}


def ours_by(speed: str) -> Callable[[Bench], Values]:
    """Our loop from Q8_0 by a speed that changes pixels, and how far its latents are from the exact loop's.

    That one's are those of the part "exact", where it was run by the same versions; else it is run here.
    """

    def run(bench: Bench) -> Values:
        folder = bench_model(bench.scratch, bench.size, "Q8_0", bench.say)
        side = bench.size.sides[0]
        model = ours.load(folder, bench.device, bench.dtype, _placement(bench, folder, side, speed))
        exact = ours.kept_tokens(bench.exact_path, bench.origin) if "exact" in bench.done else None
        if exact is None:
            quiet = replace(bench, keep=lambda values: None, notes=[], profile=False)
            exact = _loop(quiet, model, folder, EXACT, side)[1].float().cpu()
            ours.keep_tokens(bench.exact_path, exact, bench.origin)
        values, tokens = _loop(bench, model, folder, speed, side)
        error = float((tokens.float().cpu() - exact).norm() / exact.norm())
        return {**values, "error": error}

    return run


def _placement(bench: Bench, folder: ModelFolder, side: int, speed: str = EXACT) -> Placement:
    """By the plan of this machine; said below the table."""
    plan = ours.plan(folder, bench.size, side, bench.device, speed)
    bench.notes.append(ours.in_words(plan.placement))
    return plan.placement


def _loop(bench: Bench, model: FluxModel, folder: ModelFolder, speed: str, side: int) -> tuple[Values, torch.Tensor]:
    """A loop's numbers and its latents; its profile in a file beside the results, where that is asked for."""
    request = ours.request_of(bench.size, side, speed)

    def numbers(loop: ours.Loop) -> Values:
        return {"seconds": loop.seconds, "peak": loop.peak, "is_compiled": float(loop.is_compiled)}

    loop = ours.run_loop(model, folder, request, bench.seconds_left, lambda first: bench.keep(numbers(first)))
    bench.keep(numbers(loop))
    if model.places.placement.compiled and not loop.is_compiled:
        why = model.running.programs.trouble or "its programs were not there in time"
        bench.notes.append(f"ran not compiled: {why}")
    elif model.places.placement.graphs and not model.running.graphed:
        bench.notes.append(f"ran without CUDA graphs: {model.running.graphs.trouble or 'it makes too few calls'}")
    if bench.profile:
        path = bench.scratch / f"profile-{folder.name}-{side}-{speed}.txt"
        path.write_text(ours.profile_step(model, folder, request), encoding="utf-8")
        bench.notes.append(f"where a step's time goes is in {path.name}")
    return numbers(loop), loop.tokens


def stock(form: str, place: int = 0) -> Callable[[Bench], Values]:
    """diffusers' pipeline from Q8_0; form: see `theirs.load_stock`."""

    def run(bench: Bench) -> Values:
        folder = bench_model(bench.scratch, bench.size, "Q8_0", bench.say)
        nets = theirs.load_stock(folder, bench.size, bench.device, bench.dtype, form)
        parts = ours.load(folder, torch.device("cpu"), bench.dtype, Placement())
        parts.encode_prompt(ours.PROMPT)
        torch.nn.Module.to(parts.vae, bench.device)
        request = ours.request_of(bench.size, bench.size.sides[place])
        loop = theirs.run_stock(nets, parts, folder, request, bench.device)
        return {"seconds": loop.seconds, "peak": loop.peak}

    return run


PARTS = {
    "floors": Part("what this device can do at best", measure_floors),
    "write_parts": Part("the ControlNet, the VAE and the text encoders are written", write_parts),
    "write_q8_0": Part("the model's file in Q8_0 is written", write_file("Q8_0")),
    "exact": Part("ours exact by its plan, Q8_0 with ControlNet", ours_exact("Q8_0")),
    "stock": Part("stock diffusers, GGUF Q8_0 with ControlNet", stock("gguf")),
    "resident": Part("diffusers, the same weights unpacked once", stock("resident")),
    "compiled": Part("diffusers, unpacked once and compiled", stock("compiled")),
    "packed": Part("ours exact, all of it on the device as in the files", ours_packed),
    "eight_bit": Part("ours with 8-bit products, and their error", ours_by("eight_bit")),
    "write_q4_k": Part("the model's file in Q4_K is written", write_file("Q4_K")),
    "q4_k": Part("ours exact, Q4_K", ours_exact("Q4_K")),
    "write_q6_k": Part("the model's file in Q6_K is written", write_file("Q6_K")),
    "q6_k": Part("ours exact, Q6_K", ours_exact("Q6_K")),
    "load": Part("loading the model from Q8_0", measure_load),
    "uncapped": Part("a whole job from Q4_K with all of the card", whole_job(None)),
    "capped_8": Part("the same with 8 GB of it", whole_job(8)),
    "capped_12": Part("the same with 12 GB of it", whole_job(12)),
    "capped_16": Part("the same with 16 GB of it", whole_job(16)),
    "capped_24": Part("the same with 24 GB of it", whole_job(24)),
    "small": Part("ours exact, Q8_0, the smaller picture", ours_exact("Q8_0", 1)),
    "stock_small": Part("stock diffusers, the smaller picture", stock("gguf", 1)),
    "large": Part("ours exact, Q8_0, the larger picture", ours_exact("Q8_0", 2)),
    "stock_large": Part("stock diffusers, the larger picture", stock("gguf", 2)),
    "cached": Part("ours with cached steps, and its error", ours_by("cached")),
    "fast": Part("ours by all that is fast, and its error", ours_by("fast")),
}
"""By name, most telling first."""
