"""Reads a LoRA's file for a model: what it adds to which layers. One that was not made for it is refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..wire import FailureError, FailureKind
from ..wire.lora_files import lora_metadata
from .dequantise import FLOAT_DTYPES
from .lora_names import TRANSFORMER, Layers, Target, part_of
from .low_rank import LowRank
from .safetensors_file import read_safetensors
from .weight_file import WeightFile

Place = tuple[str, str]
"""A net and the name of a layer in it."""
WIDENED = (TRANSFORMER, "x_embedder")
"""The layer that takes more than the picture in some models; what else it takes comes after."""
OTHER_METHODS = (
    (r"\.dora_scale$|\.lora_magnitude_vector", "DoRA"),
    (r"\.hada_[wt]\d", "LoHa"),
    (r"\.lokr_[wt]\d", "LoKr"),
    (r"\.oft_|\.boft_|\.oft_blocks", "OFT"),
    (r"\.on_input$|\.ia3_l", "(IA)³"),
    (r"\.lora_mid\.weight$", "LoCon with a core in the middle"),
    (r"\.[ab][12]\.weight$", "GLoRA"),
    (r"\.diff(_b)?$|\.w_norm$|\.b_norm$|\.set_weight$", "whole differences of weights"),
)
"""What else such a file may hold, by the tensors' names: ways to change weights that are not LoRA."""
OTHER_MODELS = (
    (r"^lora_te2_text_model|add_embedding", "SDXL"),
    (r"^lora_unet_(input|middle|output|down|mid|up)_block|^(unet\.)?(down|mid|up)_block", "Stable Diffusion or SDXL"),
    (r"joint_blocks[._]\d", "Stable Diffusion 3"),
    (r"stream_modulation|to_qkv_mlp_proj|ff(_context)?[._]linear_(in|out)", "FLUX.2"),
    (r"img_mlp[._]net|txt_mlp[._]net|(img|txt)_mod[._]1\b", "Qwen-Image"),
    (r"(^|\.|lora_unet_)blocks[._]\d+[._](self_attn|cross_attn|ffn)", "Wan"),
    (r"(noise|context)_refiner", "Lumina or Z-Image"),
    (r"token_refiner|double_blocks\.\d+\.(img|txt)_attn_", "HunyuanVideo"),
)
"""Names that only other models' layers have."""
CONTROL_HINT = 'Name it as "control_lora" in the model\'s model.json, which makes a Depth or Canny model of it.'


@dataclass(frozen=True, eq=False, slots=True)
class LoraFile:
    """name: the file's, without its ending. ranks: what is added to each layer; its tensors lie in the mapped file."""

    name: str
    ranks: dict[Place, LowRank]

    @property
    def rank(self) -> int:
        """The largest there is."""
        return max(len(part.down) for part in self.ranks.values())


def read_lora(path: Path, layers: Layers) -> LoraFile:
    """Reads a safetensors file with names as diffusers, PEFT, kohya's scripts, XLabs or Black Forest Labs write them.

    Raises `FailureError`: model_missing, model_broken, or model_unsupported for one that does not fit the layers.
    """
    file = read_safetensors(path)
    _check_kind(file)
    scales = _Scales(lora_metadata(path))
    ranks: dict[Place, LowRank] = {}
    for layer, parts in _by_layer(file).items():
        whole = _low_rank(file, layer, parts, scales)
        for place, part in _placed(file, layer, whole, layers).items():
            if place in ranks:
                _refuse(file, f"changes the layer {place[1]!r} twice", "Download it again.")
            ranks[place] = part
    return LoraFile(path.stem, ranks)


def _check_kind(file: WeightFile) -> None:
    for pattern, method in OTHER_METHODS:
        if any(re.search(pattern, name) for name in file.tensors):
            hint = "Choose a LoRA: one with lora_up and lora_down, or lora_A and lora_B."
            _refuse(file, f"holds {method}, which this version cannot apply", hint)
    for pattern, model in OTHER_MODELS:
        if found := next((name for name in file.tensors if re.search(pattern, name)), None):
            _refuse(file, f"is for {model}: it changes {found.split('.lora')[0]!r}, which FLUX.1 does not have")
    if any(name.endswith(("query_norm.scale", "key_norm.scale")) for name in file.tensors):
        _refuse(file, "is a control LoRA, which brings norms of its own", CONTROL_HINT)
    if not any(part_of(name) for name in file.tensors):
        _refuse(file, "holds no LoRA", "Choose a LoRA: one with lora_up and lora_down, or lora_A and lora_B.")


