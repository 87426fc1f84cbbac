"""Which family of models a ControlNet was made for, as its config.json says, and whether it is as wide as the model."""

from __future__ import annotations

import json
from pathlib import Path

from ..wire import FailureError, FailureKind

OURS = "FluxControlNetModel"
FAMILIES = {
    "ControlNetModel": "Stable Diffusion",
    "ControlNetXSAdapter": "Stable Diffusion",
    "ControlNetUnionModel": "Stable Diffusion XL",
    "SD3ControlNetModel": "Stable Diffusion 3",
    "HunyuanDiT2DControlNetModel": "Hunyuan-DiT",
    "QwenImageControlNetModel": "Qwen-Image",
    "SanaControlNetModel": "Sana",
    "Flux2ControlNetModel": "FLUX.2",
}
"""diffusers' classes, and what each is for."""


def check_net_family(folder: Path) -> None:
    """Raises `FailureError` (model_unsupported) for a net of another family; what cannot be read, loading will tell."""
    try:
        named = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if not isinstance(named, str) or named == OURS:
        return
    family = FAMILIES.get(named, f"another kind of model ({named})")
    raise FailureError.of(
        FailureKind.MODEL_UNSUPPORTED,
        f"The ControlNet in {folder.name} is for {family}, not for FLUX.1.",
        "Choose a ControlNet that was made for FLUX.1, or switch its control off.",
        str(folder / "config.json"),
    )


def check_net_width(folder: Path, width: int, wanted: int) -> None:
    """Raises `FailureError` (model_unsupported) unless what the net adds is as wide as the transformer's stream."""
    if width != wanted:
        raise FailureError.of(
            FailureKind.MODEL_UNSUPPORTED,
            f"The ControlNet in {folder.name} is for a larger or smaller FLUX: it is {width} wide, the model {wanted}.",
            "Choose a ControlNet that was made for this model, or switch its control off.",
            str(folder / "config.json"),
        )
