"""Networks that turn a picture into a better one, from single files, by spandrel's classes."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from spandrel import (
    MAIN_REGISTRY,
    ImageModelDescriptor,
    SizeRequirements,
    UnsupportedModelError,
    canonicalize_state_dict,
)
from torch import Tensor, nn

from ..wire import FailureError, FailureKind

Purpose = Literal["upscale", "face", "restore"]
PURPOSES: dict[str, Purpose] = {"SR": "upscale", "FaceSR": "face", "Restoration": "restore"}
FILE_MAX = 3_000_000_000
"""Bytes. The largest network that spandrel knows, AuraSR, takes 2.5 thousand million."""
REFUSED = {
    "CodeFormer": "idx_pred_layer.1.weight",
    "MAT": "synthesis.first_stage.conv_first.conv.resample_filter",
    "FeMaSR and AdaCode": "multiscale_encoder.in_conv.weight",
    "SRFormer": "layers.0.residual_group.blocks.0.attn.aligned_relative_position_index",
}
"""Kinds whose licences forbid commercial use of what they make, and a weight by which each is known."""
CHANNELS_LAST = ("ESRGAN", "RealESRGAN Compact")
"""Nets of nothing but convolutions, which take a third less time with that order. Others may not run so: GFPGAN."""
WINDOW_SIDES = ("window_size", "split_size", "stripe_size")
"""What spandrel's classes call the sides of the windows in which they compare pixels, a number or some."""
COARSEST = {"SCUNet": 8}
"""Pixels on a side of what is one pixel where a network's picture is smallest, if windows are laid there too."""
ALIGN_MAX = 128
CODE_SIGNS = ("GLOBAL", "is blocked", "unrecognized function", "create new object")
"""What PyTorch's reader of weights says when a file would have it call or make something else."""


class Network:
    """A network on its device, ready to be called.

    name: the file's without its ending. architecture: spandrel's name of it. purpose: "upscale" (scale 2, 3, 4 or 8),
    "face" (an aligned face of 512 x 512) or "restore" (scale 1). channels: 1 (grey) or 3 (RGB) in and out.
    is_half: whether it computes in float16. align: a tile begins at a multiple of this, so that it sees its pixels in
    the same places of its windows as the whole picture would: then SwinIR and others make of tiles what they make of
    the whole. What looks at all of its picture at once (HAT and DAT weigh their channels so) comes near it.
    """

    def __init__(
        self, name: str, descriptor: ImageModelDescriptor[nn.Module], device: torch.device, is_half: bool
    ) -> None:
        self.name = name
        self.architecture = str(descriptor.architecture.name)
        self.purpose = PURPOSES[descriptor.purpose]
        self.scale = descriptor.scale
        self.channels = descriptor.input_channels
        self.align = _align(descriptor)
        self.is_half = is_half
        self.device = device
        self._order = torch.channels_last if self.architecture in CHANNELS_LAST else torch.contiguous_format
        if self.architecture in CHANNELS_LAST:
            descriptor.model.to(memory_format=self._order)
        self._full = descriptor if is_half else descriptor.to(device)
        self._half = copy.deepcopy(descriptor).half().to(device) if is_half else None

    def __call__(self, image: Tensor) -> Tensor:
        """(1, channels, h, w) float32, 0..1 -> (1, channels, h * scale, w * scale) float32, 0..1, on the device.

        What float16 cannot hold is computed once more in float32. Raises `FailureError` (model_broken) where that is
        not a number either.
        """
        image = image.to(self.device, memory_format=self._order)
        if self._half is not None:
            found = self._half(image.half())
            if bool(torch.isfinite(found).all()):
                return found.float()
        found = self._in_full(image)
        if not bool(torch.isfinite(found).all()):
            _fail(
                FailureKind.MODEL_BROKEN,
                f"The network {self.name} gave something that is no picture.",
                "Choose another network, or download this one again.",
            )
        return found

    def to(self, device: torch.device | str) -> Network:
        """The same network, moved: to main memory while something else needs the graphics card."""
        self.device = torch.device(device)
        (self._full if self._half is None else self._half).to(self.device)
        return self

    def _in_full(self, image: Tensor) -> Tensor:
        if self._half is None:
            return self._full(image)
        found = self._full.to(self.device)(image)
        self._full.to("cpu")
        return found