def _by_layer(file: WeightFile) -> dict[str, dict[str, Tensor]]:
    """The file's name of each layer -> its down, up, bias and alpha."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in file.tensors.items():
        named = part_of(name)
        if named is None:
            _refuse(file, f"holds {name!r}, which is no part of a LoRA", "Choose another one.")
        if not tensor.packed.size:
            _refuse(file, f"holds {name!r} without a number in it", "Download it again.")
        values = torch.from_numpy(tensor.packed).view(FLOAT_DTYPES[tensor.type.name]).reshape(tensor.shape)
        found.setdefault(named[0], {})[named[1]] = values
    return found


def _low_rank(file: WeightFile, layer: str, parts: Mapping[str, Tensor], scales: _Scales) -> LowRank:
    if "down" not in parts or "up" not in parts:
        _refuse(file, f"holds a part for {layer!r} without its other half", "Download it again.")
    sides = parts["down"], parts["up"]
    is_matrix = all(side.ndim >= 2 for side in sides)
    # A product of pixels one by one is written as a convolution by some trainers.
    if not is_matrix or any(side.shape[2:].numel() != 1 for side in sides) or len(sides[0]) != sides[1].shape[1]:
        _refuse(file, f"holds a part for {layer!r} in a shape that its other half does not fit", "Download it again.")
    down, up = (side.flatten(1) for side in sides)
    bias = parts["bias"].flatten() if "bias" in parts else None
    if bias is not None and len(bias) != len(up):
        _refuse(file, f"holds a bias for {layer!r} that its other parts do not fit", "Download it again.")
    if "alpha" in parts and parts["alpha"].numel() != 1:
        _refuse(file, f"holds an alpha for {layer!r} that is not one number", "Download it again.")
    scale = float(parts["alpha"]) / len(down) if "alpha" in parts else scales.of(layer, len(down))
    return LowRank(down, up, bias, scale)


def _placed(file: WeightFile, layer: str, whole: LowRank, layers: Layers) -> dict[Place, LowRank]:
    targets = layers.targets(layer, len(whole.up))
    if not targets:
        _refuse(file, f"is for a layer {layer!r} that this model does not have")
    is_divided = len({target.layer for target in targets}) == len(targets) > 1
    found: dict[Place, LowRank] = {}
    for target in targets:
        part = whole.rows(target.first, target.last) if is_divided else _slice(whole, target)
        place = target.net, target.layer
        found[place] = found[place].above(part) if place in found else part
    for place, part in found.items():
        _check_fits(file, layer, place, part, layers)
    return found


def _slice(whole: LowRank, target: Target) -> LowRank:
    rows = slice(target.first, target.last)
    return LowRank(whole.down, whole.up[rows], None if whole.bias is None else whole.bias[rows], whole.scale)


def _check_fits(file: WeightFile, layer: str, place: Place, part: LowRank, layers: Layers) -> None:
    own: Any = layers.by_net[place[0]][place[1]]
    width = part.down.shape[1]
    if place == WIDENED and width > own.in_features:
        _refuse(file, f"widens the model's first layer from {own.in_features} to {width} channels", CONTROL_HINT)
    fits = width == own.in_features or (place == WIDENED and width < own.in_features)
    if not fits or len(part.up) != own.out_features:
        theirs, ours = f"{width} to {len(part.up)}", f"{own.in_features} to {own.out_features}"
        _refuse(file, f"is for another model: its layer {layer!r} goes from {theirs}, this model's from {ours}")


class _Scales:
    """alpha / rank where a file says it once for all layers: in its metadata, as diffusers writes those of PEFT."""

    def __init__(self, metadata: Mapping[str, str]) -> None:
        try:
            told = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        except ValueError:
            told = {}
        self._told: dict[str, Any] = told if isinstance(told, dict) else {}

    def of(self, layer: str, rank: int) -> float:
        """1 where nothing is said."""
        net = next(
            (net for net in ("transformer", "text_encoder_2", "text_encoder") if layer.startswith(f"{net}.")), ""
        )
        own = layer.removeprefix(f"{net}.")
        alpha = self._told.get(f"{net}.lora_alpha")
        pattern = self._told.get(f"{net}.alpha_pattern")
        for key, value in pattern.items() if isinstance(pattern, dict) else ():
            if own == key or own.endswith(f".{key}"):
                alpha = value
        if isinstance(alpha, bool) or not isinstance(alpha, int | float):
            return 1.0
        return alpha / (rank**0.5 if self._told.get(f"{net}.use_rslora") is True else rank)


def _refuse(file: WeightFile, what: str, hint: str = "Choose a LoRA that was made for FLUX.1 dev.") -> NoReturn:
    raise FailureError.of(FailureKind.MODEL_UNSUPPORTED, f"The LoRA {file.path.stem} {what}.", hint, str(file.path))
