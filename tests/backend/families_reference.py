"""The pictures of FLUX.1's families made by diffusers' own pipelines, from the weights and the noise that we take."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    FluxControlPipeline,
    FluxFillPipeline,
    FluxKontextPipeline,
    FluxPipeline,
    FluxPriorReduxPipeline,
    FluxTransformer2DModel,
)
from PIL import Image
from torch.nn.functional import pad
from transformers import SiglipImageProcessorPil

from backend.flux.latents import noise, pack
from backend.flux.model import FluxModel
from backend.flux.picture_job import ControlInput
from backend.flux.vae import encode
from backend.wire import GenerationRequest
from tests.backend.diffusers_reference import PICTURE, pipeline_parts
from tools.random_model import SIGLIP, TEXT_TOKENS


def run_pipeline(pipeline: Any, request: GenerationRequest, **arguments: Any) -> tuple[torch.Tensor, np.ndarray]:
    """The final tokens, and the picture (height, width, 3), 0..1."""
    pipeline.set_progress_bar_config(disable=True)
    start = noise(request.seed, 16, request.height // 8, request.width // 8)
    common: dict[str, Any] = {
        "prompt": request.prompt,
        "width": request.width,
        "height": request.height,
        "num_inference_steps": request.steps,
        "guidance_scale": request.guidance,
        "max_sequence_length": TEXT_TOKENS,
        "return_dict": False,
    }
    common = {name: value for name, value in {**common, **arguments}.items() if value is not None}
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        # What is drawn at random is the noise alone: the VAE of these models has no spread.
        patch.setattr(sys.modules[type(pipeline).__module__], "randn_tensor", lambda *_, **__: start)
        tokens: Any = pipeline(**common, output_type="latent")[0]
        images: Any = pipeline(**common, output_type="np")[0]
    return tokens, images[0]


def start_tokens(request: GenerationRequest) -> torch.Tensor:
    return pack(noise(request.seed, 16, request.height // 8, request.width // 8))


def controlled(
    model: FluxModel, reference: FluxTransformer2DModel, request: GenerationRequest, control: ControlInput
) -> tuple[torch.Tensor, np.ndarray]:
    """FLUX.1-Depth or -Canny."""
    pipeline = FluxControlPipeline(**pipeline_parts(model, reference))
    picture = Image.fromarray(control.picture)
    return run_pipeline(pipeline, request, control_image=picture, latents=start_tokens(request))


def filled(
    model: FluxModel, reference: FluxTransformer2DModel, request: GenerationRequest, mask: np.ndarray
) -> tuple[torch.Tensor, np.ndarray]:
    """FLUX.1-Fill."""
    pipeline = FluxFillPipeline(**pipeline_parts(model, reference))
    image, mask_image = Image.fromarray(PICTURE), Image.fromarray(np.uint8(255 * mask))
    return run_pipeline(pipeline, request, image=image, mask_image=mask_image, strength=request.strength)


def edited(
    model: FluxModel, reference: FluxTransformer2DModel, request: GenerationRequest
) -> tuple[torch.Tensor, np.ndarray]:
    """FLUX.1-Kontext."""
    negative: dict[str, Any] = {}
    if request.true_cfg > 1.0:
        negative = {"negative_prompt": request.negative_prompt, "true_cfg_scale": request.true_cfg}
    return run_pipeline(
        FluxKontextPipeline(**pipeline_parts(model, reference)),
        request,
        image=Image.fromarray(PICTURE),
        max_area=request.width * request.height,
        _auto_resize=False,
        latents=start_tokens(request),
        **negative,
    )


def referred(
    model: FluxModel, reference: FluxTransformer2DModel, request: GenerationRequest, picture: np.ndarray
) -> tuple[torch.Tensor, np.ndarray]:
    """FLUX.1-Redux before FLUX.1-dev."""
    parts = pipeline_parts(model, reference)
    assert model.redux is not None, "loaded with the first reference"
    preprocessor: Any = SiglipImageProcessorPil
    # Typed more narrowly than it is used.
    prior: Any = FluxPriorReduxPipeline(
        image_encoder=model.redux.encoder,
        feature_extractor=preprocessor(size=dict.fromkeys(("height", "width"), SIGLIP["image_size"])),
        image_embedder=model.redux.words,
        **{name: parts[name] for name in ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")},
    )
    # Left to itself it always reads 512 words.
    text, pooled = (found.clone() for found in model.encode_prompt(request.prompt))
    made: Any = prior(Image.fromarray(picture), prompt_embeds=text, pooled_prompt_embeds=pooled, return_dict=False)
    made[0][:, TEXT_TOKENS:] *= request.reference_strength
    words = {"prompt": None, "prompt_embeds": made[0], "pooled_prompt_embeds": made[1]}
    return run_pipeline(FluxPipeline(**parts), request, latents=start_tokens(request), **words)


@contextmanager
def beside_a_controlnet(model: FluxModel, reference: FluxTransformer2DModel, control: ControlInput) -> Iterator[None]:
    """diffusers has no pipeline for these: its own ControlNet is asked in each call of its own transformer."""
    assert control.folder is not None
    net, plain = model.controlnet(control.folder), reference.forward
    picture = torch.from_numpy(control.picture).permute(2, 0, 1)[None].float() / 127.5 - 1.0
    with torch.inference_mode():
        latents = pack(encode(model.vae, picture))
    tokens = latents.shape[1]

    def forward(hidden_states: torch.Tensor, **rest: Any) -> Any:
        shared = ("timestep", "guidance", "pooled_projections", "encoder_hidden_states", "txt_ids")
        lists = net(
            hidden_states=hidden_states[:, :tokens, :64],
            controlnet_cond=latents,
            controlnet_mode=torch.tensor([[control.mode]]),
            conditioning_scale=control.strength,
            img_ids=rest["img_ids"][:tokens],
            return_dict=False,
            **{name: rest[name] for name in shared},
        )
        more = hidden_states.shape[1] - tokens
        double, single = ([pad(residual, (0, 0, 0, more)) for residual in residuals] for residuals in lists)
        return plain(hidden_states, controlnet_block_samples=double, controlnet_single_block_samples=single, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "forward", forward)
        yield
