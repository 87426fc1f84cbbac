"""Streamed, packed and unpacked are the same picture to the bit, and each part lies where its Placement says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel

from backend.flux.load_transformer import load_transformer
from backend.flux.lora import LoraInput
from backend.flux.model import FluxModel, load_model
from backend.flux.modulation import ADALN
from backend.flux.picture_job import ControlInput, PictureJob
from backend.flux.placement import Placement
from backend.flux.places import ENCODERS, T5, TRANSFORMER, VAE, Places
from backend.flux.quantised_linear import QuantisedLinear
from backend.flux.write_gguf import bfl_tensors
from backend.models import ModelFolder, find_model
from backend.production import model_files
from tests.backend.apart import CPU, apart, bytes_here, changed, guard, load_apart, painted_once
from tests.backend.conftest import FAMILIES
from tests.backend.diffusers_reference import MASK, PICTURE, REQUEST, control_inputs, load_engine, ours
from tests.backend.lora_samples import random_ranks, velocity, write_lora
from tests.backend.random_lora import LORA_MODEL
from tests.backend.samples import CONFIG, SCALE_PLACES
from tests.backend.test_flux_load_transformer import pack_all, write
from tools.random_model import random_name

FORMS = ("unpacked", "packed", "streamed")
FORMATS = [*SCALE_PLACES, "F16", "BF16", "F32"]
BLOCKS, T5_BLOCKS = (TRANSFORMER, "blocks"), (T5, "blocks")


@pytest.fixture(scope="module")
def plain_model(folder: ModelFolder) -> FluxModel:
    """The random model as it has always been, all of it in one memory."""
    return load_engine(folder)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_number_format_is_the_same_in_every_form(
    plain: FluxTransformer2DModel, kind: str, config_path: Path, tmp_path: Path
) -> None:
    config = {**CONFIG, "num_layers": 2, "num_single_layers": 3}
    net = FluxTransformer2DModel(**config)
    config_path.write_text(json.dumps(config))
    packed, _ = pack_all(bfl_tensors(net.state_dict(), config), [kind])
    path = write(tmp_path / "net.gguf", packed)
    wanted = velocity(load_transformer(path, config_path, CPU, torch.float32).model)
    with torch.inference_mode(), apart():
        loaded = load_transformer(path, config_path, CPU, torch.float32).model
        where = Places(CPU, torch.float32)
        where.add_net(TRANSFORMER, loaded, keep=True)
        for key in (*ENCODERS, T5_BLOCKS):
            where.add(key)
        for form in (*FORMS, *reversed(FORMS)):
            where.change(Placement(form))
            layer = loaded.get_submodule("transformer_blocks.1.attn.to_q")
            assert isinstance(layer, QuantisedLinear) == (kind != "F32" and form != "unpacked")
            with where.painting(), where.adaln.all_here(loaded), where.streamed(TRANSFORMER):
                assert torch.equal(velocity(loaded), wanted), form


def controls_of(folder: ModelFolder, variant: str) -> list[ControlInput]:
    if variant in ("depth-dev", LORA_MODEL.removeprefix("random-")):
        return [replace(control_inputs(folder, [("depth", 1.0, 0.0, 1.0)])[0], folder=None, mode=None)]
    return control_inputs(folder, [("depth", 0.7, 0.0, 0.5), ("line", 0.6, 0.3, 1.0)])


def painted(model: FluxModel, folder: ModelFolder, variant: str) -> tuple[torch.Tensor, np.ndarray]:
    task = {"fill-dev": "inpaint", "kontext-dev": "edit"}.get(variant, "text_to_image")
    request = replace(REQUEST, task=task, true_cfg=2.0, negative_prompt="fog", steps=3)
    reference = PICTURE if variant == "redux-dev" else None
    return ours(model, request, controls_of(folder, variant), MASK if task == "inpaint" else None, reference)


PLACEMENTS = [
    Placement("unpacked"),
    Placement("packed", encoders_leave=True, nets_leave=True),
    Placement("streamed", encoders_leave=True),
    Placement("streamed", encoders_leave=True, encoders_streamed=True, nets_leave=True),
]


@pytest.mark.parametrize("variant", [*FAMILIES, LORA_MODEL.removeprefix("random-")])
def test_every_family_is_the_same_in_every_placement(families_folder: Path, variant: str) -> None:
    folder = find_model(families_folder, random_name(variant))
    tokens, picture = painted(load_engine(folder), folder, variant)
    model = load_apart(folder)
    for placement in PLACEMENTS:
        changed(model, placement)
        got, image = painted(model, folder, variant)
        assert torch.equal(got, tokens) and np.array_equal(image, picture), placement


def test_loaded_so_is_as_changed_to(plain_model: FluxModel, folder: ModelFolder) -> None:
    tokens, _ = painted(plain_model, folder, "dev")
    for placement in PLACEMENTS:
        assert torch.equal(painted(load_apart(folder, placement), folder, "dev")[0], tokens)


@pytest.fixture
def loras(plain_model: FluxModel, tmp_path: Path) -> list[LoraInput]:
    """For the whole transformer, and for some of its layers."""
    shapes = {}
    for name, layer in plain_model.transformer.model.named_modules():
        if hasattr(layer, "in_features"):
            shapes[f"{name}.weight"] = torch.empty(layer.out_features, layer.in_features)
    some = ["transformer_blocks.0.attn.to_q", "single_transformer_blocks.1.proj_out", "norm_out.linear"]
    wide = write_lora(tmp_path / "wide.safetensors", random_ranks(shapes, 1))
    narrow = write_lora(tmp_path / "narrow.safetensors", random_ranks(shapes, 2, rank=6, layers=some))
    return [LoraInput(wide, 0.4), LoraInput(narrow, -0.9)]


def test_with_loras_in_every_placement(plain_model: FluxModel, folder: ModelFolder, loras: list[LoraInput]) -> None:
    """Put on, weighted anew, kept through a change of placement, and taken off."""
    before, _ = painted(plain_model, folder, "dev")
    weighted = [replace(loras[0], strength=0.2), loras[1]]
    wanted = []
    with torch.inference_mode():
        for used in (loras, weighted):
            plain_model.use_loras(used)
            wanted.append(painted(plain_model, folder, "dev")[0])
        plain_model.use_loras([])
    assert not torch.equal(wanted[0], wanted[1]) and not torch.equal(before, wanted[0])
    model = load_apart(folder)
    for placement in (*PLACEMENTS, Placement()):
        with torch.inference_mode():
            model.use_loras(loras)
            assert close(painted(model, folder, "dev")[0], wanted[0], model)
            changed(model, placement)
            assert close(painted(model, folder, "dev")[0], wanted[0], model)
            model.use_loras(weighted)
            assert close(painted(model, folder, "dev")[0], wanted[1], model)
            model.use_loras([])
            assert torch.equal(painted(model, folder, "dev")[0], before), placement


def close(got: torch.Tensor, wanted: torch.Tensor, model: FluxModel) -> bool:
    """To the bit where LoRAs are beside the layers; to rounding where they are merged into unpacked ones."""
    if model.places.placement.transformer != "unpacked":
        return torch.equal(got, wanted)
    return bool((got - wanted).norm() < 1e-4 * wanted.norm()) and not torch.equal(got, wanted)


def test_a_journal_goes_on_in_another_placement(plain_model: FluxModel, folder: ModelFolder) -> None:
    request = replace(REQUEST, sampler="unipc", steps=6)
    controls = control_inputs(folder, [("depth", 0.7, 0.0, 0.5)])
    tokens, _ = ours(plain_model, request, controls)
    model = load_apart(folder, Placement("unpacked"))

    def stop(step: int, _: torch.Tensor) -> None:
        if step == 2:
            raise torch.OutOfMemoryError

    with torch.inference_mode():
        first = begun(PictureJob(model, request, controls))
        with pytest.raises(torch.OutOfMemoryError):
            first.denoise(stop)
        changed(model, Placement("streamed", encoders_leave=True, nets_leave=True))
        second = begun(PictureJob(model, request, controls, journal=first.journal))
        second.denoise(lambda step, _: None)
    assert torch.equal(second.tokens, tokens)


def begun(job: PictureJob) -> PictureJob:
    job.read_text()
    for control in job.controls:
        job.read_control(control)
    return job


def test_encoders_and_transformer_are_never_there_together(folder: ModelFolder) -> None:
    """And a prompt that was read brings neither the encoders nor adaLN's weights back."""
    model = load_apart(folder, Placement("packed", encoders_leave=True))
    where = model.places
    assert not {TRANSFORMER, BLOCKS, *ENCODERS, T5_BLOCKS} & set(where.residency.here()), "nothing came to be loaded"
    seen: list[set[Any]] = []
    for net in (model.text.t5, model.text.clip, model.transformer.model.proj_out):
        net.register_forward_pre_hook(lambda *_: seen.append(set(where.residency.here())))
    painted_once(model)
    assert {frozenset(here & {TRANSFORMER, BLOCKS, *ENCODERS, T5_BLOCKS}) for here in seen} == {
        frozenset({*ENCODERS, T5_BLOCKS}), frozenset({TRANSFORMER, BLOCKS})
    }  # fmt: skip
    came = where.mover.came
    painted_once(model, seed=8)
    assert where.mover.came == came, "all that the second picture needs was there"
    painted_once(model, prompt="another")
    both = sum(where.residency[key].size() for key in (TRANSFORMER, BLOCKS, *ENCODERS, T5_BLOCKS))
    assert where.mover.came == came + both + adaln_bytes(model)
    assert where.mover.left == 0, "what came from main memory is there still"


