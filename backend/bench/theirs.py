"""The same loop by diffusers' own pipeline: from GGUF as it comes, or with the same weights unpacked once."""

from __future__ import annotations

import time
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxControlNetPipeline, GGUFQuantizationConfig
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from PIL import Image

from ..flux.memory import peak_memory, reset_peak
from ..flux.model import FluxModel
from ..models import ModelFolder
from ..wire import GenerationRequest
from .floors import synchronise
from .ours import PROMPT, STRENGTH, Loop, control_of
from .scratch_models import SCHEDULER
from .sizes import BenchSize

BLOCKS = ["FluxTransformerBlock", "FluxSingleTransformerBlock"]


def load_stock(
    folder: ModelFolder, size: BenchSize, device: torch.device, dtype: torch.dtype, form: str
) -> tuple[FluxTransformer2DModel, FluxControlNetModel]:
    """Transformer and ControlNet. form: "gguf" as diffusers runs it, "resident" unpacked, "compiled" too."""
    transformer: Any = FluxTransformer2DModel.from_single_file(
        str(folder.transformer),
        config=str(folder.transformer_config.parent),
        quantization_config=GGUFQuantizationConfig(compute_dtype=dtype),
        torch_dtype=dtype,
    )
    if form != "gguf":
        transformer.dequantize()
    net: Any = FluxControlNetModel.from_pretrained(folder.controlnets[0].folder, torch_dtype=dtype)
    transformer, net = transformer.to(device), net.to(device)
    if form == "compiled":
        net._repeated_blocks = BLOCKS
        for one in (transformer, net):
            one.compile_repeated_blocks(fullgraph=True, backend=size.compiler)
    return transformer, net


def run_stock(
    nets: tuple[FluxTransformer2DModel, FluxControlNetModel],
    parts: FluxModel,
    folder: ModelFolder,
    request: GenerationRequest,
    device: torch.device,
) -> Loop:
    """One loop, after a short one to warm up. parts: our model, for its VAE and the prompt's embedding.

    The time is from the end of the first step to that of the last, for as many steps as the loop has.
    """
    control = Image.fromarray(control_of(folder, request.width).picture)
    text, pooled = (one.to(device) for one in parts.encode_prompt(PROMPT))
    scheduler = FlowMatchEulerDiscreteScheduler(**SCHEDULER)
    without: dict[str, Any] = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    nets_of = {"vae": parts.vae, "transformer": nets[0], "controlnet": nets[1]}
    pipeline: Any = FluxControlNetPipeline(scheduler=scheduler, **nets_of, **without)
    pipeline.set_progress_bar_config(disable=True)
    ends: list[float] = []

    def ended(pipe: object, step: int, level: object, given: dict[str, Any]) -> dict[str, Any]:
        synchronise(device)
        ends.append(time.perf_counter())
        return given

    tokens: Any = None
    for steps in (2, request.steps):
        ends.clear()
        reset_peak(device)
        tokens = pipeline(
            prompt_embeds=text, pooled_prompt_embeds=pooled, width=request.width, height=request.height,
            num_inference_steps=steps, guidance_scale=request.guidance, control_image=control,
            controlnet_conditioning_scale=STRENGTH, output_type="latent", return_dict=False,
            generator=torch.Generator("cpu").manual_seed(request.seed), callback_on_step_end=ended,
        )[0]  # fmt: skip
    seconds = (ends[-1] - ends[0]) / (len(ends) - 1) * request.steps
    return Loop(seconds, peak_memory(device), tokens)
