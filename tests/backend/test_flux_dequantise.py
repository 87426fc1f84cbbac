"""Unpacking against gguf-py, value by value."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from backend.flux.dequantise import dequantise
from backend.flux.gguf_file import TENSOR_TYPES
from backend.flux.quantised_linear import QuantisedLinear
from tests.backend.samples import SCALE_PLACES, random_packed

TYPES = [kind.name for kind in TENSOR_TYPES.values()]


@pytest.mark.parametrize("name", TYPES)
def test_equals_gguf_py(name: str) -> None:
    kind = GGMLQuantizationType[name]
    packed = random_packed(name, rows=17, columns=512, seed=1)
    wanted = dequantize(packed, kind)
    assert np.isfinite(wanted).all()
    assert wanted.std() > 0
    unpacked = dequantise(torch.from_numpy(packed), name)
    assert unpacked.dtype == torch.float32
    np.testing.assert_array_equal(unpacked.numpy(), wanted)


@pytest.mark.parametrize("name", TYPES)
def test_every_byte_pattern_of_the_weights(name: str) -> None:
    """Each value 0..255 at each place of a block."""
    kind = TENSOR_TYPES[GGMLQuantizationType[name].value]
    packed = random_packed(name, rows=256, columns=kind.block_size * 2, seed=2)
    scales = random_packed(name, rows=1, columns=kind.block_size * 2, seed=3)[0]
    if kind.block_size > 1:
        is_scale = np.tile(scale_bytes(name), 2)
        counted = (np.arange(256)[:, None] + np.arange(packed.shape[1])[None, :] * 7).astype(np.uint8)
        packed = np.where(is_scale, scales[None, :], counted)
    wanted = dequantize(packed, GGMLQuantizationType[name])
    np.testing.assert_array_equal(dequantise(torch.from_numpy(packed), name).numpy(), wanted)


def scale_bytes(name: str) -> np.ndarray:
    """Which bytes of a block are float16 numbers."""
    marks = np.zeros(gguf.GGML_QUANT_SIZES[GGMLQuantizationType[name]][1], bool)
    for place in SCALE_PLACES[name]:
        marks[place : place + 2] = True
    return marks


def test_rounds_once_to_the_dtype_asked_for() -> None:
    packed = torch.from_numpy(random_packed("Q4_K", rows=3, columns=256, seed=0))
    assert torch.equal(dequantise(packed, "Q4_K", torch.bfloat16), dequantise(packed, "Q4_K").to(torch.bfloat16))


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("has_bias", [True, False])
def test_quantised_linear_is_a_linear(name: str, has_bias: bool) -> None:
    packed = torch.from_numpy(random_packed(name, rows=12, columns=512, seed=4))
    bias = torch.randn(12) if has_bias else None
    layer = QuantisedLinear(packed, name, 512, bias)
    x = torch.randn(2, 3, 512)
    wanted = torch.nn.functional.linear(x, dequantise(packed, name), bias)
    assert torch.equal(layer(x), wanted)
    assert layer(x.bfloat16()).dtype == torch.bfloat16


def test_quantised_linear_keeps_its_bytes_when_cast_or_copied() -> None:
    import copy

    packed = torch.from_numpy(random_packed("Q8_0", rows=4, columns=64, seed=5))
    layer = copy.deepcopy(QuantisedLinear(packed, "Q8_0", 64, torch.zeros(4))).to(torch.bfloat16)
    assert layer.packed.dtype == torch.uint8
    assert torch.equal(layer.packed, packed)
    assert type(layer.packed) is torch.Tensor
