"""Files that stable-diffusion.cpp wrote: no architecture, every matrix packed, norms in float16."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from gguf.quants import dequantize

from backend.flux.load_transformer import load_transformer
from tests.backend.test_flux_load_transformer import from_bfl, inputs
from tests.backend.write_foreign_files import SMALL, TYPES

FOLDER = Path(__file__).parent / "foreign"


def test_every_type_that_the_script_writes_is_here() -> None:
    assert {path.stem for path in FOLDER.glob("*.gguf")} == set(TYPES)


@pytest.mark.parametrize("name", TYPES)
def test_it_computes_what_its_weights_say(tmp_path: Path, name: str) -> None:
    """Held against the same weights, unpacked by gguf-py, in diffusers' own network."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(SMALL), encoding="utf-8")
    path = FOLDER / f"{name}.gguf"
    loaded = load_transformer(path, config, torch.device("cpu"), torch.float32)
    assert loaded.types[name.upper()] > 10
    reader = gguf.GGUFReader(path)
    assert "general.architecture" not in reader.fields
    meant = {
        tensor.name: torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type))).reshape(
            tuple(reversed(tensor.shape.tolist()))
        )
        for tensor in reader.tensors
    }
    reference = FluxTransformer2DModel(**SMALL).eval()
    reference.load_state_dict(from_bfl(meant, reference, SMALL))
    given = inputs(SMALL)
    with torch.no_grad():
        wanted = reference(**given)[0]
        assert wanted.std() > 1e-3
        torch.testing.assert_close(loaded.model(**given)[0], wanted, rtol=1e-4, atol=1e-5)
