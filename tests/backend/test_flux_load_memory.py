"""Loading a large transformer takes no more memory than its own copy and one tensor. The kernel counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel

from backend.flux.write_gguf import bfl_tensors
from tests.backend.samples import CONFIG
from tests.backend.test_flux_load_transformer import pack_all, write

ROOT = Path(__file__).resolve().parents[2]
BIG = {**CONFIG, "num_attention_heads": 16}
LOAD = """
import resource, sys
from pathlib import Path
import torch
from backend.flux.load_transformer import load_transformer

small, small_config, big, big_config, allowed = sys.argv[1:]
torch.set_num_threads(1)
cpu = torch.device("cpu")

def load(path, config):
    return load_transformer(Path(path), Path(config), cpu, torch.float32)

load(small, small_config)
with open("/proc/self/status") as status:
    before = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
# The kernel counts the file's mapping as well: it is private, and could be written to.
limit = before + Path(big).stat().st_size + int(allowed)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
loaded = load(big, big_config)
try:
    torch.zeros(int(allowed) + 50_000_000, dtype=torch.uint8)
except RuntimeError:
    print("loaded within", allowed, loaded.types)
"""


def written(folder: Path, config: dict[str, Any], types: list[str]) -> tuple[list[str], int, int]:
    """The file and its configuration; the bytes of its largest tensor, and of those that are always unpacked."""
    folder.mkdir()
    torch.manual_seed(0)
    state = FluxTransformer2DModel(**config).state_dict()
    packed, _ = pack_all(bfl_tensors(state, config), types)
    path, place = write(folder / "model.gguf", packed), folder / "config.json"
    place.write_text(json.dumps(config), encoding="utf-8")
    vectors = sum(data.nbytes for data, _ in packed.values() if data.ndim == 1)
    return [str(path), str(place)], max(data.nbytes for data, _ in packed.values()), vectors


@pytest.mark.skipif(
    sys.platform != "linux", reason="needs Linux, whose kernel limits the memory that a process asks for"
)
@pytest.mark.parametrize("types", [["Q8_0"], ["Q4_K", "Q6_K", "Q5_0"]])
def test_loading_takes_one_tensor_beside_the_copy(tmp_path: Path, types: list[str]) -> None:
    small, _, _ = written(tmp_path / "small", CONFIG, types)
    big, largest, vectors = written(tmp_path / "big", BIG, types)
    allowed = int(1.1 * largest) + vectors
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *small, *big, str(allowed)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "loaded within" in done.stdout, "the limit held nothing back"
    assert Path(big[0]).stat().st_size > 4 * allowed, "the file is too small to show anything"
