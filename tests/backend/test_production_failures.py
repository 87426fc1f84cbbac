"""What goes wrong, brought about for real: each is a Failure with a sentence, and the next job works."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from gguf import GGUFWriter

from backend.production import Production
from backend.wire import Control, ControlMaps, Failure, FailureKind, GenerationRequest
from tests.backend.samples import failed, made, make_maps, run

REQUEST = GenerationRequest("a cube", 64, 64, steps=1, model="random-weights", controls=(Control("depth"),))
MODEL = "random-weights"


def check_sentence(failure: Failure, folder: Path | None = None) -> None:
    """For an artist: one sentence and one step, without a traceback or a path in them."""
    for text in (failure.message, failure.hint):
        assert text.endswith(".") and "\n" not in text and "Traceback" not in text
        assert folder is None or str(folder) not in text


@pytest.mark.parametrize(
    "request_", [replace(REQUEST, prompt=""), replace(REQUEST, width=0), replace(REQUEST, steps=0)]
)
def test_bad_requests(production: Production, request_: GenerationRequest) -> None:
    failure = failed(run(production, request_, make_maps(64, 64)))
    assert failure.kind == FailureKind.BAD_REQUEST
    check_sentence(failure)


def test_maps_that_do_not_fit(production: Production) -> None:
    depth = np.ones((64, 64), np.float32)
    for maps, said in (
        (ControlMaps(), "no depth map"),
        (make_maps(128, 64), "(64, 128)"),
        (ControlMaps(depth=depth.astype(np.float64)), "float64"),  # type: ignore[arg-type]
        (ControlMaps(depth=depth * np.nan), "not numbers"),
    ):
        failure = failed(run(production, REQUEST, maps))
        assert failure.kind == FailureKind.BAD_REQUEST
        assert said in failure.message
        check_sentence(failure)


def test_a_model_that_is_not_there(production: Production, tmp_path: Path) -> None:
    failure = failed(run(production, replace(REQUEST, model="flux")))
    assert failure.kind == FailureKind.MODEL_MISSING
    assert "'flux'" in failure.message and "random-weights" in failure.hint
    failure = failed(run(Production(tmp_path / "nowhere"), REQUEST))
    assert failure.kind == FailureKind.MODEL_MISSING


def test_a_control_the_model_has_no_net_for(own_models_folder: Path) -> None:
    change_description(own_models_folder, lambda data: data["controlnets"][0]["kinds"].pop("depth"))
    told: list[str] = []
    engine = Production(own_models_folder, "cpu")
    failure = failed(run(engine, REQUEST, on_progress=lambda progress: told.append(progress.stage)))
    assert failure.kind == FailureKind.MODEL_UNSUPPORTED
    assert "no ControlNet for depth" in failure.message
    assert told == [], "said before anything is loaded"


def change_description(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / MODEL / "model.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda data: data.pop("vae"), FailureKind.MODEL_BROKEN),
        (lambda data: data.update(vae="../../etc"), FailureKind.MODEL_BROKEN),
        (lambda data: data.update(vae="/etc"), FailureKind.MODEL_BROKEN),
        (lambda data: data.update(vae=3), FailureKind.MODEL_BROKEN),
        (lambda data: data.update(format=2), FailureKind.MODEL_UNSUPPORTED),
        (lambda data: data.update(max_text_tokens=10**9), FailureKind.MODEL_BROKEN),
        (lambda data: data.update(controlnets={}), FailureKind.MODEL_BROKEN),
        (lambda data: data["controlnets"][0]["kinds"].update(heat={"mode": 4}), FailureKind.MODEL_BROKEN),
        (lambda data: data["controlnets"][0]["kinds"]["depth"].update(picture="no such"), FailureKind.MODEL_BROKEN),
    ],
)
def test_descriptions_that_are_wrong(own_models_folder: Path, change: Any, kind: FailureKind) -> None:
    change_description(own_models_folder, change)
    failure = failed(run(Production(own_models_folder, "cpu"), REQUEST))
    assert failure.kind == kind
    check_sentence(failure, own_models_folder)


def test_a_description_that_is_not_json(own_models_folder: Path) -> None:
    (own_models_folder / MODEL / "model.json").write_bytes(b"\xff{")
    assert failed(run(Production(own_models_folder, "cpu"), REQUEST)).kind == FailureKind.MODEL_BROKEN


PARTS = [
    "transformer.gguf",
    "transformer/config.json",
    "controlnet/config.json",
    "controlnet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder_2/config.json",
    "text_encoder_2/model.safetensors",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "tokenizer_2/tokenizer_config.json",
    "tokenizer_2/tokenizer.json",
    "scheduler/scheduler_config.json",
]


@pytest.mark.parametrize("part", PARTS)
def test_parts_missing_and_truncated(own_models_folder: Path, part: str) -> None:
    """One engine through it all: each part missing, then cut off, then back again."""
    path = own_models_folder / MODEL / part
    whole = path.read_bytes()
    engine = Production(own_models_folder, "cpu")
    path.unlink()
    failure = failed(run(engine, REQUEST))
    assert failure.kind == FailureKind.MODEL_MISSING, failure.detail
    check_sentence(failure, own_models_folder)
    path.write_bytes(whole[: len(whole) * 2 // 3])
    failure = failed(run(engine, REQUEST))
    assert failure.kind == FailureKind.MODEL_BROKEN, failure.detail
    check_sentence(failure, own_models_folder)
    path.write_bytes(whole)
    made(run(engine, REQUEST))


def test_a_transformer_that_is_not_gguf(own_models_folder: Path) -> None:
    path = own_models_folder / MODEL / "transformer.gguf"
    path.write_bytes(b"PK\x03\x04" + path.read_bytes()[4:])
    failure = failed(run(Production(own_models_folder, "cpu"), REQUEST))
    assert failure.kind == FailureKind.MODEL_BROKEN
    assert "not a GGUF file" in failure.message


def test_a_transformer_of_another_architecture(own_models_folder: Path) -> None:
    writer = GGUFWriter(own_models_folder / MODEL / "transformer.gguf", "sdxl")
    writer.add_tensor("input_blocks.0.0.weight", np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    failure = failed(run(Production(own_models_folder, "cpu"), REQUEST))
    assert failure.kind == FailureKind.MODEL_UNSUPPORTED
    assert '"sdxl"' in failure.message


@pytest.mark.parametrize("part", ["vae", "text_encoder", "text_encoder_2", "controlnet"])
def test_weights_of_another_model(own_models_folder: Path, part: str) -> None:
    """A part whose weights do not belong to its config must not be filled up with random numbers."""
    other = "text_encoder" if part == "vae" else "vae"
    target = next((own_models_folder / MODEL / part).glob("*.safetensors"))
    target.write_bytes(next((own_models_folder / MODEL / other).glob("*.safetensors")).read_bytes())
    failure = failed(run(Production(own_models_folder, "cpu"), REQUEST))
    assert failure.kind in (FailureKind.MODEL_UNSUPPORTED, FailureKind.MODEL_BROKEN), failure.detail
    check_sentence(failure, own_models_folder)


def test_a_tokenizer_of_another_encoder(own_models_folder: Path) -> None:
    path = own_models_folder / MODEL / "tokenizer_2" / "tokenizer.json"
    data = json.loads(path.read_text())
    data["model"]["vocab"] += [[f"word{index}", -9.0] for index in range(100)]
    path.write_text(json.dumps(data))
    failure = failed(run(Production(own_models_folder, "cpu"), REQUEST))
    assert failure.kind == FailureKind.MODEL_UNSUPPORTED
    check_sentence(failure, own_models_folder)


def test_numbers_that_run_over(own_models_folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = own_models_folder / MODEL / "controlnet" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    state["controlnet_blocks.0.weight"][:] = torch.inf
    save_file(state, path)
    failure = failed(run(Production(own_models_folder, "cpu"), REQUEST))
    assert failure.kind == FailureKind.MODEL_BROKEN
    assert "ran over" in failure.message


def test_out_of_memory_for_real(models_folder: Path) -> None:
    """torch's own allocator refuses a request no machine can serve."""
    engine = Production(models_folder, "cpu")

    def allocate(_: object) -> None:
        torch.empty(2**60, dtype=torch.uint8)

    failure = failed(run(engine, REQUEST, on_preview=allocate))
    assert failure.kind == FailureKind.OUT_OF_MEMORY
    check_sentence(failure)
    assert engine._keeper.loaded is None, "the model's memory is given back"
    made(run(engine, REQUEST))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), FailureKind.OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory."), FailureKind.OUT_OF_MEMORY),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), FailureKind.OUT_OF_MEMORY),
        (OSError(errno.ENOSPC, "No space left on device"), FailureKind.DISK_FULL),
        (PermissionError(errno.EACCES, "Permission denied", "a.png"), FailureKind.NOT_WRITABLE),
        (RuntimeError("mat1 and mat2"), FailureKind.INTERNAL),
        (ZeroDivisionError(), FailureKind.INTERNAL),
    ],
)
def test_every_exception_becomes_a_failure(production: Production, error: Exception, kind: FailureKind) -> None:
    def throw(_: object) -> NoReturn:
        raise error

    failure = failed(run(production, REQUEST, on_preview=throw))
    assert failure.kind == kind
    assert "Traceback" in failure.detail and "throw" in failure.detail
    check_sentence(failure)
    made(run(production, REQUEST))


def test_a_device_that_is_not_there(models_folder: Path) -> None:
    failure = failed(run(Production(models_folder, "no-such-device"), REQUEST))
    assert failure.kind == FailureKind.DEVICE_UNUSABLE and "no-such-device" in failure.message
