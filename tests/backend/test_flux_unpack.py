"""Unpacking by one kernel, and in memory that is used again, against the plain way."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.flux import memory, unpack
from backend.flux.dequantise import BLOCKS, dequantise
from backend.flux.products import linear
from backend.flux.quantised_linear import QuantisedLinear
from tests.backend.samples import random_packed

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(name for name, kind in BLOCKS.items() if kind.block_size > 1)
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="Triton is not installed: python3 build.py setup brings it on Linux and Windows",
)


def packed_of(name: str, rows: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(random_packed(name, rows=rows, columns=512, seed=seed))


@needs_triton
def test_the_kernels_on_triton_s_interpreter() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "tests/backend/interpreted_kernels.py",
    ]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) == 4 * len(NAMES) + 1 and "skipped" not in done.stdout


@needs_triton
@pytest.mark.parametrize("capability", [75, 80, 90])
@pytest.mark.parametrize("name", NAMES)
def test_the_kernels_compile_for_cards_without_one(
    name: str, capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As programs of Turing, Ampere and Hopper: no product is fused with a sum, and 16 bytes are written at once."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from backend.flux import unpack_kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    constants = unpack_kernels.constants(name, torch.bfloat16)
    signature = {"packed": "*u8", "out": "*i16", "count": "i32", **dict.fromkeys(constants, "constexpr")}
    aligned: Any = {(index,): [["tt.divisibility", 16]] for index in (0, 1)}
    kernel: Any = unpack_kernels.unpack
    source = ASTSource(kernel, signature, constexprs=constants, attrs=aligned)
    made: Any = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=unpack_kernels.OPTIONS)
    program = made.asm["ptx"]
    assert "mul" in program and not re.search(r"\bfma\.", program)
    assert re.findall(r"st\.global\S*", program) == ["st.global.v4.b32"] * 2
    assert made.asm["cubin"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_filling_what_is_there_gives_the_same_bits(name: str, dtype: torch.dtype, monkeypatch: Any) -> None:
    monkeypatch.setattr("backend.flux.dequantise.CACHED", 1024)
    packed = packed_of(name)
    out = torch.full((12, 512), torch.nan, dtype=dtype)
    assert dequantise(packed, name, dtype, out) is out
    assert torch.equal(out, dequantise(packed, name, dtype))


@torch.inference_mode()
def test_layers_share_one_memory_and_still_compute_their_own() -> None:
    unpack.forget_scratch()
    layers = [QuantisedLinear(packed_of(name, rows, rows), name, 512, None) for name, rows in
              (("Q4_K", 12), ("Q8_0", 40), ("Q6_K", 7), ("F16", 9))]  # fmt: skip
    x = torch.randn(3, 512)
    got = [layer(x) for layer in layers]
    for layer, ours in zip(layers, got, strict=True):
        assert torch.equal(ours, linear(x, dequantise(layer.packed, layer.type_name)))
    (buffer,) = unpack._kept.buffers.values()
    assert buffer.numel() == 40 * 512, "as large as the largest"
    memory.release()
    assert not hasattr(unpack._kept, "buffers")


def test_gradients_get_memory_of_their_own() -> None:
    """Backward reads the weights again, after later layers were unpacked."""
    first, second = (QuantisedLinear(packed_of("Q8_0", 512, seed), "Q8_0", 512, None) for seed in (1, 2))
    x = torch.randn(2, 512, requires_grad=True)
    second(first(x)).sum().backward()
    wanted = torch.ones(2, 512) @ dequantise(second.packed, "Q8_0") @ dequantise(first.packed, "Q8_0")
    assert x.grad is not None
    torch.testing.assert_close(x.grad, wanted)


def test_threads_do_not_share_memory() -> None:
    places: list[int] = []

    def take() -> None:
        places.append(unpack.scratch((4, 4), torch.float32, torch.device("cpu")).data_ptr())
        barrier.wait()

    barrier = threading.Barrier(2)
    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(places)) == 2


def test_without_a_card_or_triton_the_plain_way_is_taken_and_said_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(unpack, "_troubles", {})
    assert unpack.kernel_trouble(torch.device("cpu")) == "cpu has no Triton"
    assert not caplog.records, "nobody expects it there"
    monkeypatch.setattr(unpack.importlib.util, "find_spec", lambda name: None)
    card = torch.device("cuda")
    assert [unpack.kernel_trouble(card) for _ in range(3)] == ["Triton is not installed"] * 3
    assert len(caplog.records) == 1 and "Triton is not installed" in caplog.text


@torch.inference_mode()
@pytest.mark.parametrize("name", NAMES)
def test_as_an_operation_of_a_graph_it_gives_the_same(name: str) -> None:
    packed = packed_of(name)
    torch.library.opcheck(torch.ops.grisaille.unpack.default, (packed, name, torch.bfloat16))
    assert torch.equal(
        torch.ops.grisaille.unpack(packed, name, torch.bfloat16), dequantise(packed, name, torch.bfloat16)
    )
