"""What things are made of and what light falls on them, as values that a caption can name."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.random import Generator

HUES: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.035, 0.03),
    "orange": (0.92, 0.27, 0.02),
    "yellow": (0.93, 0.68, 0.04),
    "green": (0.06, 0.45, 0.07),
    "turquoise": (0.04, 0.55, 0.52),
    "blue": (0.03, 0.12, 0.75),
    "purple": (0.30, 0.04, 0.55),
    "pink": (0.95, 0.28, 0.50),
}
"""Linear light, 0..1: the eight colours that are told apart by hue."""
COLOURS: dict[str, tuple[float, float, float]] = {
    **HUES,
    "white": (0.85, 0.85, 0.83),
    "grey": (0.25, 0.25, 0.25),
    "black": (0.025, 0.025, 0.027),
    "brown": (0.26, 0.11, 0.045),
}
MATERIALS = ("matte", "glossy", "metal", "wood", "brick", "checker", "stripes", "marble")
GROUND_MATERIALS = ("matte", "glossy", "wood", "brick", "checker", "stripes", "marble")
LIGHTS = ("studio", "sunny", "sunset", "overcast", "night")
SIDES = ("left", "right")
BACKGROUNDS = ("sky", "wall", "plain")
"""Outdoors under the light's own sky; indoors before a wall; before one colour without end."""


@dataclass(frozen=True)
class Look:
    """One surface: a name in COLOURS, one in MATERIALS."""

    colour: str
    material: str


@dataclass(frozen=True)
class Appearance:
    """How one scene looks. second: the look of the other things, where they are not like the subject."""

    subject: Look
    ground: Look
    background: str
    background_colour: str
    light: str
    side: str
    second: Look | None = None


def random_look(rng: Generator, materials: tuple[str, ...] = MATERIALS) -> Look:
    """Hues more often than greys; matte and glossy more often than each pattern."""
    names = list(COLOURS)
    colour = str(rng.choice(list(HUES) if rng.random() < 0.72 else names))
    weights = [2.0 if name in ("matte", "glossy") else 1.0 for name in materials]
    total = sum(weights)
    material = str(rng.choice(materials, p=[weight / total for weight in weights]))
    if material == "wood" and rng.random() < 0.4:
        colour = "brown"
    if material == "brick" and rng.random() < 0.3:
        colour = "red"
    return Look(colour, material)


def random_appearance(rng: Generator, has_second: bool, background: str) -> Appearance:
    """background: the scene's, since a wall is geometry."""
    subject, second = random_look(rng), random_look(rng) if has_second else None
    ground = random_look(rng, GROUND_MATERIALS)
    if rng.random() < 0.35:
        ground = Look(str(rng.choice(("white", "grey", "brown", "green"))), ground.material)
    colour = str(rng.choice(list(COLOURS)))
    return Appearance(
        subject, ground, background, colour, str(rng.choice(LIGHTS)), str(rng.choice(SIDES)), second
    )  # fmt: skip
