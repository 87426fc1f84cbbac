"""What a device can do at best, measured on it, and what a step of FLUX takes of that."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.functional import scaled_dot_product_attention

from ..flux.eight_bit import best_form, multiply, scaled
from .sizes import BenchSize

ROUNDS = 5
READ_AT_ONCE = 1 << 26


def synchronise(device: torch.device) -> None:
    """Waits until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds_of(work: Callable[[], object], device: torch.device, repeats: int = 1) -> float:
    """The median time of one call, after one to warm up."""
    work()
    times = []
    for _ in range(ROUNDS):
        synchronise(device)
        began = time.perf_counter()
        for _ in range(repeats):
            work()
        synchronise(device)
        times.append((time.perf_counter() - began) / repeats)
    return statistics.median(times)


def matmul_rate(size: BenchSize, side: int, device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of the product that most of a step is: all tokens with a matrix of width x 4 width."""
    rows = size.tokens(side) + size.text_tokens
    x = torch.randn(rows, size.width, device=device, dtype=dtype)
    weight = torch.randn(4 * size.width, size.width, device=device, dtype=dtype)
    taken = seconds_of(lambda: torch.nn.functional.linear(x, weight), device, 10)
    return 2.0 * rows * size.width * 4 * size.width / taken


def eight_bit_rate(size: BenchSize, side: int, device: torch.device, dtype: torch.dtype) -> float:
    """The same in the 8 bits that the device is best in."""
    rows, form = size.tokens(side) + size.text_tokens, best_form(device)
    x8, x_scale = scaled(torch.randn(rows, size.width, device=device), form)
    weight8, scale = scaled(torch.randn(4 * size.width, size.width, device=device), form)
    taken = seconds_of(lambda: multiply(x8, weight8, x_scale, scale, dtype), device, 10)
    return 2.0 * rows * size.width * 4 * size.width / taken


def attention_rate(size: BenchSize, side: int, device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of attention among all tokens, by torch's own choice of kernel."""
    rows, heads = size.tokens(side) + size.text_tokens, size.transformer["num_attention_heads"]
    shape = (1, heads, rows, size.transformer["attention_head_dim"])
    q, k, v = (torch.randn(shape, device=device, dtype=dtype) for _ in range(3))
    taken = seconds_of(lambda: scaled_dot_product_attention(q, k, v), device, 3)
    return 4.0 * rows * rows * size.width / taken


def copy_rates(size: BenchSize, device: torch.device) -> dict[str, float]:
    """Bytes a second: from main memory to the device (pinned where it is a GPU), and within the device."""
    count = 1 << (29 if size.name == "real" else 22)
    host = torch.empty(count, dtype=torch.uint8, pin_memory=device.type == "cuda")
    there, other = (torch.empty(count, dtype=torch.uint8, device=device) for _ in range(2))
    return {
        "copy_in": count / seconds_of(lambda: there.copy_(host, non_blocking=True), device),
        "copy_within": count / seconds_of(lambda: other.copy_(there), device),
    }


def read_seconds(path: Path) -> float:
    """The median time to read a file's bytes into memory that is there already, from the system's cache if it fits."""
    buffer = bytearray(READ_AT_ONCE)

    def read() -> None:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

    return seconds_of(read, torch.device("cpu"))


def step_operations(size: BenchSize, side: int) -> tuple[float, float]:
    """(products, attention): floating-point operations of one step with the ControlNet, without adaLN's.

    A double block has 12 width^2 weights for each of its two streams, a single block as many for both together.
    """
    rows = size.tokens(side) + size.text_tokens
    blocks = size.transformer["num_layers"] + size.transformer["num_single_layers"] + size.net_blocks
    residuals = 2.0 * size.net_blocks * size.width**2 * size.tokens(side)
    return 24.0 * size.width**2 * rows * blocks + residuals, 4.0 * rows * rows * size.width * blocks
