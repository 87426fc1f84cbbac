"""The same picture made by our engine and by diffusers' own pipelines, from the same weights, noise and prompt."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FluxControlNetImg2ImgPipeline,
    FluxControlNetInpaintPipeline,
    FluxControlNetPipeline,
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
)
from diffusers.models.controlnets.controlnet_flux import FluxMultiControlNetModel
from gguf.quants import dequantize, quantize
from PIL import Image

from backend.flux.control_pictures import control_picture
from backend.flux.latents import noise
from backend.flux.model import FluxModel, load_model
from backend.flux.picture_job import ControlInput, PictureJob
from backend.flux.write_gguf import tensor_type
from backend.models import ModelFolder
from backend.production import model_files
from backend.wire import GenerationRequest
from tests.backend.samples import make_maps
from tools.random_model import SCHEDULER, TEXT_TOKENS, randomised, transformer_config

REQUEST = GenerationRequest("a red cube on grass", 128, 96, seed=3, steps=4, model="random-weights")
WINDOWS = {
    "whole": [("depth", 0.7, 0.0, 1.0)],
    "first half": [("depth", 0.9, 0.0, 0.5)],
    "last three quarters": [("line", 0.9, 0.25, 1.0)],
    "two": [("depth", 0.7, 0.0, 1.0), ("normal", 0.4, 0.0, 1.0)],
    "two with windows": [("depth", 0.7, 0.0, 0.75), ("line", 0.5, 0.5, 1.0)],
}


PIPELINES = {
    ("text_to_image", False): FluxPipeline,
    ("text_to_image", True): FluxControlNetPipeline,
    ("image_to_image", False): FluxImg2ImgPipeline,
    ("image_to_image", True): FluxControlNetImg2ImgPipeline,
    ("inpaint", False): FluxInpaintPipeline,
    ("inpaint", True): FluxControlNetInpaintPipeline,
}
PICTURE = np.random.default_rng(4).integers(0, 256, (12, 16, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
"""What to start from: blocks of 8 x 8 pixels."""
MASK = np.zeros((96, 128), np.float32)
MASK[16:64, 32:112] = 1.0


def load_engine(folder: ModelFolder) -> FluxModel:
    with torch.inference_mode():
        model = load_model(model_files(folder), torch.device("cpu"), torch.float32, lambda: None)
        # diffusers draws the control latents at random around their mean; without a spread both are the mean.
        for name, parameter in model.vae.encoder.conv_out.named_parameters():
            parameter[16:] = 0.0 if name == "weight" else -30.0
    return model


def reference_transformer(variant: str = "dev") -> FluxTransformer2DModel:
    """The transformer that a random model's GGUF was made from, with the same rounding, made without our reader."""
    reference = randomised(FluxTransformer2DModel(**transformer_config(variant)), 0)
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            values = parameter.numpy()
            kind = tensor_type(_bfl_name_of(name), values.shape)
            rounded = dequantize(quantize(values, kind), kind).reshape(values.shape)
            parameter.copy_(torch.from_numpy(np.array(rounded)))
    return reference


def _bfl_name_of(name: str) -> str:
    """A name that `tensor_type` sorts as it sorts the tensor this parameter ends up in."""
    if name.startswith(("proj_out", "norm_out")):
        return "final_layer."
    return "img_in." if name.startswith(("x_embedder", "context_embedder", "time_text_embed")) else name


def pipeline_parts(model: FluxModel, reference: FluxTransformer2DModel) -> dict[str, Any]:
    """What diffusers' pipelines are made of, but for a ControlNet."""
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler.from_config(SCHEDULER),
        "vae": model.vae,
        "text_encoder": model.text.clip,
        "tokenizer": model.text.clip_tokenizer,
        "text_encoder_2": model.text.t5,
        "tokenizer_2": model.text.t5_tokenizer,
        "transformer": reference,
    }


def control_inputs(folder: ModelFolder, controls: list[tuple[str, float, float, float]]) -> list[ControlInput]:
    maps = make_maps(REQUEST.width, REQUEST.height)
    inputs = []
    for kind, strength, start, end in controls:
        found = folder.control(kind)
        assert found is not None
        picture = control_picture(maps, kind, found[1].picture)
        inputs.append(ControlInput(found[0].folder, found[1].mode, picture, strength, start, end))
    return inputs


def ours(
    model: FluxModel,
    request: GenerationRequest,
    controls: list[ControlInput],
    mask: np.ndarray | None = None,
    reference: np.ndarray | None = None,
) -> tuple[torch.Tensor, np.ndarray]:
    """The final tokens, and the picture (height, width, 3), 0..1. mask: for in-painting PICTURE."""
    with torch.inference_mode():
        job = PictureJob(model, request, controls)
        job.read_text()
        if reference is not None:
            job.read_reference(reference)
        if request.task != "text_to_image":
            job.read_source(PICTURE, mask)
        for control in controls:
            job.read_control(control)
        job.denoise(lambda step, tokens: None)
        return job.tokens, job.decode() / 255.0


def theirs(
    model: FluxModel,
    reference: FluxTransformer2DModel,
    request: GenerationRequest,
    controls: list[ControlInput],
    mask: np.ndarray | None = None,
) -> tuple[torch.Tensor, np.ndarray]:
    parts = pipeline_parts(model, reference)
    arguments: dict[str, Any] = {
        "prompt": request.prompt,
        "width": request.width,
        "height": request.height,
        "num_inference_steps": request.steps,
        "guidance_scale": request.guidance,
        "max_sequence_length": TEXT_TOKENS,
        "latents": PictureJob(model, request, []).start(),
    }
    if request.task != "text_to_image":
        arguments |= {"image": Image.fromarray(PICTURE), "strength": request.strength}
        del arguments["latents"]
    if mask is not None:
        arguments["mask_image"] = Image.fromarray(np.uint8(255 * mask))
    if request.true_cfg > 1.0:
        arguments |= {"negative_prompt": request.negative_prompt, "true_cfg_scale": request.true_cfg}
    if controls:
        assert controls[0].folder is not None
        net = model.controlnet(controls[0].folder)
        # As a list of one net for several pictures, and with lists throughout: with plain numbers the pipeline
        # drops every picture but the first.
        parts["controlnet"] = FluxMultiControlNetModel([net])
        arguments |= {
            "control_image": [Image.fromarray(control.picture) for control in controls],
            "control_mode": [control.mode for control in controls],
            "controlnet_conditioning_scale": [control.strength for control in controls],
            "control_guidance_start": [control.start for control in controls],
            "control_guidance_end": [control.end for control in controls],
        }
    pipeline: Any = PIPELINES[request.task, bool(controls)](**parts)
    pipeline.set_progress_bar_config(disable=True)
    start = noise(request.seed, 16, request.height // 8, request.width // 8)
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        # Those that start from a picture would draw their noise after the picture's own latents.
        patch.setattr(sys.modules[type(pipeline).__module__], "randn_tensor", lambda *_, **__: start)
        tokens: Any = pipeline(**arguments, output_type="latent", return_dict=False)[0]
        images: Any = pipeline(**arguments, output_type="np", return_dict=False)[0]
    return tokens, images[0]
