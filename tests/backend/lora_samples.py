"""Random LoRAs, and what they make of a transformer's weights, put together without our reader."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import pad

from backend.flux.forward import Conditions, prepare, transformer_velocity
from backend.flux.lora import LoraInput, LoraStack, loras_of
from backend.flux.lora_names import Layers
from backend.flux.moves import Mover

Ranks = dict[str, tuple[Tensor, Tensor]]
"""By the layer's name in diffusers: down and up."""


def random_ranks(state: dict[str, Tensor], seed: int, rank: int = 4, layers: Iterable[str] | None = None) -> Ranks:
    """For all of a transformer's matrices, or those of some layers. state: its weights, in diffusers' names."""
    chance = torch.Generator().manual_seed(seed)
    names = [name.removesuffix(".weight") for name, value in state.items() if value.ndim == 2]
    found: Ranks = {}
    for name in names if layers is None else layers:
        out, width = state[f"{name}.weight"].shape
        down = torch.randn(rank, width, generator=chance) / width**0.5
        found[name] = down, 0.3 * torch.randn(out, rank, generator=chance)
    return found


def write_lora(
    path: Path, ranks: Ranks, prefix: str = "transformer.", alpha: float | None = None, told: dict | None = None
) -> Path:
    """Writes ranks in diffusers' names. alpha: for every layer. told: what diffusers' metadata says of the adapter."""
    tensors: dict[str, Tensor] = {}
    for name, (down, up) in ranks.items():
        tensors[f"{prefix}{name}.lora_A.weight"] = down.clone()
        tensors[f"{prefix}{name}.lora_B.weight"] = up.clone()
        if alpha is not None:
            tensors[f"{prefix}{name}.alpha"] = torch.tensor(alpha)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"lora_adapter_metadata": json.dumps(told)} if told else None)
    return path


def merged(state: dict[str, Tensor], *loras: tuple[Ranks, float]) -> dict[str, Tensor]:
    """The weights with LoRAs merged, in float32. A `down` narrower than its layer leaves the further inputs alone."""
    total = {name: value.float().clone() for name, value in state.items()}
    for ranks, strength in loras:
        for name, (down, up) in ranks.items():
            weight = total[f"{name}.weight"]
            weight += pad(strength * (up @ down), (0, weight.shape[1] - down.shape[1]))
    return total


def stack_of(net: FluxTransformer2DModel, merges: bool = False) -> LoraStack:
    stack = loras_of({"transformer": net}, net.inner_dim, torch.float32, Mover(torch.device("cpu")))
    stack.merges = merges
    return stack


def use(stack: LoraStack, *loras: tuple[Path, float]) -> None:
    with torch.inference_mode():
        stack.use([LoraInput(path, strength) for path, strength in loras])


def velocity(net: FluxTransformer2DModel) -> Tensor:
    """One call of the net on random latents, text and places."""
    chance = torch.Generator().manual_seed(5)
    config = net.config
    text = torch.randn(1, 6, config["joint_attention_dim"], generator=chance)
    pooled = torch.randn(1, config["pooled_projection_dim"], generator=chance)
    places = torch.zeros(12, 3)
    places[:, 1], places[:, 2] = torch.arange(12) // 4, torch.arange(12) % 4
    latents = torch.randn(1, 12, net.x_embedder.in_features, generator=chance)
    with torch.inference_mode():
        prepared = prepare(net, Conditions(text, pooled, places, torch.tensor([0.7]), 3.5))
        return transformer_velocity(net, latents, prepared, 0, [])


def of_weights(config: dict, state: dict[str, Tensor]) -> FluxTransformer2DModel:
    """diffusers' transformer with these weights."""
    net = FluxTransformer2DModel(**config).eval()
    net.load_state_dict(state)
    return net


def full_size_layers() -> Layers:
    """The layers of a FLUX.1 of two blocks at its real width; none of its weights is there."""
    with torch.device("meta"):
        net = FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True)
    return Layers({"transformer": net}, net.inner_dim)


def module_ids(net: nn.Module) -> dict[str, int]:
    return {name: id(layer) for name, layer in net.named_modules()}
