"""A copy of a model whose transformer is float16, as it may have been before it was quantised to Q8_0."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from gguf import GGMLQuantizationType

from backend.flux.dequantise import dequantise
from backend.flux.gguf_file import read_gguf
from backend.flux.write_gguf import write_gguf


def write_float_copy(model: Path, target: Path) -> None:
    """Copies the model's folder to `target`. Each weight moves by up to half a step: what was rounded is not known."""
    shutil.copytree(model, target)
    chance = torch.Generator().manual_seed(0)
    tensors = {}
    for name, tensor in read_gguf(model / "transformer.gguf").tensors.items():
        packed = torch.from_numpy(tensor.packed.copy())
        values = dequantise(packed, tensor.type.name).reshape(tensor.shape)
        if tensor.type.name == "Q8_0":
            steps = packed.reshape(-1, 34)[:, :2].contiguous().view(torch.float16).float()
            moved = (torch.rand((len(steps), 32), generator=chance) - 0.5) * steps
            values = values + moved.reshape(values.shape)
        tensors[name] = values
    write_gguf(target / "transformer.gguf", tensors, matrices=GGMLQuantizationType.F16)
