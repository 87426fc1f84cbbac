"""How large the benchmark's model is: FLUX.1-dev's own shape, and a tiny one that a CPU runs in moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FLUX: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 64,
    "out_channels": None,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
    "axes_dims_rope": [16, 56, 56],
}
"""FLUX.1-dev's transformer: 11.9 billion weights."""
SMALL = {
    **FLUX, "num_layers": 2, "num_single_layers": 2, "attention_head_dim": 64, "num_attention_heads": 4,
    "joint_attention_dim": 256, "pooled_projection_dim": 256, "axes_dims_rope": [8, 28, 28],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class BenchSize:
    """sides: of the square pictures in pixels: the main one, a smaller, a larger. steps: of the denoise loop.

    transformer: FluxTransformer2DModel's arguments. net_blocks: the ControlNet's double blocks. The encoders' and the
    VAE's shapes: t5_inner, t5_layers, t5_heads; clip_inner, clip_layers, clip_heads; vae_widths. compiler: the backend
    of torch.compile.
    """

    name: str
    transformer: dict[str, Any]
    net_blocks: int
    sides: tuple[int, int, int]
    steps: int
    text_tokens: int
    t5: tuple[int, int, int]
    clip: tuple[int, int, int]
    vae_widths: tuple[int, int, int, int]
    vae_layers: int
    compiler: str

    @property
    def width(self) -> int:
        """Of the transformer."""
        return self.transformer["num_attention_heads"] * self.transformer["attention_head_dim"]

    @property
    def controlnet(self) -> dict[str, Any]:
        """FluxControlNetModel's arguments: as Union-Pro-2.0, without modes and without single blocks."""
        shape = {name: value for name, value in self.transformer.items() if name != "out_channels"}
        return {**shape, "num_layers": self.net_blocks, "num_single_layers": 0, "num_mode": None}

    def tokens(self, side: int) -> int:
        """Image tokens of a square picture of so many pixels a side."""
        return (side // 16) ** 2


SIZES = {
    "real": BenchSize(
        "real", FLUX, 6, (1024, 512, 1536), 28, 512, (10240, 24, 64), (3072, 12, 12), (128, 256, 512, 512), 2,
        "inductor",
    ),
    "tiny": BenchSize(
        "tiny", SMALL, 1, (128, 64, 192), 6, 32, (256, 1, 2), (128, 1, 2), (8, 16, 32, 32), 1, "eager",
    ),
}  # fmt: skip
