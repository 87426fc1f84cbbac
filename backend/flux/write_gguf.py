"""Writes a transformer as FLUX files are: Black Forest Labs' names, GGUF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from torch import Tensor

FIRST_LAYERS = ("img_in.", "txt_in.", "time_in.", "vector_in.", "guidance_in.", "final_layer.")
FIRST_LAYERS_OF_DIFFUSERS = ("x_embedder.", "context_embedder.", "time_text_embed.", "norm_out.", "proj_out.")
"""Layers that real FLUX files never quantise, in both namings."""


def bfl_tensors(state: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """diffusers' names -> Black Forest Labs' names, with fused layers put together."""
    tensors: dict[str, Tensor] = {}

    def take(target: str, *sources: str) -> None:
        for kind in ("weight", "bias"):
            tensors[f"{target}.{kind}"] = torch.cat([state[f"{source}.{kind}"] for source in sources])

    for target, source in (
        ("time_in.in_layer", "timestep_embedder.linear_1"),
        ("time_in.out_layer", "timestep_embedder.linear_2"),
        ("vector_in.in_layer", "text_embedder.linear_1"),
        ("vector_in.out_layer", "text_embedder.linear_2"),
        ("guidance_in.in_layer", "guidance_embedder.linear_1"),
        ("guidance_in.out_layer", "guidance_embedder.linear_2"),
    ):
        if f"time_text_embed.{source}.weight" in state:
            take(target, f"time_text_embed.{source}")
    take("txt_in", "context_embedder")
    take("img_in", "x_embedder")
    take("final_layer.linear", "proj_out")
    for kind in ("weight", "bias"):
        scale, shift = state[f"norm_out.linear.{kind}"].chunk(2)
        tensors[f"final_layer.adaLN_modulation.1.{kind}"] = torch.cat((shift, scale))
    for index in range(config["num_layers"]):
        _take_double_block(take, tensors, state, f"double_blocks.{index}", f"transformer_blocks.{index}")
    for index in range(config["num_single_layers"]):
        source, target = f"single_transformer_blocks.{index}", f"single_blocks.{index}"
        take(f"{target}.modulation.lin", f"{source}.norm.linear")
        attention = [f"{source}.attn.{name}" for name in ("to_q", "to_k", "to_v")]
        take(f"{target}.linear1", *attention, f"{source}.proj_mlp")
        take(f"{target}.linear2", f"{source}.proj_out")
        tensors[f"{target}.norm.query_norm.scale"] = state[f"{source}.attn.norm_q.weight"]
        tensors[f"{target}.norm.key_norm.scale"] = state[f"{source}.attn.norm_k.weight"]
    return tensors


def _take_double_block(
    take: Any, tensors: dict[str, Tensor], state: dict[str, Tensor], target: str, source: str
) -> None:
    for stream, suffix, names, out, norm in (
        ("img", "", ("to_q", "to_k", "to_v"), "to_out.0", "norm_"),
        ("txt", "_context", ("add_q_proj", "add_k_proj", "add_v_proj"), "to_add_out", "norm_added_"),
    ):
        take(f"{target}.{stream}_mod.lin", f"{source}.norm1{suffix}.linear")
        take(f"{target}.{stream}_attn.qkv", *[f"{source}.attn.{name}" for name in names])
        take(f"{target}.{stream}_attn.proj", f"{source}.attn.{out}")
        take(f"{target}.{stream}_mlp.0", f"{source}.ff{suffix}.net.0.proj")
        take(f"{target}.{stream}_mlp.2", f"{source}.ff{suffix}.net.2")
        tensors[f"{target}.{stream}_attn.norm.query_norm.scale"] = state[f"{source}.attn.{norm}q.weight"]
        tensors[f"{target}.{stream}_attn.norm.key_norm.scale"] = state[f"{source}.attn.{norm}k.weight"]


def write_gguf(
    path: Path,
    tensors: dict[str, Tensor],
    architecture: str | None = "flux",
    matrices: GGMLQuantizationType = GGMLQuantizationType.Q8_0,
) -> None:
    """Writes tensors as real FLUX files hold them: the outer layers BF16 or F16, vectors F32, the rest `matrices`."""
    writer = GGUFWriter(path, architecture or "")
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().float().numpy()
        kind = tensor_type(name, values.shape, matrices)
        writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensor_type(
    name: str, shape: tuple[int, ...], matrices: GGMLQuantizationType = GGMLQuantizationType.Q8_0
) -> GGMLQuantizationType:
    """How real FLUX files hold this tensor, where its quantised layers are `matrices`."""
    if len(shape) == 1:
        return GGMLQuantizationType.F32
    if name.startswith("final_layer."):
        return GGMLQuantizationType.F16
    if name.startswith((*FIRST_LAYERS, *FIRST_LAYERS_OF_DIFFUSERS)):
        return GGMLQuantizationType.BF16
    # A row is packed in whole blocks, or not at all.
    return GGMLQuantizationType.F16 if shape[-1] % GGML_QUANT_SIZES[matrices][0] else matrices
