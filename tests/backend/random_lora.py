"""A random control LoRA, and what it makes of a transformer, put together without our reader."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import pad

from backend.flux.write_gguf import bfl_tensors
from tools.random_model import transformer_config

RANK = 4
FILE = "depth-lora.safetensors"
LORA_MODEL = "random-depth-lora"


@dataclass(frozen=True, eq=False)
class RandomLora:
    """by_bfl, by_diffusers: the file's tensors in either naming. state: of the Depth transformer that it makes."""

    by_bfl: dict[str, Tensor]
    by_diffusers: dict[str, Tensor]
    state: dict[str, Tensor]


def random_control_lora(base: dict[str, Tensor], seed: int = 0) -> RandomLora:
    """base: a dev transformer's state, in diffusers' names."""
    config = transformer_config("dev")
    chance = torch.Generator().manual_seed(seed)

    def random(*shape: int, scale: float) -> Tensor:
        return scale * torch.randn(shape, generator=chance)

    layers = [name.removesuffix(".weight") for name, value in base.items() if value.ndim == 2]
    norms = {name: 1.0 + random(len(value), scale=0.2) for name, value in base.items() if _is_norm(name)}
    biases = {f"{layer}.bias": random(base[f"{layer}.weight"].shape[0], scale=0.05) for layer in layers}
    ups = {f"{layer}.weight": random(base[f"{layer}.weight"].shape[0], RANK, scale=0.2) for layer in layers}
    # The file fuses layers; each of its rows tells by a number here which of ours it was.
    tags = {name: torch.full((len(up), 1), float(index)) for index, (name, up) in enumerate(ups.items())}
    owners = bfl_tensors({**tags, **biases, **norms}, config)
    by_bfl, by_diffusers, state = {}, {}, dict(base)
    for name, value in bfl_tensors({**ups, **biases, **norms}, config).items():
        layer, _, kind = name.rpartition(".")
        by_bfl[name if kind == "scale" else f"{layer}.lora_B.{kind}"] = value
        if kind != "weight":
            continue
        own = [layers[int(index)] for index in owners[name].unique()]
        width = 128 if layer == "img_in" else base[f"{own[0]}.weight"].shape[1]
        down = by_bfl[f"{layer}.lora_A.weight"] = random(RANK, width, scale=width**-0.5)
        for one in own:
            weight = base[f"{one}.weight"]
            state[f"{one}.weight"] = pad(weight, (0, width - weight.shape[1])) + ups[f"{one}.weight"] @ down
            state[f"{one}.bias"] = base[f"{one}.bias"] + biases[f"{one}.bias"]
            by_diffusers[f"transformer.{one}.lora_A.weight"] = down.clone()
            by_diffusers[f"transformer.{one}.lora_B.weight"] = ups[f"{one}.weight"]
            by_diffusers[f"transformer.{one}.lora_B.bias"] = biases[f"{one}.bias"]
    by_diffusers |= {f"transformer.{name}": value for name, value in norms.items()}
    return RandomLora(by_bfl, by_diffusers, {**state, **norms})


def _is_norm(name: str) -> bool:
    return name.endswith((".norm_q.weight", ".norm_k.weight", ".norm_added_q.weight", ".norm_added_k.weight"))


def write_lora(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)


def write_lora_model(folder: Path, base: dict[str, Tensor]) -> None:
    """Writes <folder>/random-depth-lora/ beside <folder>/random-weights/, of the same parts."""
    target = Path(shutil.copytree(folder / "random-weights", folder / LORA_MODEL))
    write_lora(target / FILE, random_control_lora(base).by_bfl)
    data = json.loads((target / "model.json").read_text())
    (target / "model.json").write_text(json.dumps({**data, "variant": "depth-dev", "control_lora": FILE}))
