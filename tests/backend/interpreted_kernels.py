"""The kernels on Triton's interpreter, which has to be asked for before Triton is imported: in a process of its own.

`test_flux_unpack.py` starts it. Every row ends inside a tile, so that what lies beyond must not be touched.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from backend.flux import unpack_kernels
from backend.flux.dequantise import dequantise
from tests.backend.samples import random_packed

assert os.environ.get("TRITON_INTERPRET") == "1", "run by test_flux_unpack.py"
NAMES = sorted(unpack_kernels.BLOCKS)


def unpacked(packed: np.ndarray, name: str, dtype: torch.dtype) -> torch.Tensor:
    columns = packed.shape[1] // unpack_kernels.BLOCKS[name].block_bytes * unpack_kernels.BLOCKS[name].block_size
    # More than is asked for, to see that nothing behind it is written.
    memory = torch.full((packed.shape[0] + 8, columns), 77.0, dtype=dtype)
    unpack_kernels.launch(torch.from_numpy(packed), name, memory[: packed.shape[0]])
    assert (memory[packed.shape[0] :] == 77.0).all()
    return memory[: packed.shape[0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_the_bits_are_gguf_py_s(name: str, dtype: torch.dtype) -> None:
    packed = random_packed(name, rows=17, columns=512, seed=1)
    wanted = torch.from_numpy(dequantize(packed, GGMLQuantizationType[name]).copy())
    assert wanted.std() > 0
    assert torch.equal(unpacked(packed, name, dtype), wanted.to(dtype))
    assert torch.equal(unpacked(packed, name, dtype), dequantise(torch.from_numpy(packed), name, dtype))


@pytest.mark.parametrize("name", NAMES)
def test_every_byte_at_every_place(name: str) -> None:
    """Scales may become anything by this, also what is no number."""
    kind = unpack_kernels.BLOCKS[name]
    packed = (np.arange(256)[:, None] + np.arange(kind.block_bytes * 2)[None, :] * 7).astype(np.uint8)
    with np.errstate(all="ignore"):
        got = unpacked(packed, name, torch.float32)
    torch.testing.assert_close(got, dequantise(torch.from_numpy(packed), name), rtol=0, atol=0, equal_nan=True)


def test_bfloat16_is_rounded_to_the_nearest_and_halves_to_even() -> None:
    """Q8_0 with a scale of 1 + 2^-8 and so on: products that lie between two bfloat16, above, below and midway."""
    scales = np.array([1 + 2.0**-8, 1 + 2.0**-7, 1 + 2.0**-9, 1 + 3 * 2.0**-8, 65504.0], np.float16)
    numbers = np.arange(-128, 128, dtype=np.int8).reshape(8, 32)
    blocks = [np.concatenate((scale[None].view(np.uint8), row.view(np.uint8))) for scale in scales for row in numbers]
    packed = np.stack(blocks)
    wanted = torch.from_numpy(dequantize(packed, GGMLQuantizationType.Q8_0).copy()).to(torch.bfloat16)
    assert torch.equal(unpacked(packed, "Q8_0", torch.bfloat16), wanted)
