"""Pictures that fail in the engine: a net or a LoRA of another family, blank pictures, a process with no room."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from safetensors.torch import load_file, save_file

from backend.diagnostics import diagnose_generation_failure
from backend.diagnostics.models import model
from backend.flux.check_picture import check_not_blank
from backend.flux.load_parts import without_deprecations
from backend.production import Production
from backend.production.provenance import encode_png
from backend.wire import Control, FailureError, FailureKind, GenerationRequest, GenerationResult
from tests.backend.samples import failed, made, run
from tools.random_model import CONTROLNET, TRANSFORMER

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = "random-weights"
REQUEST = GenerationRequest("a cube", 64, 64, steps=1, model=MODEL)
STEERED = replace(REQUEST, controls=(Control("depth"),))


def change_vae(folder: Path, weight: float, bias: float) -> None:
    """Makes the last layer's picture one number everywhere."""
    [path] = (folder / MODEL / "vae").glob("*.safetensors")
    state = load_file(path)
    state["decoder.conv_out.weight"][:] = weight
    state["decoder.conv_out.bias"][:] = bias
    save_file(state, path)


@pytest.mark.parametrize(
    ("bias", "kind", "said"),
    [
        (-9.0, FailureKind.PICTURE_BLANK, "all black"),
        (0.25, FailureKind.PICTURE_BLANK, "one flat colour"),
        (float("nan"), FailureKind.MODEL_BROKEN, "ran over in the VAE"),
    ],
)
def test_a_picture_with_nothing_in_it(own_models_folder: Path, bias: float, kind: FailureKind, said: str) -> None:
    change_vae(own_models_folder, 0.0, bias)
    failure = failed(run(Production(own_models_folder, "cpu"), REQUEST))
    assert failure.kind == kind and said in failure.message and failure.hint
    assert diagnose_generation_failure(FailureError(failure), REQUEST) == failure


def test_a_flat_picture_may_be_made_of_a_flat_one() -> None:
    flat, other = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    other[0, 0] = 9
    check_not_blank(flat, flat)
    check_not_blank(other, None)
    for original in (None, other):
        with pytest.raises(FailureError, match="all black"):
            check_not_blank(flat, original)


def test_a_result_that_does_not_look_right(models_folder: Path) -> None:
    result = made(run(Production(models_folder, "cpu"), REQUEST))
    slow = diagnose_generation_failure(result)
    assert slow is not None and slow.kind == FailureKind.DEVICE_UNUSABLE
    assert slow.message.startswith("A picture of 64 x 64 pixels was painted on the processor")
    on_card = replace(result, plan={**result.plan, "device": "cuda"})
    assert diagnose_generation_failure(on_card) is None
    black = replace(on_card, png=encode_png(np.zeros((64, 64, 3), np.uint8), {}))
    blank = diagnose_generation_failure(black)
    assert blank is not None and blank.kind == FailureKind.PICTURE_BLANK and "all black" in blank.message
    damaged = diagnose_generation_failure(GenerationResult(REQUEST, result.png[:50]))
    assert damaged is not None and "damaged" in damaged.message


def write_net(folder: Path, net: Any) -> None:
    target = folder / MODEL / "controlnet"
    for path in target.iterdir():
        path.unlink()
    net.save_pretrained(target)


def test_a_controlnet_of_another_family(own_models_folder: Path) -> None:
    sizes: dict[str, Any] = {"block_out_channels": (8, 8), "layers_per_block": 1, "norm_num_groups": 4}
    kinds: dict[str, Any] = {
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "cross_attention_dim": 8,
        "attention_head_dim": 4,
        "conditioning_embedding_out_channels": (8, 8),
    }
    write_net(own_models_folder, ControlNetModel(**sizes, **kinds))
    failure = failed(run(Production(own_models_folder, "cpu"), STEERED))
    assert failure.kind == FailureKind.MODEL_UNSUPPORTED
    assert failure.message == "The ControlNet in controlnet is for Stable Diffusion, not for FLUX.1."
    finding = model(own_models_folder, MODEL)
    assert not finding.works and failure.message in finding.said


def test_a_controlnet_of_a_flux_of_another_size(own_models_folder: Path) -> None:
    wider = {**CONTROLNET, "num_attention_heads": TRANSFORMER["num_attention_heads"] * 2}
    with without_deprecations():
        net = FluxControlNetModel(**wider)
    write_net(own_models_folder, net)
    failure = failed(run(Production(own_models_folder, "cpu"), STEERED))
    assert failure.kind == FailureKind.MODEL_UNSUPPORTED
    widths = f"it is {net.inner_dim} wide, the model {net.inner_dim // 2}."
    assert failure.message == f"The ControlNet in controlnet is for a larger or smaller FLUX: {widths}"
    assert failure.hint.startswith("Choose a ControlNet that was made for this model")


def test_a_lora_of_another_architecture(own_models_folder: Path) -> None:
    folder = own_models_folder / MODEL
    name = "unet.down_blocks.0.attentions.0.proj_in"
    tensors = {f"{name}.lora_A.weight": torch.ones(4, 8), f"{name}.lora_B.weight": torch.ones(8, 4)}
    save_file(tensors, folder / "lora.safetensors")
    data = json.loads((folder / "model.json").read_text())
    data |= {"control_lora": "lora.safetensors", "variant": "depth-dev"}
    (folder / "model.json").write_text(json.dumps(data))
    request = replace(STEERED, controls=(Control("depth", 1.0, 0.0, 1.0),))
    failure = failed(run(Production(own_models_folder, "cpu"), request))
    assert failure.kind == FailureKind.MODEL_UNSUPPORTED and "lora.safetensors" in failure.message
    assert diagnose_generation_failure(FailureError(failure), request) == failure


CRAMPED = """
import json, resource, sys
from dataclasses import replace
from pathlib import Path
from backend.production import Production
from backend.wire import Control, GenerationRequest
from tests.backend.samples import run
engine = Production(Path(sys.argv[1]), "cpu")
request = GenerationRequest("a cube", 64, 64, steps=1, model="random-weights", controls=(Control("depth"),))
assert run(engine, request).png
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000, resource.RLIM_INFINITY))
failure = run(engine, replace(request, width=2048, height=2048))
print(json.dumps(failure.to_json()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory as Linux does")
def test_a_computer_with_too_little_memory(models_folder: Path) -> None:
    """The process may have 300 MB more than a small picture took."""
    command = [sys.executable, "-c", CRAMPED, str(models_folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    failure = json.loads(done.stdout.splitlines()[-1])
    assert failure["kind"] == "out_of_memory", failure
    wanted = "The computer has too little main memory for a picture of 2048 x 2048 pixels with 1 control (depth)."
    assert failure["message"] == wanted and failure["hint"].startswith("Choose 1440 x 1440 pixels or fewer controls")
