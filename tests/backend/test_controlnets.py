"""ControlNets of several kinds, together and packed, and when they leave the device."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxControlNetPipeline, FluxTransformer2DModel
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from gguf import GGMLQuantizationType
from gguf.quants import quantize
from PIL import Image

from backend.flux.controls import RestAfterWindow, summed_residuals
from backend.flux.forward import Conditions, Residuals, prepare, transformer_velocity
from backend.flux.latents import image_positions
from backend.flux.load_controlnet import load_controlnet
from backend.flux.load_parts import without_deprecations
from backend.flux.model import FluxModel
from backend.flux.pack_weights import pack_weights
from backend.flux.picture_job import PictureJob
from backend.flux.quantise_file import WRITABLE, quantise_file
from backend.flux.quantised_linear import QuantisedLinear
from backend.models import ModelFolder, find_model
from backend.models.model_folder import CONTROLNET_WEIGHTS
from backend.production import Production
from backend.wire import Control, FailureError, FailureKind
from tests.backend.diffusers_reference import REQUEST, control_inputs, ours, pipeline_parts
from tests.backend.samples import kept_model, made, make_maps, pixels, run
from tools.random_model import CONTROLNET, TEXT_TOKENS, TRANSFORMER, XLABS, randomised

CPU = torch.device("cpu")
DEPTH = [("depth", 0.7, 0.0, 1.0)]


def new_net(config: dict[str, Any], seed: int) -> FluxControlNetModel:
    with without_deprecations():
        return randomised(FluxControlNetModel(**config), seed)


@pytest.fixture
def xlabs(model: FluxModel, folder: ModelFolder) -> Iterator[Path]:
    """The place of a net of XLabs' kind in the model: it reads pixels."""
    place = folder.path / "xlabs"
    model.nets[place] = new_net(XLABS, 21)
    yield place
    del model.nets[place]


def test_a_net_that_reads_pixels_is_the_same_as_in_diffusers(
    model: FluxModel, reference: FluxTransformer2DModel, folder: ModelFolder, xlabs: Path
) -> None:
    control = replace(control_inputs(folder, DEPTH)[0], folder=xlabs, mode=None)
    pipeline: Any = FluxControlNetPipeline(**pipeline_parts(model, reference), controlnet=model.nets[xlabs])
    pipeline.set_progress_bar_config(disable=True)
    with torch.inference_mode():
        theirs = pipeline(
            prompt=REQUEST.prompt, width=REQUEST.width, height=REQUEST.height, num_inference_steps=REQUEST.steps,
            guidance_scale=REQUEST.guidance, max_sequence_length=TEXT_TOKENS, output_type="latent", return_dict=False,
            control_image=Image.fromarray(control.picture), controlnet_conditioning_scale=0.7,
            latents=PictureJob(model, REQUEST, []).start(),
        )[0]  # fmt: skip
    mine, _ = ours(model, REQUEST, [control])
    without, _ = ours(model, REQUEST, [])
    assert (mine - theirs).norm() < 1e-3 * theirs.norm() < (mine - without).norm()