def adaln_bytes(model: FluxModel) -> int:
    layers = [layer for layer in model.transformer.model.modules() if isinstance(layer, ADALN)]
    return sum(one.nbytes for layer in layers for one in (*layer.linear.parameters(), *layer.linear.buffers()))


@pytest.mark.parametrize("form", FORMS)
def test_adaln_s_weights_are_not_on_the_device(folder: ModelFolder, form: Any) -> None:
    model = load_apart(folder, Placement(form))
    painted_once(model)
    layers = [layer for layer in model.transformer.model.modules() if isinstance(layer, ADALN)]
    tensors = [one for layer in layers for one in (*layer.linear.parameters(), *layer.linear.buffers())]
    assert len(tensors) > 8 and not any(model.places.mover.is_here(one) for one in tensors)
    ours(model, replace(REQUEST, sampler="adaptive", steps=17), [])
    assert not any(model.places.mover.is_here(one) for one in tensors), "nor after a sampler that needs them whole"


def test_how_much_of_the_real_model_adaln_is() -> None:
    with torch.device("meta"):
        net = FluxTransformer2DModel(guidance_embeds=True)
    adaln = sum(one.numel() for layer in net.modules() if isinstance(layer, ADALN) for one in layer.linear.parameters())
    total = sum(one.numel() for one in net.parameters())
    assert 0.27 < adaln / total < 0.275
    assert 3.4e9 < adaln * 34 / 32 < 3.5e9, "bytes in Q8_0 that leave"


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """ControlNets, too, see to it that their weights are on the device."""
    real = Places.add_net

    def add(self: Places, key: Any, net: torch.nn.Module, **options: Any) -> None:
        real(self, key, net, **options)
        guard(self, net)

    with monkeypatch.context() as patch:
        patch.setattr(Places, "add_net", add)
        yield