def _align(descriptor: ImageModelDescriptor[nn.Module]) -> int:
    """A number of pixels that all of a network's windows fit into."""
    sides: set[int] = set()
    for part in descriptor.model.modules():
        for name in WINDOW_SIDES:
            value: Any = getattr(part, name, ())
            sides |= {side for side in (value if isinstance(value, list | tuple) else (value,)) if type(side) is int}
    # SwinIR's real-world networks for small scales, as Real-ESRGAN's, begin by making pixels into channels.
    pixel = COARSEST.get(str(descriptor.architecture.name), 1) * int(getattr(descriptor.model, "start_unshuffle", 1))
    multiple = max(1, descriptor.size_requirements.multiple_of)
    found = math.lcm(multiple, *(side * pixel for side in sides if side > 0))
    return found if found <= ALIGN_MAX else multiple


def load_network(path: Path, device: torch.device | str = "cpu", half: bool | None = None) -> Network:
    """Reads a .safetensors or .pth file; only weights are read from either, never code.

    half: whether to compute in float16; None for where the network allows it and the device is a graphics card.

    Raises `FailureError`: model_missing, model_broken (damaged, cut off, or weights that fit no network) or
    model_unsupported (a kind that spandrel does not know or whose licence forbids commercial use, code in the file).
    """
    place = torch.device(device)
    state = canonicalize_state_dict(_read(path))
    for kind, weight in REFUSED.items():
        if weight in state or f"model.{weight}" in state:
            _fail(
                FailureKind.MODEL_UNSUPPORTED,
                f"The network {path.stem} is of the kind {kind}, whose licence forbids commercial use.",
                "Choose another one: GFPGAN for faces, Real-ESRGAN for everything else.",
            )
    descriptor = _described(path, state)
    is_half = descriptor.supports_half and (place.type == "cuda" if half is None else half)
    return Network(path.stem, descriptor, place, is_half)


def _described(path: Path, state: dict[str, Any]) -> ImageModelDescriptor[nn.Module]:
    try:
        found = MAIN_REGISTRY.load(state)
    except UnsupportedModelError:
        _unsupported(path)
    except (RuntimeError, ValueError, KeyError, TypeError, IndexError, AttributeError, AssertionError) as error:
        # What spandrel's classes stumble over where weights are missing or have other shapes.
        _broken(path, f"{type(error).__name__}: {error}")
    if not isinstance(found, ImageModelDescriptor) or (found.input_channels, found.output_channels) not in (
        (1, 1),
        (3, 3),
    ):
        _unsupported(path)
    if getattr(found.model, "start_unshuffle", 1) != 1:
        # spandrel asks for sides that make whole pixels of such a SwinIR's; its windows have to be whole, too.
        found.size_requirements = SizeRequirements(found.size_requirements.minimum, _align(found))
    return found.eval()


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        _fail(
            FailureKind.MODEL_MISSING,
            f"The network's file {path.name} is not there.",
            "Download it again, or choose another network.",
            str(path),
        )
    if path.stat().st_size > FILE_MAX or path.suffix.lower() not in (".safetensors", ".pth"):
        _unsupported(path)
    state = _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _read_pickle(path)
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        _unsupported(path)
    return state


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        _broken(path, str(error))


def _read_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not any(sign in str(error) for sign in CODE_SIGNS):
            _broken(path, str(error))
        _fail(
            FailureKind.MODEL_UNSUPPORTED,
            f"The network's file {path.name} holds more than weights, and was not opened.",
            "Choose a safetensors file of the same network.",
            f"{path} {error}",
        )
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        _broken(path, f"{type(error).__name__}: {error}")


def _unsupported(path: Path) -> NoReturn:
    _fail(
        FailureKind.MODEL_UNSUPPORTED,
        f"The file {path.name} is not a network that makes pictures larger or better.",
        "Choose a single file of one that spandrel knows, such as Real-ESRGAN, SwinIR, HAT, DAT or GFPGAN.",
        str(path),
    )


def _broken(path: Path, detail: str) -> NoReturn:
    _fail(
        FailureKind.MODEL_BROKEN,
        f"The network's file {path.name} is cut off or damaged.",
        "Download it again, or choose another network.",
        f"{path} {detail}",
    )


def _fail(kind: FailureKind, message: str, hint: str, detail: str = "") -> NoReturn:
    raise FailureError.of(kind, message, hint, detail)