def test_nets_of_several_kinds_add_up_as_each_does_alone(model: FluxModel) -> None:
    """Against diffusers' own transformer of five double blocks, given for each block what each net has for it."""
    config = {**TRANSFORMER, "num_layers": 5, "num_single_layers": 3}
    net = randomised(FluxTransformer2DModel(**config), 30)
    generator = torch.Generator().manual_seed(1)

    def parts(count: int) -> list[torch.Tensor]:
        return [torch.randn(1, 24, 128, generator=generator) for _ in range(count)]

    union, turning, other = Residuals(parts(2), parts(2)), Residuals(parts(2), [], True), Residuals(parts(3), [])
    tokens, text = torch.randn(1, 24, 64, generator=generator), torch.randn(1, 8, 64, generator=generator)
    pooled, positions = torch.randn(1, 64, generator=generator), image_positions(8, 12)
    double = [union.double[index // 3] + turning.double[index % 2] + other.double[index // 2] for index in range(5)]
    with torch.inference_mode():
        theirs = net(
            hidden_states=tokens, encoder_hidden_states=text, pooled_projections=pooled,
            timestep=torch.tensor([0.5]), guidance=torch.tensor([3.5]), img_ids=positions, txt_ids=torch.zeros(8, 3),
            controlnet_block_samples=double, controlnet_single_block_samples=union.single, return_dict=False,
        )[0]  # fmt: skip
        prepared = prepare(net, Conditions(text, pooled, positions, torch.tensor([0.5]), 3.5))
        mine = transformer_velocity(net, tokens, prepared, 0, [union, turning, other])
        alone = transformer_velocity(net, tokens, prepared, 0, [union])
    assert torch.allclose(mine, theirs, atol=1e-4) and not torch.allclose(mine, alone, atol=1e-2)


def test_families_mix_in_one_run(model: FluxModel, folder: ModelFolder, xlabs: Path) -> None:
    """A union net, one of XLabs' kind and one with another number of blocks."""
    plain = folder.path / "plain"
    model.nets[plain] = new_net({**CONTROLNET, "num_mode": None, "num_layers": 2, "num_single_layers": 0}, 22)
    control = control_inputs(folder, DEPTH)[0]
    nets = [control, replace(control, folder=xlabs, mode=None), replace(control, folder=plain, mode=None)]
    tokens = [ours(model, REQUEST, nets[:count])[0] for count in range(4)]
    del model.nets[plain]
    for fewer, more in pairwise(tokens):
        assert torch.isfinite(more).all() and (more - fewer).norm() > 0.005 * fewer.norm()


def test_a_picture_goes_through_the_vae_once(model: FluxModel, folder: ModelFolder, xlabs: Path) -> None:
    """For all nets and all runs; a net that reads pixels needs none, and another picture is another."""
    model.control_latents.clear()
    encoded: list[int] = []
    hook = model.vae.encoder.register_forward_hook(lambda *_: encoded.append(1))
    depth, line = control_inputs(folder, [*DEPTH, ("line", 0.5, 0.0, 1.0)])
    try:
        ours(model, REQUEST, [depth, replace(depth, mode=5), replace(depth, folder=xlabs, mode=None)])
        first = len(encoded)
        ours(model, replace(REQUEST, seed=8), [depth])
        again = len(encoded)
        ours(model, REQUEST, [depth, line])
        changed = depth.picture.copy()
        changed[0, 0] ^= 1
        ours(model, REQUEST, [replace(depth, picture=changed)])
    finally:
        hook.remove()
    assert (first, again, len(encoded)) == (1, 1, 3)
    # One picture, as the VAE and as the other net read it; the line's; the changed one.
    assert len(model.control_latents) == 4


def test_a_net_is_over_when_the_last_of_its_controls_is(model: FluxModel, folder: ModelFolder) -> None:
    over: list[int] = []
    with torch.inference_mode():
        job = PictureJob(model, replace(REQUEST, steps=4), [])
        job.read_text()
        for control in control_inputs(folder, [("depth", 0.7, 0.0, 0.25), ("line", 0.6, 0.25, 0.75)]):
            job.read_control(control)
        rest = RestAfterWindow.of(job.steering, lambda net: over.append(id(net)))
        told = [summed_residuals([rest], job.start(), call) == [] and len(over) for call in range(4)]
    assert told == [0, 0, 1, 2] and set(over) == {id(job.steering[0].net)}


LARGEST_ERROR = {"Q8_0": 0.007, "Q5_1": 0.047, "Q5_0": 0.054, "Q4_1": 0.092, "Q4_0": 0.11}
"""Of a net's residuals, as a share of them: twice what was measured on this net (Q8_0 0.0033, Q5_1 0.023, Q5_0 0.027,
Q4_1 0.046, Q4_0 0.054)."""


def residuals_of(net: FluxControlNetModel) -> torch.Tensor:
    """All that a net adds for one input."""
    generator = torch.Generator().manual_seed(5)
    text, pooled = torch.randn(1, 16, 64, generator=generator), torch.randn(1, 64, generator=generator)
    latents, picture = torch.randn(2, 1, 48, 64, generator=generator).unbind()
    with torch.inference_mode():
        double, single = net(
            hidden_states=latents, controlnet_cond=picture, controlnet_mode=torch.tensor([[2]]),
            encoder_hidden_states=text, pooled_projections=pooled, timestep=torch.tensor([0.6]),
            guidance=torch.tensor([3.5]), img_ids=image_positions(12, 16), txt_ids=torch.zeros(16, 3),
            return_dict=False,
        )  # fmt: skip
    return torch.cat([*double, *single])


def packed_types(net: FluxControlNetModel) -> set[str]:
    return {layer.type_name for layer in net.modules() if isinstance(layer, QuantisedLinear)}


@pytest.mark.parametrize("weights", CONTROLNET_WEIGHTS)
def test_a_packed_net_s_error_is_measured(weights: str, folder: ModelFolder) -> None:
    place = folder.controlnets[0].folder
    whole = residuals_of(load_controlnet(place, CPU, torch.float32))
    net = load_controlnet(place, CPU, torch.float32, weights)
    assert weights in packed_types(net)
    error = float((residuals_of(net) - whole).norm() / whole.norm())
    assert 0.25 * LARGEST_ERROR[weights] < error < LARGEST_ERROR[weights], error


def test_what_packing_saves(folder: ModelFolder) -> None:
    place = folder.controlnets[0].folder

    def block_bytes(weights: str) -> int:
        blocks = load_controlnet(place, CPU, torch.float16, weights).transformer_blocks
        tensors = [*blocks.parameters(), *blocks.buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    assert block_bytes("Q8_0") < 0.56 * block_bytes("") and block_bytes("Q4_0") < 0.31 * block_bytes("")


@pytest.mark.parametrize("name", CONTROLNET_WEIGHTS)
def test_weights_are_packed_as_gguf_packs_them(name: str) -> None:
    assert name in WRITABLE
    values = torch.randn(96, 128, generator=torch.Generator().manual_seed(2)) * 0.3
    values[3], values[4, :32] = 0.0, 0.5
    wanted = quantize(values.numpy(), GGMLQuantizationType[name]).reshape(96, -1)
    assert np.array_equal(pack_weights(values, name).numpy(), wanted)


def test_a_net_from_gguf(folder: ModelFolder, tmp_path: Path) -> None:
    place = folder.controlnets[0].folder
    shutil.copy(place / "config.json", tmp_path)
    quantise_file(next(place.glob("*.safetensors")), tmp_path / "net.gguf", "Q8_0", lambda done, of: None)
    net = load_controlnet(tmp_path, CPU, torch.float32)
    whole = residuals_of(load_controlnet(place, CPU, torch.float32))
    assert "Q8_0" in packed_types(net)
    assert (residuals_of(net) - whole).norm() < 0.03 * whole.norm()


def test_a_net_that_reads_pixels_can_be_packed(tmp_path: Path) -> None:
    net = new_net(XLABS, 23)
    net.save_pretrained(tmp_path)
    packed = load_controlnet(tmp_path, CPU, torch.float32, "Q8_0")
    picture = torch.rand(1, 3, 32, 48)
    assert net.input_hint_block is not None and packed.input_hint_block is not None
    with torch.inference_mode():
        assert torch.equal(net.input_hint_block(picture), packed.input_hint_block(picture)), "its own layers stay"
    assert "Q8_0" in packed_types(packed)


def damaged(own_models_folder: Path) -> Path:
    return own_models_folder / "random-weights" / "controlnet"


@pytest.mark.parametrize(
    ("damage", "kind", "said"),
    [
        (lambda place: (place / "config.json").unlink(), FailureKind.MODEL_MISSING, "controlnet/config.json"),
        (lambda place: (place / "config.json").write_text("{"), FailureKind.MODEL_BROKEN, "are damaged"),
        (
            lambda place: (place / "config.json").write_text(json.dumps({**CONTROLNET, "num_layers": 2})),
            FailureKind.MODEL_UNSUPPORTED,
            "lacks",
        ),
        (lambda place: next(place.glob("*.safetensors")).unlink(), FailureKind.MODEL_MISSING, r"\*\.safetensors"),
        (lambda place: next(place.glob("*.safetensors")).write_bytes(b"x"), FailureKind.MODEL_BROKEN, "damaged"),
        (lambda place: [(place / f"{n}.gguf").write_bytes(b"") for n in "ab"], FailureKind.MODEL_BROKEN, "2 GGUF"),
    ],
    ids=["no config", "broken config", "other config", "no weights", "broken weights", "two files"],
)
def test_a_damaged_net_is_a_sentence(own_models_folder: Path, damage: Any, kind: FailureKind, said: str) -> None:
    damage(damaged(own_models_folder))
    with pytest.raises(FailureError, match=said) as caught:
        load_controlnet(damaged(own_models_folder), CPU, torch.float32, "Q8_0")
    assert caught.value.failure.kind == kind and caught.value.failure.hint


def test_a_model_says_how_its_nets_are_packed(own_models_folder: Path) -> None:
    path = own_models_folder / "random-weights" / "model.json"
    data = json.loads(path.read_text())
    request, maps = replace(REQUEST, steps=2, controls=(Control("depth"),)), make_maps(REQUEST.width, REQUEST.height)
    whole = made(run(Production(own_models_folder, "cpu"), request, maps))
    data["controlnets"][0]["weights"] = "Q8_0"
    path.write_text(json.dumps(data))
    engine = Production(own_models_folder, "cpu")
    packed = made(run(engine, request, maps))
    assert packed.plan["controls"] == {"depth": "controlnet: depth Q8_0"}
    assert packed_types(next(iter(kept_model(engine).nets.values()))) >= {"Q8_0"}
    difference = np.abs(pixels(packed.png).astype(int) - pixels(whole.png))
    assert 0 < difference.mean() < 8
    data["controlnets"][0]["weights"] = "Q9"
    path.write_text(json.dumps(data))
    with pytest.raises(FailureError, match="packs a ControlNet as 'Q9'") as caught:
        find_model(own_models_folder, "random-weights")
    assert caught.value.failure.kind == FailureKind.MODEL_BROKEN
