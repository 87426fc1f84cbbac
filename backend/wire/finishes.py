"""Finishes: what may be done to a picture's pixels last, as data. What the numbers do is in `backend.enhance`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finish:
    """All off at 0.

    sharpen: how much of what a blur takes away is added, 0..2; sharpen_radius: that blur's standard deviation, in
    thousandths of the picture's shorter side. local_contrast: the same with a wide blur and of luminance alone, 0..1,
    held back in deep shadows and bright lights. balance: how far the colours' means and spreads go to those of the
    reference picture, 0..1; without one nothing. grain: standard deviation of the grain in the midtones, of the whole
    range, 0..0.1; grain_size: a grain's standard deviation in pixels.
    """

    title: str
    description: str
    sharpen: float = 0.0
    sharpen_radius: float = 0.8
    local_contrast: float = 0.0
    balance: float = 0.0
    grain: float = 0.0
    grain_size: float = 0.7


BY_STYLE = "style"
"""The finish that goes with the Request's style."""
FINISHES: dict[str, Finish] = {
    "crisp": Finish("Crisp", "Sharpened, with more contrast in small things", sharpen=0.6, local_contrast=0.15),
    "photo": Finish("Photo", "Lightly sharpened, with a trace of grain", sharpen=0.4, local_contrast=0.12, grain=0.012),
    "film": Finish(
        "Film",
        "The grain of film stock, and little sharpening",
        sharpen=0.15,
        local_contrast=0.1,
        grain=0.02,
        grain_size=1.0,
    ),
    "painting": Finish("Painting", "More contrast in small things: strokes stand out", local_contrast=0.2),
    "ink": Finish("Ink", "Sharp lines", sharpen=0.9, sharpen_radius=0.6),
    "match": Finish("Match Reference", "The colours go towards those of the reference picture", balance=0.6),
}
OF_STYLES: dict[str, str] = {
    "photoreal": "photo",
    "cinematic": "film",
    "product": "crisp",
    "exterior": "crisp",
    "interior": "photo",
    "noir": "film",
    "miniature": "photo",
    "oil_painting": "painting",
    "matte_painting": "painting",
    "ink": "ink",
    "comic": "ink",
    "blueprint": "ink",
    "cyberpunk": "film",
    "steampunk": "film",
    "sci_fi": "crisp",
}
"""By the Request's style. What is not here stays as it was painted: flat tones, pixels and soft paint want nothing."""


def finish_of(name: str, style: str) -> Finish | None:
    """The finish that a Request's enhancement names; None where nothing is done. style: the Request's."""
    return FINISHES.get(OF_STYLES.get(style, "") if name == BY_STYLE else name)
