"""What a plan has to know of a picture: everything that takes memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..models import ControlChoice, ModelFolder
from ..wire import GenerationRequest
from ..wire.request import SOURCES_OF
from ..wire.speeds import SPEEDS
from .networks import NetworkNeeds

TOKEN_SIDE = 16
"""Pixels of a FLUX token's side."""
DETAIL_SIDE_MIN, DETAIL_SIDE_MAX = 512, 1024
"""Pixels of a tile that detail is painted into, between which it has the size of the picture that was painted: FLUX,
which was trained on about a megapixel, sees as much at once as it saw then, and there is memory for it."""
DETAIL_STRETCH = 1.125
"""A tile may be so many times as long, where that makes fewer of them."""
NO_NETWORK = NetworkNeeds()
CALLS_A_STEP = {"heun": 2, "adaptive": 16}
"""How many noise levels a sampler declares for each step, where it is not one."""


@dataclass(frozen=True, slots=True)
class Work:
    """width, height: pixels. calls: noise levels that are prepared for. nets: folder of each control's net, in order.

    text_tokens: of the prompt. beside: tokens of a picture beside the noisy one. reads_picture: whether the VAE also
    encodes. lora_bytes: of the files. bits: of a channel. eight_bit: whether 8-bit products are asked for.
    network: the largest of those that enhance the picture.
    """

    width: int
    height: int
    calls: int = 20
    text_tokens: int = 512
    nets: tuple[Path, ...] = ()
    beside: int = 0
    reads_picture: bool = False
    has_reference: bool = False
    lora_bytes: int = 0
    bits: int = 8
    eight_bit: bool = False
    network: NetworkNeeds = NO_NETWORK

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def image_tokens(self) -> int:
        return self.pixels // (TOKEN_SIDE * TOKEN_SIDE)

    @property
    def tokens(self) -> int:
        """All that go through the transformer in one pass."""
        return self.image_tokens + self.beside + self.text_tokens

    @classmethod
    def of(
        cls, request: GenerationRequest, folder: ModelFolder, choices: Sequence[ControlChoice], lora_bytes: int = 0
    ) -> Work:
        """A Request on a model, with the nets that were chosen for its controls."""
        strengths = {control.kind: control.strength for control in request.controls}
        nets = tuple(one.net.folder for one in choices if one.net is not None and strengths[one.kind] > 0.0)
        sides = (TOKEN_SIDE * TOKEN_SIDE) if request.task == "edit" else 0
        has_joined = any(one.net is None for one in choices)
        steps = max(request.steps, *(stage.steps for stage in request.stages)) if request.stages else request.steps
        width, height = _most_at_once(request)
        return cls(
            width,
            height,
            steps * CALLS_A_STEP.get(request.sampler, 1) * (2 if request.true_cfg > 1.0 else 1),
            folder.max_text_tokens,
            nets,
            request.width * request.height // sides if sides else 0,
            bool(nets) or has_joined or request.task in SOURCES_OF or bool(request.stages) or request.has_detail,
            request.reference_strength > 0.0,
            lora_bytes,
            request.bit_depth,
            SPEEDS[request.speed].eight_bit,
        )


def detail_side(request: GenerationRequest) -> int:
    """Pixels on a side of a tile that detail is painted into."""
    if request.task == "enhance":
        return DETAIL_SIDE_MAX
    side = int(math.sqrt(request.width * request.height)) // TOKEN_SIDE * TOKEN_SIDE
    return min(DETAIL_SIDE_MAX, max(DETAIL_SIDE_MIN, side))


def _most_at_once(request: GenerationRequest) -> tuple[int, int]:
    """Width and height in pixels of the most that is painted at once: the picture, or a tile of detail."""
    if not request.has_detail:
        return request.width, request.height
    side = -(-int(detail_side(request) * DETAIL_STRETCH) // TOKEN_SIDE) * TOKEN_SIDE
    is_less = request.task != "enhance" and request.width * request.height >= side * side
    return (request.width, request.height) if is_less else (side, side)
