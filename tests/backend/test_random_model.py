"""The random model: the same bytes from the same seed, small, and named for what it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from gguf import GGUFReader

from tools.random_model import write_random_model


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_seed_decides_every_byte(models_folder: Path, tmp_path: Path) -> None:
    first = contents(models_folder / "random-weights")
    write_random_model(tmp_path / "again")
    assert contents(tmp_path / "again" / "random-weights") == first
    write_random_model(tmp_path / "other", seed=1)
    other = contents(tmp_path / "other" / "random-weights")
    assert other["transformer.gguf"] != first["transformer.gguf"]
    assert other["vae/diffusion_pytorch_model.safetensors"] != first["vae/diffusion_pytorch_model.safetensors"]


def test_small_and_honest(models_folder: Path) -> None:
    folder = models_folder / "random-weights"
    assert sum(len(data) for data in contents(folder).values()) < 10_000_000
    assert "noise" in json.loads((folder / "model.json").read_text())["title"]


def test_types_are_mixed_as_in_real_files(models_folder: Path) -> None:
    reader = GGUFReader(models_folder / "random-weights" / "transformer.gguf")
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert set(types.values()) == {"F32", "F16", "BF16", "Q8_0"}
    assert types["double_blocks.0.img_attn.qkv.weight"] == "Q8_0"
    assert types["img_in.weight"] == "BF16"


def test_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.random_model", str(tmp_path)]
    result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    assert "noise" in result.stdout
    assert (tmp_path / "random-weights" / "model.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["random-weights"]
