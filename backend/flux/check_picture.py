"""Whether there is a picture in what the model made: numbers that ran over, and pictures of one colour, are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..wire import FailureError, FailureKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8] | NDArray[np.uint16]


def check_numbers(values: Tensor, where: str = "") -> None:
    """Raises `FailureError` (model_broken) unless all values are finite. where: for the sentence, as " in the VAE"."""
    if not torch.isfinite(values).all():
        raise FailureError.of(
            FailureKind.MODEL_BROKEN,
            f"The model's numbers ran over{where}, so there is no picture.",
            "Lower the strength of the controls; if that does not help, download the model again.",
        )


def check_not_blank(picture: Picture, original: Picture | None) -> None:
    """Raises `FailureError` (picture_blank) on a (height, width, 3) picture that is of one colour all over.

    original: the picture that it was made from, if any; where that is of one colour, so may this be.
    """
    if not is_flat(picture) or (original is not None and is_flat(original)):
        return
    colour = "all black" if picture[0, 0].max() == 0 else "in one flat colour"
    raise FailureError.of(
        FailureKind.PICTURE_BLANK,
        f"The picture came out {colour}: there is nothing in it.",
        "Try another seed and lower strengths of the controls; if it stays, download the model's VAE again.",
    )


def is_flat(picture: Picture) -> bool:
    """Whether every pixel of a (height, width, channels) picture is the same."""
    return bool((picture == picture[:1, :1]).all())