@pytest.mark.usefixtures("guarded")
def test_nets_leave_after_their_window(plain_model: FluxModel, folder: ModelFolder) -> None:
    request = replace(REQUEST, steps=6)
    controls = control_inputs(folder, [("depth", 0.7, 0.0, 0.5), ("line", 0.6, 0.0, 0.34)])
    place = controls[0].folder
    tokens, _ = ours(plain_model, request, controls)
    model = load_apart(folder, Placement(nets_leave=True))
    there: list[bool] = []
    model.transformer.model.proj_out.register_forward_pre_hook(
        lambda *_: there.append((place, "blocks") in model.places.residency.here())
    )
    for _ in range(2):
        assert torch.equal(ours(model, request, controls)[0], tokens)
    assert there == [True, True, True, False, False, False] * 2 or there == [True, True, False, False, False, False] * 2
    assert place not in model.places.residency.here()


@pytest.mark.usefixtures("guarded")
def test_nets_that_do_not_fit_stream(plain_model: FluxModel, folder: ModelFolder) -> None:
    """Beside a streamed transformer there is room for one net: a second one is not moved back and forth with it."""
    controls = control_inputs(folder, [("depth", 0.7, 0.0, 1.0), ("line", 0.6, 0.0, 1.0)])
    other = folder.path / "other"
    controls[1] = replace(controls[1], folder=other, mode=1)
    from backend.flux.load_controlnet import load_controlnet

    assert controls[0].folder is not None
    with torch.inference_mode():
        plain_model.nets[other] = load_controlnet(controls[0].folder, CPU, torch.float32)
        tokens, _ = ours(plain_model, REQUEST, controls)
        del plain_model.nets[other]
        model = load_apart(folder, Placement("streamed", encoders_leave=True))
        model.nets[other] = load_controlnet(controls[0].folder, CPU, torch.float32)
        painted_once(model)
        nets = [model.controlnet(control.folder) for control in controls if control.folder is not None]
    assert len(nets) == 2
    sizes = {key: model.places.residency[key].size() for key in (TRANSFORMER, other, (other, "blocks"))}
    model.places.residency.room = sum(sizes.values()) + sizes[other] + sizes[other, "blocks"] // 2
    moves = dict(model.places.residency.moves)
    assert torch.equal(ours(model, REQUEST, controls)[0], tokens)
    assert bytes_here(model.places) <= model.places.residency.room
    moved = {key: count - moves.get(key, 0) for key, count in model.places.residency.moves.items()}
    assert max(moved.values()) <= 2, moved
    streams = [key for key, net in model.places._nets.items() if net.stream is not None]
    assert streams == [TRANSFORMER, other]


