"""A LoRA from the panel's list through the real backend, and back out of the picture."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.addon.fakes import module, ops
from tests.end_to_end.test_spine import history, pixels

LAYER = "transformer.transformer_blocks.0.attn.to_out.0"


@pytest.fixture
def ink(models: Path) -> Iterator[str]:
    """A LoRA for a layer of the random model, among those for all models; and one for a wider model."""
    for name, width in (("ink", 128), ("wide", 3072)):
        write(models / "loras" / f"{name}.safetensors", width)
    yield "ink"
    for name in ("ink", "wide"):
        (models / "loras" / f"{name}.safetensors").unlink()


def write(path: Path, width: int) -> None:
    """A safetensors file, put together by hand: Blender's environment has no library for it."""
    rng, header, data = np.random.default_rng(1), {}, b""
    for side, shape in (("A", (4, width)), ("B", (width, 4))):
        values = rng.standard_normal(shape).astype(np.float32).tobytes()
        place = [len(data), len(data) + len(values)]
        header[f"{LAYER}.lora_{side}.weight"] = {"dtype": "F32", "shape": shape, "data_offsets": place}
        data += values
    text = json.dumps(header).encode()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def painted() -> np.ndarray:
    ops().generate(seed=1, controls="none")
    return pixels(history()[-1].image)


def test_a_lora_changes_the_picture_and_is_gone_without_a_trace(ready: Any, ink: str) -> None:
    before = painted()
    ops().lora_add(lora=ink)
    changed = painted()
    assert np.abs(changed - before).mean() > 0.005
    request = json.loads(history()[-1].image["grisaille_request"])
    assert request["loras"] == [{"name": "ink", "strength": 1.0}]
    ops().lora_remove(lora=ink)
    assert (painted() == before).all()


def test_one_for_another_model_is_refused_in_the_panel(ready: Any, ink: str) -> None:
    with pytest.raises(RuntimeError, match="The LoRA wide is for another model"):
        ops().generate(seed=1, controls="none", loras="wide")


def test_from_the_command_line(ready: Any, ink: str, tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        out, summary = tmp_path / "out.png", tmp_path / "out.json"
        small = ("--prompt", "a pot", "--size", "64x64", "--steps", "1", "--seed", "1", "--controls", "none")
        code = module("addon.cli").main(["generate", *small, *arguments, "--out", str(out), "--json", str(summary)])
        return code, json.loads(summary.read_text())

    code, told = run("--lora", "ink:0.5")
    assert code == 0 and told["request"]["loras"] == [{"name": "ink", "strength": 0.5}]
    assert told["plan"]["loras"]["ink"].startswith("layers: 1, rank 4")
    code, told = run("--lora", "oil")
    assert code == 1 and "'oil'" in told["failure"]["message"] and "ink" in told["failure"]["hint"]
    code, told = run("--lora", "ink:9")
    assert code == 2 and "9" in told["failure"]["message"]
