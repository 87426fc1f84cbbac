"""Upscaling: what tiling costs beside the bare network, and that memory does not grow beyond the picture."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.figure import Figure

ROOT = Path(__file__).resolve().parent.parent.parent
SIDE = 1024
ROUNDS = 3
PEAK = """
import resource, sys
from pathlib import Path
import numpy as np
from backend.enhance.networks import load_network
from backend.enhance.upscale import upscale

side = int(sys.argv[2])
upscale(np.full((side, side, 3), 90, np.uint8), 4, load_network(Path(sys.argv[1])))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def run() -> list[Figure]:
    """The whole path against one tile times their number, and the peaks of two processes."""
    with tempfile.TemporaryDirectory() as folder:
        return [_time(Path(folder)), _memory(Path(folder))]


def _time(folder: Path, side: int = SIDE) -> Figure:
    import torch

    from backend.enhance.networks import load_network
    from backend.enhance.upscale import OVERLAPS, TILES, upscale
    from tests.backend.enhance_samples import painted, write_compact

    net = load_network(write_compact(folder / "net.safetensors", features=32, convs=8))
    picture, tile, counts, ratios = painted(side, side), torch.rand(1, 3, TILES["cpu"], TILES["cpu"]), [], []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        net(tile)
        between = time.perf_counter()
        upscale(picture, 4, net, overlap=OVERLAPS[net.architecture], progress=lambda done, total: counts.append(total))
        ratios.append((time.perf_counter() - between) / ((between - started) * counts[-1]))
    ratio = statistics.median(ratios[1:])
    detail = f"{counts[-1]} tiles of {TILES['cpu']}², median of {ROUNDS}, a compact network of 32 channels"
    return Figure(f"x4 of {side}², tiled ÷ the bare network on one tile · tiles", ratio, 1.15, detail)


def _memory(folder: Path) -> Figure:
    from tests.backend.enhance_samples import write_compact

    net = write_compact(folder / "tiny.safetensors", features=2, convs=1)
    small, large = (_peak(net, side) for side in (1024, 4096))
    picture = 3 * 16384**2
    detail = f"{large / 1e6:.0f} MB at 16K, {small / 1e6:.0f} MB at 4K, the picture {picture / 1e6:.0f} MB"
    return Figure("peak memory at 16K ÷ (that at 4K + the picture)", large / (small + picture), 1.0, detail)


def _peak(net: Path, side: int) -> int:
    command = [sys.executable, "-c", PEAK, str(net), str(side)]
    return int(subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout)


def main() -> None:
    for figure in run():
        print(f"{figure.name}: {figure.ratio:.3f} (target {figure.target}); {figure.detail}")


if __name__ == "__main__":
    main()
