"""`python -m backend models quantize`: from safetensors to a GGUF that the engine and gguf-py read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from diffusers import FluxTransformer2DModel
from gguf.quants import quantize
from safetensors.torch import save_file

from backend.flux.quantise_file import WRITABLE, quantise_file
from backend.flux.write_gguf import bfl_tensors
from backend.wire import FailureError, FailureKind
from tests.backend.samples import CONFIG
from tests.backend.test_flux_safetensors import loaded_weights, write_shards
from tests.disks import small_disk
from tools.console import ROOT


@pytest.fixture
def bfl_file(plain: FluxTransformer2DModel, tmp_path: Path) -> Path:
    """The transformer in bf16, as it is published."""
    tensors = bfl_tensors(plain.state_dict(), CONFIG)
    path = tmp_path / "flux.safetensors"
    save_file({name: tensor.bfloat16().contiguous() for name, tensor in tensors.items()}, path)
    return path


@pytest.mark.parametrize("type_name", WRITABLE)
def test_each_type_is_what_gguf_py_makes_of_the_weights(
    plain: FluxTransformer2DModel, config_path: Path, bfl_file: Path, tmp_path: Path, type_name: str
) -> None:  # fmt: skip
    target = tmp_path / "flux.gguf"
    told: list[tuple[int, int]] = []
    quantise_file(bfl_file, target, type_name, lambda number, count: told.append((number, count)))
    reader = gguf.GGUFReader(target)
    assert told[-1] == (len(reader.tensors), len(reader.tensors))
    published = bfl_tensors(plain.state_dict(), CONFIG)
    wanted = {name: tensor.bfloat16().float().numpy() for name, tensor in published.items()}
    assert {tensor.name for tensor in reader.tensors} == set(wanted)
    kinds = set()
    for tensor in reader.tensors:
        meant = quantize(wanted[tensor.name], tensor.tensor_type)
        assert np.array_equal(np.asarray(tensor.data).view(np.uint8).reshape(-1), meant.view(np.uint8).reshape(-1))
        if "blocks" in tensor.name and len(tensor.shape) == 2:
            kinds.add(tensor.tensor_type.name)
    assert kinds == {type_name}
    weights = loaded_weights(target, config_path)
    for name, tensor in plain.state_dict().items():
        assert (weights[name] - tensor).abs().max() < 0.15 * tensor.abs().max(), name
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_shards_and_gguf_are_read_too(
    plain: FluxTransformer2DModel, config_path: Path, tmp_path: Path
) -> None:  # fmt: skip
    half, packed = tmp_path / "half.gguf", tmp_path / "packed.gguf"
    quantise_file(write_shards(plain, tmp_path), half, "F16", lambda number, count: None)
    quantise_file(half, packed, "Q8_0", lambda number, count: None)
    assert packed.stat().st_size < 0.75 * half.stat().st_size
    weights = loaded_weights(packed, config_path)
    for name, tensor in plain.state_dict().items():
        assert (weights[name] - tensor).abs().max() < 0.02 * tensor.abs().max(), name


def test_what_cannot_be_done_is_said_and_nothing_is_left(bfl_file: Path, tmp_path: Path) -> None:
    def refusal(source: Path, target: Path, type_name: str) -> FailureError:
        with pytest.raises(FailureError) as caught:
            quantise_file(source, target, type_name, lambda number, count: None)
        return caught.value

    target = tmp_path / "flux.gguf"
    assert "llama.cpp" in refusal(bfl_file, target, "Q4_K").failure.hint
    assert refusal(tmp_path / "no.safetensors", target, "Q8_0").failure.kind == FailureKind.MODEL_MISSING
    assert not target.exists()
    target.write_text("mine")
    assert "already" in refusal(bfl_file, target, "Q8_0").failure.message
    assert target.read_text() == "mine"


def test_a_full_disk_is_named(bfl_file: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 4) as folder:
        with pytest.raises(FailureError) as caught:
            quantise_file(bfl_file, folder / "flux.gguf", "F32", lambda number, count: None)
        assert caught.value.failure.kind == FailureKind.DISK_FULL
        assert list(folder.iterdir()) == []


def test_the_command(bfl_file: Path, tmp_path: Path) -> None:
    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "backend", "models", "quantize", *map(str, arguments)]
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)

    target = tmp_path / "flux.gguf"
    done = call(bfl_file, target, "--type", "q8_0")
    assert done.returncode == 0 and "flux.gguf" in done.stdout and target.is_file()
    again = call(bfl_file, target)
    assert again.returncode == 2 and "already" in again.stderr and "Traceback" not in again.stderr
    missing = call(tmp_path / "no.safetensors", tmp_path / "x.gguf")
    assert missing.returncode == 1 and "not there" in missing.stderr
    told = call("--help").stdout
    assert all(name in told for name in WRITABLE)


def test_torch_is_imported_by_this_command_alone() -> None:
    code = "import sys, backend.__main__; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