def test_what_other_pictures_used_leaves_for_the_decoder(plain_model: FluxModel, folder: ModelFolder) -> None:
    """By the room that the plan has for weights in each stage; the transformer last, where all else is too little."""
    controls = control_inputs(folder, [("depth", 0.7, 0.0, 1.0)])
    net, stages = controls[0].folder, ("text", "control", "denoising", "decoding")
    model = load_apart(folder)
    wanted = ours(plain_model, REQUEST, [])
    ours(model, REQUEST, controls)
    where, every = model.places, bytes_here(model.places)
    nets = sum(where.residency[key].size() for key in (net, (net, "blocks")))
    for key in (*ENCODERS, T5_BLOCKS):
        where.residency.leave(key)
    own = bytes_here(where) - nets
    where.rooms = dict.fromkeys(stages, every)
    assert np.array_equal(ours(model, REQUEST, [])[1], wanted[1]) and net in where.residency.here(), "there is room"
    where.rooms |= {"decoding": own + nets // 4}
    assert np.array_equal(ours(model, REQUEST, [])[1], wanted[1])
    assert {TRANSFORMER, BLOCKS, VAE} <= set(where.residency.here()) and (net, "blocks") not in where.residency.here()
    where.rooms |= {"decoding": own // 4}
    assert np.array_equal(ours(model, REQUEST, [])[1], wanted[1])
    assert BLOCKS not in where.residency.here() and bytes_here(where) <= own // 4 + where.residency[VAE].size()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA graphics card")
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_on_a_graphics_card(folder: ModelFolder, placement: Placement) -> None:
    device, found = torch.device("cuda"), []
    with torch.inference_mode():
        for one in (Placement(), placement):
            model = load_model(model_files(folder), device, torch.bfloat16, lambda: None, one)
            found.append(ours(model, REQUEST, control_inputs(folder, [("depth", 0.7, 0.0, 0.5)]))[0])
    assert torch.equal(*found)
