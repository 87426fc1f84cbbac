"""The processor as a device with a memory of its own: what lies on it is a copy, and what has left it is not used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from backend.flux import moves, places
from backend.flux.model import FluxModel, load_model
from backend.flux.placement import Placement
from backend.flux.places import Places
from backend.models import ModelFolder
from backend.production import model_files
from tests.backend.diffusers_reference import REQUEST, ours

CPU = torch.device("cpu")
PACKED = Placement()


@contextmanager
def apart(room: int | None = None) -> Iterator[None]:
    """What is loaded meanwhile computes so. room: bytes that its parts may take together."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moves, "is_apart", lambda device: True)
        patch.setattr(places, "room_of", lambda device: room)
        yield


def load_apart(
    folder: ModelFolder,
    placement: Placement = PACKED,
    room: int | None = None,
) -> FluxModel:
    """As `diffusers_reference.load_engine`, on such a device; every layer sees to it that its weights are there."""
    with torch.inference_mode(), apart(room):
        model = load_model(model_files(folder), CPU, torch.float32, lambda: None, placement)
        model.places.use("vae")
        for name, parameter in model.vae.encoder.conv_out.named_parameters():
            parameter[16:] = 0.0 if name == "weight" else -30.0
    for net in (model.transformer.model, model.text.clip, model.text.t5, model.vae):
        guard(model.places, net)
    return model


def guard(where: Places, net: nn.Module) -> None:
    """Has each layer of the net fail that computes with weights that are not on the device."""

    def look(layer: nn.Module, *_: object) -> None:
        for tensor in (*layer.parameters(recurse=False), *layer.buffers(recurse=False)):
            assert is_on_device(where, tensor), f"{layer} computes with weights that are not there"

    for layer in net.modules():
        layer.register_forward_pre_hook(look)


def is_on_device(where: Places, tensor: Tensor) -> bool:
    if where.mover.is_here(tensor):
        return True
    streams = [net.stream for net in where._nets.values() if net.stream is not None]
    buffers = [buffer.untyped_storage().data_ptr() for stream in streams for buffer in stream._buffers]
    return tensor.untyped_storage().data_ptr() in buffers


def changed(model: FluxModel, placement: Placement) -> FluxModel:
    """The model in another placement."""
    with torch.inference_mode(), apart():
        model.place(placement)
    return model


def painted_once(model: FluxModel, prompt: str = "a red cube", seed: int = 7) -> Tensor:
    """The tokens of a picture of two steps."""
    return ours(model, replace(REQUEST, prompt=prompt, seed=seed, steps=2), [])[0]


def buffered(where: Places) -> int:
    """Bytes of the buffers that blocks stream into."""
    streams = [net.stream for net in where._nets.values() if net.stream is not None]
    return sum(buffer.nbytes for stream in streams for buffer in stream._buffers)


def bytes_here(where: Places) -> int:
    """What a model's parts take on the device, by the parts themselves."""
    return sum(where.residency[key].size() for key in where.residency.here())
