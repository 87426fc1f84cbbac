"""Small networks with known behaviour, and pictures, that the tests of enhancement share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from backend.enhance.networks import Network, load_network


def compact_weights(
    scale: int = 4, channels: int = 3, features: int = 8, convs: int = 2, seed: int = 0
) -> dict[str, Any]:
    """Real-ESRGAN's compact network with random weights, so small that it takes no time; its result is a picture."""
    from spandrel.architectures.Compact import Compact

    torch.manual_seed(seed)
    net = Compact(num_in_ch=channels, num_out_ch=channels, num_feat=features, num_conv=convs, upscale=scale)
    return {name: value.clone() for name, value in net.state_dict().items()}


def write_compact(path: Path, is_plain: bool = False, **options: Any) -> Path:
    """Writes one as .safetensors or .pth, by the ending of the path. is_plain: it repeats pixels and adds nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = compact_weights(**options)
    if is_plain:
        state = {name: torch.zeros_like(value) for name, value in state.items()}
    if path.suffix == ".pth":
        torch.save({"params": state}, path)
    else:
        save_file(state, path)
    return path


def small_network(folder: Path, **options: Any) -> Network:
    return load_network(write_compact(folder / "small.safetensors", **options))


def painted(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8 with slopes, edges and a little of everything."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    picture = np.stack([x * 255.0 / width, y * 255.0 / height, 127.0 + 60.0 * np.sin(x / 3.0)], axis=2)
    picture[(x // 9 + y // 7) % 3 == 0] *= 0.4
    return np.clip(picture + rng.normal(0.0, 6.0, picture.shape), 0.0, 255.0).astype(np.uint8)
