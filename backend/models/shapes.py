"""The shapes of FLUX's nets, from their config.json: how many weights and activations they have. No weight is read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIME_WIDTH = 256
"""Of the sines that a noise level and the guidance are told by."""


@dataclass(frozen=True, slots=True)
class NetShape:
    """A transformer's or a ControlNet's. width: of its tokens. double, single: how many blocks of each kind.

    channels, out_channels: of a token going in and coming out. text: of T5's states. pooled: of CLIP's summary.
    """

    width: int = 3072
    double: int = 19
    single: int = 38
    head: int = 128
    channels: int = 64
    out_channels: int = 64
    text: int = 4096
    pooled: int = 768
    has_guidance: bool = True

    @property
    def weights(self) -> int:
        """Of a transformer of this shape, biases and norms among them."""
        own = self.out_channels * (self.width + 1)
        return self._embedders + self.double * self.double_block + self.single * self.single_block + own + self._last

    @property
    def modulation(self) -> int:
        """Of those, what depends on the noise level and the prompt alone: adaLN's linear layers."""
        return self.modulation_outputs * (self.width + 1)

    @property
    def modulation_outputs(self) -> int:
        """Values that adaLN gives for each call of the net."""
        return self.width * (12 * self.double + 3 * self.single + 2)

    @property
    def double_block(self) -> int:
        """Weights: adaLN, attention with its outputs, and the two layers after it, for the picture and for the text."""
        wide = self.width * self.width
        return 36 * wide + 30 * self.width + 4 * self.head

    @property
    def single_block(self) -> int:
        wide = self.width * self.width
        return 15 * wide + 11 * self.width + 2 * self.head

    @property
    def products(self) -> int:
        """Weights of the blocks' linear layers, adaLN aside: those that may compute in 8 bits, a byte each."""
        return (24 * self.double + 12 * self.single) * self.width * self.width

    @property
    def largest_layer(self) -> int:
        """Weights of the largest linear layer: the one that ends a single block."""
        return 5 * self.width * self.width

    @property
    def outside_blocks(self) -> int:
        """Weights that belong to no block, adaLN's last layer aside."""
        return self._embedders + self.out_channels * (self.width + 1)

    @property
    def _last(self) -> int:
        return 2 * self.width * (self.width + 1)

    @property
    def _embedders(self) -> int:
        def two_layers(width: int) -> int:
            return self.width * (width + 1) + self.width * (self.width + 1)

        times = two_layers(TIME_WIDTH) * (2 if self.has_guidance else 1)
        return self.width * (self.channels + 1) + self.width * (self.text + 1) + times + two_layers(self.pooled)


@dataclass(frozen=True, slots=True)
class TextShape:
    """T5's encoder. heads, head: of its attention. inner: width of the layers between. width: of its tokens."""

    heads: int = 64
    inner: int = 10240
    head: int = 64
    width: int = 4096
    layers: int = 24
    words: int = 32128

    @property
    def weights(self) -> int:
        return self.layers * self.block + self.words * self.width + self.width

    @property
    def block(self) -> int:
        """Weights of one block, its table of distances aside."""
        return 4 * self.width * self.heads * self.head + 3 * self.width * self.inner + 2 * self.width


def net_shape(config: Path) -> NetShape | None:
    """From a transformer's or a ControlNet's config.json; None where it cannot be read, which loading will tell."""
    data = _read(config)
    try:
        heads, head = int(data["num_attention_heads"]), int(data["attention_head_dim"])
        channels = int(data["in_channels"])
        return NetShape(
            heads * head,
            int(data["num_layers"]),
            int(data["num_single_layers"]),
            head,
            channels,
            int(data.get("out_channels") or channels),
            int(data["joint_attention_dim"]),
            int(data["pooled_projection_dim"]),
            bool(data.get("guidance_embeds", False)),
        )
    except (KeyError, TypeError, ValueError):
        return None


def text_shape(config: Path) -> TextShape:
    """From T5's config.json; FLUX's own where it cannot be read."""
    data = _read(config)
    try:
        names = ("num_heads", "d_ff", "d_kv", "d_model", "num_layers", "vocab_size")
        return TextShape(*(int(data[name]) for name in names))
    except (KeyError, TypeError, ValueError):
        return TextShape()


def vae_channels(config: Path) -> tuple[int, ...]:
    """Of each level of a VAE, from the picture's size down; FLUX's own where its config.json cannot be read."""
    try:
        found = tuple(int(value) for value in _read(config)["block_out_channels"])
    except (KeyError, TypeError, ValueError):
        found = ()
    return found or (128, 256, 512, 512)


def _read(config: Path) -> dict[str, Any]:
    try:
        data = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
