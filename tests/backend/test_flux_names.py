"""Black Forest Labs' names land where diffusers' own converter puts them, row by row."""

from __future__ import annotations

import torch
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers

from backend.flux.transformer_names import bfl_pieces

WIDTH = 3072
"""diffusers' converter knows no other."""
EMBEDDERS = ("time_in.in_layer", "time_in.out_layer", "vector_in.in_layer", "vector_in.out_layer")
EMBEDDERS += ("guidance_in.in_layer", "guidance_in.out_layer", "img_in", "txt_in")
DOUBLE = {f"{stream}_{layer}": rows for stream in ("img", "txt") for layer, rows in (
    ("mod.lin", 6), ("attn.qkv", 3), ("attn.proj", 1), ("mlp.0", 4), ("mlp.2", 1),
)}  # fmt: skip
SINGLE = {"linear1": 7, "linear2": 1, "modulation.lin": 3}
HEAD = 128


def bfl_checkpoint() -> dict[str, torch.Tensor]:
    """Every tensor of a FLUX with one block of each kind, one column wide; each row holds a number of its own."""
    rows = {f"{name}.{kind}": WIDTH for name in EMBEDDERS for kind in ("weight", "bias")}
    for kind in ("weight", "bias"):
        rows |= {f"double_blocks.0.{name}.{kind}": times * WIDTH for name, times in DOUBLE.items()}
        rows |= {f"single_blocks.0.{name}.{kind}": times * WIDTH for name, times in SINGLE.items()}
        rows |= {f"final_layer.linear.{kind}": 64, f"final_layer.adaLN_modulation.1.{kind}": 2 * WIDTH}
    for norm in ("query_norm", "key_norm"):
        rows |= {f"double_blocks.0.{stream}_attn.norm.{norm}.scale": HEAD for stream in ("img", "txt")}
        rows[f"single_blocks.0.norm.{norm}.scale"] = HEAD
    checkpoint, first = {}, 0
    for name, count in rows.items():
        column = torch.arange(first, first + count, dtype=torch.float64)
        checkpoint[name] = column[:, None] if name.endswith(".weight") else column
        first += count
    return checkpoint


def test_every_row_lands_where_diffusers_puts_it() -> None:
    ours: dict[str, list[torch.Tensor]] = {}
    for name, tensor in bfl_checkpoint().items():
        for piece in bfl_pieces(name, tensor.shape[0], WIDTH):
            ours.setdefault(piece.target, []).append(tensor[piece.first : piece.last])
    theirs = convert_flux_transformer_checkpoint_to_diffusers(bfl_checkpoint())
    assert set(ours) == set(theirs)
    for target, expected in theirs.items():
        assert torch.equal(torch.cat(ours[target]), expected), target
