"""Unpacking a weight of FLUX's width on one core, against diffusers' own, in one process.

On one core, because what else runs on a machine stops both ways' threads by turns, and not alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from tests.bench.figure import Figure

ROWS, COLUMNS = 3072, 3072
ROUNDS = 7


def run() -> list[Figure]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return [_figure(name) for name in ("Q8_0", "Q4_K", "Q6_K")]
    finally:
        torch.set_num_threads(threads)


def _figure(name: str) -> Figure:
    import torch
    from diffusers.quantizers.gguf.utils import dequantize_functions
    from gguf import GGMLQuantizationType

    from backend.flux.dequantise import BLOCKS
    from backend.flux.unpack import unpacked_for_now
    from tests.backend.samples import random_packed

    packed = torch.from_numpy(random_packed(name, ROWS, COLUMNS, seed=0))
    kind = BLOCKS[name]
    stock: Callable[..., torch.Tensor] = dequantize_functions[GGMLQuantizationType[name]]

    def theirs() -> torch.Tensor:
        blocks = packed.reshape(-1, kind.block_bytes)
        return stock(blocks, kind.block_size, kind.block_bytes, dtype=torch.float32).reshape(ROWS, COLUMNS)

    def ours() -> torch.Tensor:
        return unpacked_for_now(packed, name, torch.float32)

    torch.testing.assert_close(ours(), theirs().float(), rtol=1e-2, atol=1e-3)
    own, reference = _seconds(ours), _seconds(theirs)
    detail = (
        f"{own * 1e3:.1f} ms against {reference * 1e3:.1f} ms of diffusers for {ROWS} x {COLUMNS}, median of {ROUNDS}"
    )
    return Figure(f"unpacking {name} on a processor ÷ diffusers", own / reference, 1.0, detail)


def _seconds(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    for figure in run():
        print(f"{figure.name}: {figure.ratio:.2f} (target {figure.target}); {figure.detail}")


if __name__ == "__main__":
    main()
