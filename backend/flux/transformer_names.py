"""The names FLUX's weights have in files, and where each one goes in diffusers' transformer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

PREFIX = "model.diffusion_model."

EMBEDDERS = {
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "txt_in": "context_embedder",
    "img_in": "x_embedder",
    "final_layer.linear": "proj_out",
}
DOUBLE_BLOCK = {
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}
DOUBLE_NORMS = {
    "img_attn.norm.query_norm.scale": "attn.norm_q.weight",
    "img_attn.norm.key_norm.scale": "attn.norm_k.weight",
    "txt_attn.norm.query_norm.scale": "attn.norm_added_q.weight",
    "txt_attn.norm.key_norm.scale": "attn.norm_added_k.weight",
}
SINGLE_BLOCK = {"modulation.lin": "norm.linear", "linear2": "proj_out"}
SINGLE_NORMS = {"norm.query_norm.scale": "attn.norm_q.weight", "norm.key_norm.scale": "attn.norm_k.weight"}
IMAGE_QKV = ("attn.to_q", "attn.to_k", "attn.to_v")
TEXT_QKV = ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows `first` up to `last` of a file's tensor are the parameter `target`, or part of it.

    A parameter made of several pieces (FLUX's last modulation, whose halves diffusers keeps the other way
    round) takes them in the order they are listed.
    """

    source: str
    first: int
    last: int
    target: str


def is_bfl(names: Iterable[str]) -> bool:
    """Whether these are Black Forest Labs' own names rather than diffusers'."""
    return any(re.match(r"(double|single)_blocks\.\d+\.", name) for name in names)


def without_prefix(names: Iterable[str]) -> dict[str, str]:
    """The transformer's names -> the names in the file. Whole checkpoints mark the transformer's with a prefix."""
    listed = list(names)
    marked = {name.removeprefix(PREFIX): name for name in listed if name.startswith(PREFIX)}
    return marked or {name: name for name in listed}


def bfl_pieces(name: str, rows: int, inner_dim: int) -> Iterator[Piece]:
    """Where the tensor `name` of `rows` rows goes; nothing when FLUX has no such tensor.

    inner_dim: the transformer's width, heads x head size.
    """
    if name.startswith("final_layer.adaLN_modulation.1."):
        target = f"norm_out.linear.{name.rpartition('.')[2]}"
        yield Piece(name, rows // 2, rows, target)
        yield Piece(name, 0, rows // 2, target)
        return
    layer, _, kind = name.rpartition(".")
    if layer in EMBEDDERS:
        yield Piece(name, 0, rows, f"{EMBEDDERS[layer]}.{kind}")
        return
    block = re.fullmatch(r"(double|single)_blocks\.(\d+)\.(.+)", name)
    if block is None:
        return
    is_double = block[1] == "double"
    prefix = f"{'transformer' if is_double else 'single_transformer'}_blocks.{block[2]}"
    for first, last, target in _block_targets(is_double, block[3], rows, inner_dim):
        yield Piece(name, first, last, f"{prefix}.{target}")


def _block_targets(is_double: bool, rest: str, rows: int, inner_dim: int) -> Iterator[tuple[int, int, str]]:
    norms, layers = (DOUBLE_NORMS, DOUBLE_BLOCK) if is_double else (SINGLE_NORMS, SINGLE_BLOCK)
    layer, _, kind = rest.rpartition(".")
    if rest in norms:
        yield 0, rows, norms[rest]
    elif layer in layers:
        yield 0, rows, f"{layers[layer]}.{kind}"
    elif is_double and layer in ("img_attn.qkv", "txt_attn.qkv"):
        for index, target in enumerate(IMAGE_QKV if layer.startswith("img") else TEXT_QKV):
            yield index * rows // 3, (index + 1) * rows // 3, f"{target}.{kind}"
    elif not is_double and layer == "linear1":
        for index, target in enumerate(IMAGE_QKV):
            yield index * inner_dim, (index + 1) * inner_dim, f"{target}.{kind}"
        yield 3 * inner_dim, rows, f"proj_mlp.{kind}"
