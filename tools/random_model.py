"""Writes a tiny FLUX model with random weights, in the product's own files and formats.

For tests, and for the demo until a trained sample model exists. What it paints is noise, and its title says so.

    python -m tools.random_model FOLDER [--seed 0]      writes FOLDER/random-weights/
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, FluxControlNetModel, FluxTransformer2DModel
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from backend.flux.load_parts import without_deprecations
from backend.flux.write_gguf import bfl_tensors, write_gguf

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
VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [8, 16, 32, 32],
    "layers_per_block": 1,
    "latent_channels": LATENT_CHANNELS,
    "norm_num_groups": 8,
    "sample_size": 256,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "mid_block_add_attention": True,
}
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
}


def write_random_model(folder: Path, seed: int = 0) -> Path:
    """Writes <folder>/random-weights/, whole or not at all, and returns it. The same seed makes the same bytes."""
    target = folder / NAME
    partial = folder / f".{NAME}.part"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _write_json(partial / "model.json", model_description())
    transformer = randomised(FluxTransformer2DModel(**TRANSFORMER), seed)
    _write_json(partial / "transformer" / "config.json", TRANSFORMER)
    write_gguf(partial / "transformer.gguf", bfl_tensors(transformer.state_dict(), TRANSFORMER))
    with without_deprecations():
        controlnet = randomised(FluxControlNetModel(**CONTROLNET), seed + 1)
    _write_part(partial / "controlnet", "diffusion_pytorch_model", controlnet, {**CONTROLNET}, torch.float16)
    vae = randomised(AutoencoderKL(**VAE), seed + 2)
    _write_part(partial / "vae", "diffusion_pytorch_model", vae, VAE, torch.float16)
    _write_text_encoders(partial, seed)
    _write_json(partial / "scheduler" / "scheduler_config.json", SCHEDULER)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return target


def model_description() -> dict[str, Any]:
    """The model.json."""
    return {
        "format": 1,
        "title": TITLE,
        "transformer": {"file": "transformer.gguf", "config": "transformer/config.json"},
        **{part: part for part in ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")},
        "max_text_tokens": TEXT_TOKENS,
        "controlnets": [{"folder": "controlnet", "kinds": KINDS}],
        "defaults": {"steps": 4, "guidance": 3.5},
    }


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


def _write_part(folder: Path, stem: str, module: nn.Module, config: dict[str, Any], dtype: torch.dtype) -> None:
    _write_json(folder / "config.json", config)
    state = {name: value.to(dtype).contiguous() for name, value in module.state_dict().items()}
    save_file(state, folder / f"{stem}.safetensors", metadata={"format": "pt"})


def _write_text_encoders(folder: Path, seed: int) -> None:
    vocabulary = _write_clip_tokenizer(folder / "tokenizer")
    clip = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=TRANSFORMER["pooled_projection_dim"],
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
        architectures=["CLIPTextModel"],
    )
    encoder = randomised(CLIPTextModel(clip), seed + 3)
    _write_part(folder / "text_encoder", "model", encoder, clip.to_dict(), torch.float16)
    vocabulary = _write_t5_tokenizer(folder / "tokenizer_2")
    t5 = T5Config(
        vocab_size=vocabulary,
        d_model=TRANSFORMER["joint_attention_dim"],
        d_kv=32,
        d_ff=128,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        architectures=["T5EncoderModel"],
    )
    encoder = randomised(T5EncoderModel(t5), seed + 4)
    state = {name: value for name, value in encoder.state_dict().items() if name != "encoder.embed_tokens.weight"}
    _write_json(folder / "text_encoder_2" / "config.json", t5.to_dict())
    state = {name: value.to(torch.float16).contiguous() for name, value in state.items()}
    save_file(state, folder / "text_encoder_2" / "model.safetensors", metadata={"format": "pt"})


def _write_clip_tokenizer(folder: Path) -> int:
    """A byte-level tokenizer in CLIP's files that knows no words, only characters. Returns the vocabulary's size."""
    letters = sorted(byte_letters())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    _write_json(folder / "vocab.json", {word: index for index, word in enumerate(words)})
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "<|endoftext|>", **special},
    )
    return len(words)


def byte_letters() -> list[str]:
    """The 256 printable characters that byte-level tokenizers write bytes with."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (chr(256 + index) for index in range(256 - len(printable)))
    return [chr(code) for code in printable] + list(others)


def _write_t5_tokenizer(folder: Path) -> int:
    """A tokenizer in T5's file that knows ASCII characters and falls back to bytes. Returns the vocabulary's size."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    characters = [chr(code) for code in range(0x21, 0x7F)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    pieces += [(f"<0x{byte:02X}>", -10.0) for byte in range(256)]
    pieces += [(character, -4.0) for character in characters]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=True))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "extra_ids": 0}
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "T5TokenizerFast", "model_max_length": 512, **special},
    )
    return len(pieces)


def _write_json(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1, sort_keys=True, default=str) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = write_random_model(arguments.folder, arguments.seed)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB. {TITLE}.")


if __name__ == "__main__":
    main()
