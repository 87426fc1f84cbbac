"""Upscaling: what tiling costs beside the bare network, and that memory does not grow beyond the picture."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from backend.enhance.tiles import plan_axis
from tests.bench.figure import Figure
from tests.enhance_weights import ncnn_network, vulkan_devices, write_network

ROOT = Path(__file__).resolve().parent.parent.parent
SIDE, SMALL = 1024, 256
COMPACT = "realesr-animevideov3"
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
    """The whole path against one tile times their number, the peaks of two processes, and another engine."""
    with tempfile.TemporaryDirectory() as folder:
        network = write_network(COMPACT, Path(folder))
        return [_time(network), _memory(Path(folder)), *_beside_ncnn(network)]


def _time(path: Path) -> Figure:
    import torch

    from backend.enhance.networks import load_network
    from backend.enhance.upscale import OVERLAPS, TILES, upscale
    from tests.backend.enhance_samples import painted

    net = load_network(path)
    picture, tile, counts, ratios = painted(SIDE, SIDE), torch.rand(1, 3, TILES["cpu"], TILES["cpu"]), [], []
    cut = plan_axis(SIDE, 4 * SIDE, TILES["cpu"], OVERLAPS[net.architecture])
    assert {one.stop - one.start for one in cut} == {TILES["cpu"]}, "every tile that is cut is of the size timed"
    with torch.inference_mode():
        for _ in range(ROUNDS + 1):
            started = time.perf_counter()
            net(tile)
            between = time.perf_counter()
            upscale(picture, 4, net, progress=lambda done, total: counts.append(total))
            after = time.perf_counter()
            net(tile)
            bare = (between - started + time.perf_counter() - after) / 2
            ratios.append((after - between) / (bare * counts[-1]))
    ratio = statistics.median(ratios[1:])
    detail = f"{counts[-1]} tiles of {TILES['cpu']}², median of {ROUNDS}, {COMPACT}"
    return Figure(f"x4 of {SIDE}², tiled ÷ the bare network on one tile · tiles", ratio, 1.15, detail)


def _beside_ncnn(path: Path) -> list[Figure]:
    """The same weights on the same picture by ncnn: on the processor, and with Vulkan where there is a device."""
    import numpy as np
    import torch

    from backend.enhance.networks import load_network
    from tests.backend.enhance_samples import painted

    net, picture, figures = load_network(path), painted(SMALL, SMALL).astype(np.float32) / 255.0, []
    image = np.ascontiguousarray(picture.transpose(2, 0, 1))
    given = torch.from_numpy(image)[None]
    for device in ("processor", *vulkan_devices()):
        theirs = ncnn_network(COMPACT, vulkan=device != "processor")
        with torch.inference_mode():
            off = float(np.abs(net(given)[0].numpy() - theirs(image)).max())
            pairs = [(seconds(lambda: net(given)), seconds(lambda run=theirs: run(image))) for _ in range(ROUNDS)]
        ratio = statistics.median(first / second for first, second in pairs)
        detail = f"{COMPACT} on {SMALL}², median of {ROUNDS}; the pictures differ by {off:.0e} at the most"
        figures.append(Figure(f"a network on the processor ÷ ncnn on {device}", ratio, None, detail))
    return figures


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _memory(folder: Path) -> Figure:
    from tests.backend.enhance_samples import write_compact

    net = write_compact(folder / "tiny.safetensors", features=2, convs=1)
    # What a process takes differs by 20 MB from one to the next, as its threads come to their memory.
    small, large = (statistics.median(_peak(net, side) for _ in range(ROUNDS)) for side in (1024, 4096))
    picture = 3 * 16384**2
    sizes = f"{large / 1e6:.0f} MB at 16K, {small / 1e6:.0f} MB at 4K, the picture {picture / 1e6:.0f} MB"
    detail = f"{sizes}, medians of {ROUNDS}"
    return Figure("peak memory at 16K ÷ (that at 4K + the picture)", large / (small + picture), 1.0, detail)


def _peak(net: Path, side: int) -> int:
    command = [sys.executable, "-c", PEAK, str(net), str(side)]
    return int(subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout)


def main() -> None:
    for figure in run():
        print(f"{figure.name}: {figure.ratio:.3f} (target {figure.target}); {figure.detail}")


if __name__ == "__main__":
    main()
