"""Loads what surrounds the transformer: ControlNets, VAE, text encoders, the schedule's shift.

All of it from a folder on disk, by the libraries' own loaders with the network off, and strictly: a weight that is
missing or of another shape is refused by name instead of being made up.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from safetensors import SafetensorError
from transformers import CLIPTextModel, SiglipVisionModel, T5EncoderModel
from transformers.utils.logging import disable_progress_bar

from ..wire import FailureError, FailureKind
from .model_parts import broken, require
from .products import use_best_products
from .schedules import Shift

Part = TypeVar(
    "Part", AutoencoderKL, FluxControlNetModel, ReduxImageEncoder, CLIPTextModel, T5EncoderModel, SiglipVisionModel
)


def load_part(kind: type[Part], folder: Path, device: torch.device, dtype: torch.dtype) -> Part:
    """A network of the class `kind` from config.json and safetensors in `folder`, in evaluation mode."""
    require(folder, "config.json", "*.safetensors")
    # diffusers and transformers name this argument differently.
    options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    options["torch_dtype" if issubclass(kind, ModelMixin) else "dtype"] = dtype
    try:
        disable_progress_bar()
        with without_deprecations():
            loaded: Any = kind.from_pretrained(str(folder), **options)
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise broken(folder, error) from error
    part, report = loaded
    wrong = sorted(str(name) for name in (*report["missing_keys"], *report["mismatched_keys"]))
    if wrong:
        raise FailureError.of(
            FailureKind.MODEL_UNSUPPORTED,
            f"The weights in {folder.name} lack {len(wrong)} of those the model needs, {wrong[0]!r} among them.",
            "Download this model again, or choose another one.",
            str(folder),
        )
    use_best_products(part)
    return part.to(device).eval().requires_grad_(False)


@contextmanager
def without_deprecations() -> Iterator[None]:
    """diffusers' FluxControlNetModel is built from a class that diffusers itself calls deprecated, and says so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`FluxPosEmbed` is deprecated", category=FutureWarning)
        yield


def load_shift(folder: Path) -> Shift:
    """The schedule's shift from diffusers' scheduler_config.json."""
    require(folder, "scheduler_config.json")
    path = folder / "scheduler_config.json"
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Shift(
            is_dynamic=bool(data.get("use_dynamic_shifting", False)),
            base_tokens=int(data.get("base_image_seq_len", 256)),
            max_tokens=int(data.get("max_image_seq_len", 4096)),
            base_shift=float(data.get("base_shift", 0.5)),
            max_shift=float(data.get("max_shift", 1.15)),
            fixed=float(data.get("shift", 1.0)),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise broken(folder, error) from error


def only_gguf(folder: Path) -> Path | None:
    """The GGUF file in the folder, None where there is none. Raises `FailureError` (model_broken) on several."""
    found = sorted(folder.glob("*.gguf"))
    if len(found) > 1:
        raise FailureError.of(
            FailureKind.MODEL_BROKEN,
            f"The folder {folder.name} holds {len(found)} GGUF files.",
            "Leave the one that is to be used.",
            ", ".join(path.name for path in found),
        )
    return found[0] if found else None
