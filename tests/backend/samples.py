"""Maps and runs that several tests share."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from backend.production import Production
from backend.wire import ControlMaps, Failure, GenerationRequest, GenerationResult, Progress

if TYPE_CHECKING:
    from backend.flux.model import FluxModel

CONFIG: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 64,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 64,
    "num_attention_heads": 4,
    "joint_attention_dim": 256,
    "pooled_projection_dim": 256,
    "guidance_embeds": True,
    "axes_dims_rope": [8, 28, 28],
}
"""Of a small transformer whose rows suit every number format."""


def make_maps(width: int, height: int) -> ControlMaps:
    """A slope under a sky, with a grid of lines, colours that run across, and someone with all joints on a circle."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    depth = 4.0 + x / width + 2.0 * y / height
    depth[: height // 4] = np.inf
    normal = np.zeros((height, width, 3), np.float32)
    normal[height // 4 :] = (0.6, 0.0, 0.8)
    line = (x % 16 < 2).astype(np.float32)
    colour = np.stack((x / width, y / height, np.full_like(x, 0.5)), axis=2) * 255.0
    turn = np.arange(18) * (2.0 * np.pi / 18)
    pose = np.stack([0.5 + 0.4 * np.cos(turn), 0.5 + 0.4 * np.sin(turn), np.ones(18)], axis=1)[None]
    return ControlMaps(depth.astype(np.float32), normal, line, colour.astype(np.uint8), pose.astype(np.float32))


def run(
    production: Production,
    request: GenerationRequest,
    maps: ControlMaps | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_preview: Callable[[np.ndarray], None] = lambda image: None,
    is_cancelled: Callable[[], bool] = lambda: False,
    digests: Mapping[str, str] | None = None,
) -> GenerationResult | Failure:
    maps = make_maps(request.width, request.height) if maps is None else maps
    return production.run(
        request, maps, on_progress=on_progress, on_preview=on_preview, is_cancelled=is_cancelled, digests=digests
    )


def kept_model(production: Production) -> FluxModel:
    """The model that was loaded last, or a test failure where there is none."""
    assert production._keeper.loaded is not None
    return production._keeper.loaded[1]


def made(result: GenerationResult | Failure) -> GenerationResult:
    """The result, or a test failure that says why there is none."""
    assert isinstance(result, GenerationResult), f"{result} {result.detail}"
    return result


def failed(result: GenerationResult | Failure) -> Failure:
    assert isinstance(result, Failure), "a picture came out where a Failure was expected"
    return result


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def texts_of(png: bytes) -> dict[str, str]:
    """The text chunks of a PNG."""
    image = Image.open(io.BytesIO(png), formats=["PNG"])
    assert isinstance(image, PngImageFile)
    return image.text


SCALE_PLACES = {
    "Q8_0": (0,), "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q2_K": (80, 82), "Q3_K": (108,),
    "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,),
}  # fmt: skip
"""Where in a block float16 numbers are, in bytes."""


def random_packed(name: str, rows: int, columns: int, seed: int, scale: float = 0.01) -> np.ndarray:
    """(rows, bytes per row) uint8 of a GGUF number format: random weights with sane scales.

    Where gguf-py can quantise, random numbers through it; else random bytes, their float16 scales about `scale`.
    """
    import gguf
    from gguf.quants import quantize

    rng = np.random.default_rng(seed)
    kind = gguf.GGMLQuantizationType[name]
    if name not in SCALE_PLACES or name in ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"):
        values = rng.standard_normal((rows, columns), np.float32) * np.float32(scale * 100.0)
        return np.ascontiguousarray(quantize(values, kind)).view(np.uint8).reshape(rows, -1)
    block_size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (rows * columns // block_size, block_bytes), np.uint8)
    for place in SCALE_PLACES[name]:
        halves = (scale * rng.uniform(0.5, 1.5, (len(blocks), 1))).astype(np.float16)
        blocks[:, place : place + 2] = halves.view(np.uint8)
    return blocks.reshape(rows, -1)
