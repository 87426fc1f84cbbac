"""FLUX.1-Redux: a reference picture as words that come after the prompt's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from PIL import Image
from torch import Tensor
from transformers import SiglipVisionModel

from ..wire import FailureError, FailureKind
from .load_parts import load_part

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class Redux:
    """encoder: SigLIP, picture -> patches. words: patches -> what T5's states for words look like."""

    encoder: SiglipVisionModel
    words: ReduxImageEncoder

    def read(self, picture: NDArray[np.uint8]) -> Tensor:
        """(rows, columns, 3) uint8 of any size -> (1, patches, T5 width): 729 patches in FLUX.1-Redux.

        The whole picture is squeezed into SigLIP's square, as in its own image processor (bicubic, -1..1).
        """
        config: Any = self.encoder.config
        side = int(config.image_size)
        square = Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)
        values = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() / 127.5 - 1.0
        patches = self.encoder(pixel_values=values.to(self.encoder.device, self.encoder.dtype)).last_hidden_state
        return self.words(patches).image_embeds


def load_redux(folders: tuple[Path, Path], text_width: int, device: torch.device, dtype: torch.dtype) -> Redux:
    """folders: of the image encoder and of Redux itself. text_width: of the T5 states that it joins.

    Raises `FailureError`, also where the parts do not belong together.
    """
    encoder = load_part(SiglipVisionModel, folders[0], device, dtype)
    words = load_part(ReduxImageEncoder, folders[1], device, dtype)
    wanted = (encoder.config.hidden_size, text_width)
    found = (words.config["redux_dim"], words.config["txt_in_features"])
    if found != wanted:
        raise FailureError.of(
            FailureKind.MODEL_UNSUPPORTED,
            f"Redux in {folders[1].name} turns widths of {found[0]} into {found[1]}, where this model has"
            f" {wanted[0]} and {wanted[1]}.",
            "Take image_encoder and redux from FLUX.1-Redux-dev, for a model of FLUX.1.",
            str(folders[1]),
        )
    return Redux(encoder, words)


def with_reference(text: Tensor, reference: Tensor, strength: float) -> Tensor:
    """The prompt's words and strength x the reference's: (1, words, width) and (1, patches, width), joined."""
    return torch.cat((text, strength * reference.to(text)), dim=1)
