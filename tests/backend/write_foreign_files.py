"""Writes the files of tests/backend/foreign: tiny FLUX transformers, converted by stable-diffusion.cpp.

    pip install stable-diffusion-cpp-python      builds stable-diffusion.cpp; in an environment of its own
    .venv/bin/python -m tests.backend.write_foreign_files SOURCE.safetensors       with PyTorch: the source
    python tests/backend/write_foreign_files.py SOURCE.safetensors FOLDER          with stable-diffusion-cpp-python

They were written by version 0.4.7.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

SMALL: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 64,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 64,
    "num_attention_heads": 1,
    "joint_attention_dim": 64,
    "pooled_projection_dim": 64,
    "guidance_embeds": True,
    "axes_dims_rope": [8, 28, 28],
}
TYPES = ("q8_0", "q4_0")


def write_source(path: Path) -> None:
    """Random weights under Black Forest Labs' names, float16."""
    import torch
    from diffusers import FluxTransformer2DModel
    from safetensors.torch import save_file

    from backend.flux.write_gguf import bfl_tensors

    torch.manual_seed(17)
    state = FluxTransformer2DModel(**SMALL).state_dict()
    save_file({name: tensor.half().contiguous() for name, tensor in bfl_tensors(state, SMALL).items()}, path)


def convert(source: Path, folder: Path) -> None:
    from stable_diffusion_cpp import StableDiffusion  # pyright: ignore[reportMissingImports]

    folder.mkdir(parents=True, exist_ok=True)
    for name in TYPES:
        StableDiffusion().convert(str(source), output_path=str(folder / f"{name}.gguf"), output_type=name)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        write_source(Path(sys.argv[1]))
    else:
        convert(Path(sys.argv[1]), Path(sys.argv[2]))
