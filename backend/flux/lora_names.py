"""The names that LoRA files give to layers, and which layers of ours they mean.

Written by diffusers and PEFT, by kohya's scripts, by trainers that keep Black Forest Labs' names, and by XLabs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import nn

from .quantised_linear import LowRankLinear
from .transformer_names import DOUBLE_BLOCK, EMBEDDERS, SINGLE_BLOCK, bfl_pieces

TRANSFORMER, CLIP, T5 = "transformer", "text_encoder", "text_encoder_2"
"""The nets that a LoRA may change, as a model's folder names them."""
PREFIXES = (
    ("lora_unet_", TRANSFORMER), ("lora_transformer_", TRANSFORMER), ("lycoris_", TRANSFORMER),
    ("lora_te1_", CLIP), ("lora_te_", CLIP), ("lora_te2_", T5), ("lora_te3_", T5),
    ("text_encoders.clip_l.transformer.", CLIP), ("text_encoders.t5xxl.transformer.", T5),
    ("text_encoder_2.", T5), ("text_encoder.", CLIP),
    ("model.diffusion_model.", TRANSFORMER), ("diffusion_model.", TRANSFORMER), ("transformer.", TRANSFORMER),
)  # fmt: skip
"""Those with underscores write a layer's dots as underscores, too."""
PART = re.compile(
    r"(?P<layer>.+?)(?:\.lora_linear_layer|\.lora)?\.(?P<part>lora_A|lora_down|down|lora_B|lora_up|up|alpha)"
    r"(?:\.(?!weight$|bias$)\w+)?(?:\.(?P<kind>weight|bias))?"
)
PARTS = {"lora_A": "down", "lora_down": "down", "down": "down", "lora_B": "up", "lora_up": "up", "up": "up"}
XLABS_DOUBLE = re.compile(r"double_blocks\.(\d+)\.processor\.(qkv|proj)_lora([12])")
XLABS_SINGLE = re.compile(r"single_blocks\.(\d+)\.processor\.(qkv|proj)_lora")
BFL_DOUBLE = (*DOUBLE_BLOCK, "img_attn.qkv", "txt_attn.qkv")
BFL_SINGLE = (*SINGLE_BLOCK, "linear1")
BFL_OTHERS = (*EMBEDDERS, "final_layer.adaLN_modulation.1")


@dataclass(frozen=True, slots=True)
class Target:
    """Rows `first` up to `last` of what a file holds for a layer belong to the layer `layer` of `net`, in order."""

    net: str
    layer: str
    first: int
    last: int


def part_of(name: str) -> tuple[str, str] | None:
    """A tensor's name -> the layer's and which part of its LoRA it is: down, up, bias or alpha. None for all else."""
    found = PART.fullmatch(name)
    if found is None:
        return None
    part, kind = PARTS.get(found["part"], "alpha"), found["kind"]
    if part == "alpha":
        return (found["layer"], "alpha") if kind is None else None
    if kind == "bias":
        return (found["layer"], "bias") if part == "up" else None
    return (found["layer"], part) if kind == "weight" else None


@dataclass(frozen=True, eq=False)
class Layers:
    """The linear layers of a model's nets as they were loaded, by the names of diffusers and transformers.

    nets: by TRANSFORMER, CLIP and T5. inner_dim: the transformer's width.
    """

    nets: Mapping[str, nn.Module]
    inner_dim: int
    by_net: dict[str, dict[str, nn.Module]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_net", {name: _linear_layers(net) for name, net in self.nets.items()})

    def anew(self) -> Layers:
        """The same nets' layers as they are now."""
        return Layers(self.nets, self.inner_dim)

    def targets(self, name: str, rows: int) -> list[Target]:
        """Which layers a file's layer of so many rows belongs to; [] where the model has none of that name."""
        net, layer = _net_and_layer(name)
        if net not in self.by_net:
            return []
        known = self.by_net[net]
        layer = self._dotted[net].get(layer, layer)
        if layer in known:
            return [Target(net, layer, 0, rows)]
        if net != TRANSFORMER:
            return []
        pieces = bfl_pieces(f"{_xlabs_as_bfl(layer)}.weight", rows, self.inner_dim)
        found = [Target(net, p.target.removesuffix(".weight"), p.first, p.last) for p in pieces if p.first < p.last]
        return found if all(target.layer in known for target in found) else []

    @cached_property
    def _dotted(self) -> dict[str, dict[str, str]]:
        """By net: a layer's name with underscores -> as it is; the transformer's also in Black Forest Labs' names."""
        names = {net: list(layers) for net, layers in self.by_net.items()}
        if TRANSFORMER in names:
            names[TRANSFORMER] += _bfl_layers(names[TRANSFORMER])
        return {net: {name.replace(".", "_"): name for name in listed} for net, listed in names.items()}


def _net_and_layer(name: str) -> tuple[str, str]:
    name = name.removeprefix("base_model.model.")
    for prefix, net in PREFIXES:
        if name.startswith(prefix):
            # Newer transformers keep CLIP's layers one level higher than files do.
            return net, name.removeprefix(prefix).removeprefix("text_model_").removeprefix("text_model.")
    return TRANSFORMER, name


def _linear_layers(net: nn.Module) -> dict[str, nn.Module]:
    """Layers with a width on both sides, whatever form their weights have."""
    inside = {id(layer.base) for layer in net.modules() if isinstance(layer, LowRankLinear)}
    return {
        name: layer
        for name, layer in net.named_modules()
        if hasattr(layer, "in_features") and hasattr(layer, "out_features") and id(layer) not in inside
    }


def _bfl_layers(known: list[str]) -> Iterator[str]:
    """Black Forest Labs' names of the layers of a transformer that has these."""
    blocks = {kind: _blocks(known, kind) for kind in ("transformer_blocks", "single_transformer_blocks")}
    yield from BFL_OTHERS
    for index in range(blocks["transformer_blocks"]):
        yield from (f"double_blocks.{index}.{layer}" for layer in BFL_DOUBLE)
    for index in range(blocks["single_transformer_blocks"]):
        yield from (f"single_blocks.{index}.{layer}" for layer in BFL_SINGLE)


def _blocks(known: list[str], kind: str) -> int:
    return 1 + max((int(name.split(".")[1]) for name in known if name.startswith(f"{kind}.")), default=-1)


def _xlabs_as_bfl(layer: str) -> str:
    if found := XLABS_DOUBLE.fullmatch(layer):
        return f"double_blocks.{found[1]}.{'img' if found[3] == '1' else 'txt'}_attn.{found[2]}"
    if found := XLABS_SINGLE.fullmatch(layer):
        return f"single_blocks.{found[1]}.{'linear1' if found[2] == 'qkv' else 'linear2'}"
    return layer
