"""Writes a tiny FLUX model with random weights, in the product's own files and formats.

For tests that need arbitrary shapes. What it paints is noise, and its title says so.

    python -m tools.random_model FOLDER [--seed 0]      writes FOLDER/random-weights/
    python -m tools.random_model FOLDER --variant fill-dev kontext-dev      writes FOLDER/random-fill-dev/ and so on
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, FluxControlNetModel, FluxTransformer2DModel
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    T5EncoderModel,
)

from backend.flux.load_parts import without_deprecations
from backend.models.settings import MODEL_VARIANTS
from backend.sample.model_files import (
    SPECIAL_PIECES,
    Nets,
    Part,
    clip_config,
    clip_vocabulary,
    model_description,
    t5_config,
    vae_config,
    write_clip_tokenizer,
    write_model,
    write_t5_tokenizer,
)

NAME = "random-weights"
TITLE = "Random weights: the picture is noise"
LATENT_CHANNELS = 16
TEXT_TOKENS = 64
TRANSFORMER: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": LATENT_CHANNELS * 4,
    "out_channels": None,
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 64,
    "num_attention_heads": 2,
    "joint_attention_dim": 64,
    "pooled_projection_dim": 64,
    "guidance_embeds": True,
    "axes_dims_rope": [8, 28, 28],
}
CONTROLNET = {**TRANSFORMER, "num_layers": 1, "num_single_layers": 1, "num_mode": 10}
CONTROLNET.pop("out_channels")
SIGLIP: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
REDUX = {"redux_dim": SIGLIP["hidden_size"], "txt_in_features": TRANSFORMER["joint_attention_dim"]}
XLABS: dict[str, Any] = {
    **CONTROLNET, "num_mode": None, "num_single_layers": 0, "patch_size": 2, "conditioning_embedding_channels": 16,
}  # fmt: skip
"""A ControlNet as XLabs made them: it reads pixels, by layers of its own."""
VAE = vae_config((8, 16, 32, 32), scaling_factor=0.3611, shift_factor=0.1159)
SCHEDULER = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "base_image_seq_len": 256,
    "base_shift": 0.5,
    "max_image_seq_len": 4096,
    "max_shift": 1.15,
    "num_train_timesteps": 1000,
    "shift": 3.0,
    "use_dynamic_shifting": True,
}
KINDS = {
    "depth": {"mode": 2, "picture": "depth_near_white"},
    "normal": {"mode": 7, "picture": "normal_y_up"},
    "line": {"mode": 0, "picture": "line_white_on_black"},
    "pose": {"mode": 8, "picture": "pose_openpose"},
    "canny": {"mode": 3, "picture": "canny_white_on_black"},
    "soft_edge": {"mode": 4, "picture": "soft_edge_white_on_black"},
    "grey": {"mode": 5, "picture": "grey_luma"},
    "tile": {"mode": 1, "picture": "tile_eighth"},
    "blur": {"mode": 6, "picture": "blur_hundredth"},
}


def random_name(variant: str) -> str:
    """The folder's name of a random model of one of FLUX.1's families."""
    return NAME if variant == "dev" else f"random-{variant}"


def transformer_config(variant: str) -> dict[str, Any]:
    """FluxTransformer2DModel's arguments."""
    channels = MODEL_VARIANTS[variant].in_channels
    return {**TRANSFORMER, "in_channels": channels, "out_channels": None if channels == 64 else 64}


def write_random_model(folder: Path, seed: int = 0, variant: str = "dev") -> Path:
    """Writes <folder>/<random_name(variant)>/, whole or not at all, and returns it. A seed decides all bytes.

    variant: a name in MODEL_VARIANTS.
    """
    config = transformer_config(variant)
    with without_deprecations():
        controlnet = randomised(FluxControlNetModel(**CONTROLNET), seed + 1)
    clip = CLIPTextConfig(
        **clip_config(len(clip_vocabulary()), TRANSFORMER["pooled_projection_dim"], inner=128, layers=1, heads=2)
    )
    vocabulary = SPECIAL_PIECES + len(t5_pieces())
    t5 = T5Config(**t5_config(vocabulary, TRANSFORMER["joint_attention_dim"], inner=128, layers=2, heads=2))
    nets = Nets(
        transformer=randomised(FluxTransformer2DModel(**config), seed),
        transformer_config=config,
        controlnet=controlnet,
        controlnet_config=CONTROLNET,
        vae=randomised(AutoencoderKL(**VAE), seed + 2),
        vae_config=VAE,
        clip=randomised(CLIPTextModel(clip), seed + 3),
        clip_config=clip.to_dict(),
        t5=randomised(T5EncoderModel(t5), seed + 4),
        t5_config=t5.to_dict(),
        scheduler=SCHEDULER,
        more=redux_parts(seed) if variant == "redux-dev" else {},
    )
    description = model_description(TITLE, TEXT_TOKENS, KINDS, steps=4)
    if variant != "dev":
        description["variant"] = variant
    description |= {part: part for part in nets.more}
    return write_model(folder, random_name(variant), description, nets, write_tokenizers)


def redux_parts(seed: int) -> dict[str, Part]:
    """What reads reference pictures. The encoder's names are those of FLUX.1-Redux's own file."""
    encoder = SiglipVisionConfig(**SIGLIP)
    siglip = randomised(SiglipVisionModel(encoder), seed + 5)
    redux = randomised(ReduxImageEncoder(**REDUX), seed + 6)
    return {
        "image_encoder": Part("model", nn.ModuleDict({"vision_model": siglip}), encoder.to_dict()),
        "redux": Part("diffusion_pytorch_model", redux, REDUX),
    }


def write_tokenizers(folder: Path) -> None:
    """Tokenizers that know no words, only characters."""
    write_clip_tokenizer(folder / "tokenizer")
    write_t5_tokenizer(folder / "tokenizer_2", t5_pieces(), 512)


def t5_pieces() -> list[tuple[str, float]]:
    """ASCII characters, and the bytes that others fall back to."""
    characters = [(chr(code), -4.0) for code in range(0x21, 0x7F)]
    return [("\u2581", -2.0), *((f"<0x{byte:02X}>", -10.0) for byte in range(256)), *characters]


Network = TypeVar("Network", bound=nn.Module)


def randomised(module: Network, seed: int) -> Network:
    """Fills a network with random weights that neither fade nor explode on the way through; norms stay near 1."""
    generator = torch.Generator("cpu").manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                fan_in = math.prod(parameter.shape[1:])
                parameter.copy_(values / math.sqrt(fan_in))
            elif name.endswith("bias"):
                parameter.copy_(values * 0.1)
            else:
                parameter.copy_(1.0 + values * 0.1)
    return module.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variant", choices=MODEL_VARIANTS, default=["dev"], nargs="+")
    arguments = parser.parse_args()
    for variant in arguments.variant:
        folder = write_random_model(arguments.folder, arguments.seed, variant)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"{folder}: {size / 1e6:.1f} MB. {TITLE}.")


if __name__ == "__main__":
    main()
