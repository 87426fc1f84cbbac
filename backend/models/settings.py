"""What is known to work, as data: variants of FLUX.1, settings by number format, ControlNets by what they were taught.

Figures are the makers' recommendations; those marked `is_guess` are taken from examples, not from a model card.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..wire.few_steps import FEW_STEPS

NON_COMMERCIAL = "FLUX.1 [dev] Non-Commercial License"
APACHE = "Apache-2.0"
TEXT = ("text_encoder", "text_encoder_2", "vae")
"""What every variant needs beside its transformer."""


FROM_NOISE_OR_PICTURE = ("text_to_image", "image_to_image", "inpaint")


@dataclass(frozen=True, slots=True)
class ModelVariant:
    """One of FLUX.1's models. steps, guidance: its defaults. control: how a condition comes in, "" where none does.

    control: a kind of map, joined to the tokens; or "mask", joined with what is around it; or "picture", as tokens of
    its own; or "reference", as more words. in_channels: of its transformer's tokens; above 64 the condition is joined
    to them. gigabytes: of the transformer in bf16. needs: other parts. tasks: what it was taught. recipe: how the map
    of a control that is joined is drawn.
    """

    repository: str
    steps: int
    guidance: float
    licence: str
    control: str = ""
    in_channels: int = 64
    has_guidance: bool = True
    gigabytes: float = 23.8
    needs: tuple[str, ...] = TEXT
    tasks: tuple[str, ...] = FROM_NOISE_OR_PICTURE
    recipe: str = ""


MODEL_VARIANTS = {
    "dev": ModelVariant("black-forest-labs/FLUX.1-dev", 28, 3.5, NON_COMMERCIAL),
    "schnell": ModelVariant("black-forest-labs/FLUX.1-schnell", 4, 0.0, APACHE, has_guidance=False),
    "krea-dev": ModelVariant("black-forest-labs/FLUX.1-Krea-dev", 28, 4.5, NON_COMMERCIAL),
    "depth-dev": ModelVariant(
        "black-forest-labs/FLUX.1-Depth-dev", 30, 10.0, NON_COMMERCIAL, "depth", 128, recipe="depth_near_white"
    ),
    "canny-dev": ModelVariant(
        "black-forest-labs/FLUX.1-Canny-dev", 50, 30.0, NON_COMMERCIAL, "canny", 128, recipe="canny_white_on_black"
    ),
    "fill-dev": ModelVariant(
        "black-forest-labs/FLUX.1-Fill-dev", 50, 30.0, NON_COMMERCIAL, "mask", 384, tasks=("inpaint",)
    ),
    "kontext-dev": ModelVariant(
        "black-forest-labs/FLUX.1-Kontext-dev", 28, 2.5, NON_COMMERCIAL, "picture", tasks=("text_to_image", "edit")
    ),
    "redux-dev": ModelVariant(
        "black-forest-labs/FLUX.1-Redux-dev", 28, 3.5, NON_COMMERCIAL, "reference", gigabytes=0.13,
        needs=("transformer", *TEXT, "image_encoder"),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PipelineSetting:
    """Steps and guidance that suit a number format or a few-step LoRA. lora_scale: 0 where there is no LoRA."""

    steps: int
    guidance: float = 3.5
    lora_scale: float = 0.0


PIPELINE_SETTINGS = {
    "Q8_0": PipelineSetting(15),
    "Q6_K": PipelineSetting(20),
    "full": PipelineSetting(28),
    **{name: PipelineSetting(few.steps, few.guidance, few.strength) for name, few in FEW_STEPS.items()},
}


@dataclass(frozen=True, slots=True)
class ControlNetFamily:
    """A published ControlNet for FLUX.1-dev. modes: kind -> union mode, None for a net that has no modes.

    strength, end: recommended, by kind where they differ. gigabytes: in bf16, 0 where not known. takes_pixels: it has
    a hint block of its own in place of the VAE.
    """

    repository: str
    modes: dict[str, int | None]
    strength: dict[str, float] | float
    end: dict[str, float] | float
    gigabytes: float
    takes_pixels: bool = False
    is_guess: bool = False


_UNION_MODES: dict[str, int | None] = {
    "canny": 0, "tile": 1, "depth": 2, "blur": 3, "pose": 4, "grey": 5,
}  # fmt: skip
CONTROLNETS = {
    "union-pro-2": ControlNetFamily(
        "Shakker-Labs/FLUX.1-dev-ControlNet-Union-Pro-2.0",
        dict.fromkeys(("canny", "soft_edge", "depth", "pose", "grey")),
        {"canny": 0.7, "soft_edge": 0.7, "depth": 0.8, "pose": 0.9, "grey": 0.9},
        {"canny": 0.8, "soft_edge": 0.8, "depth": 0.8, "pose": 0.65, "grey": 0.8},
        4.28,
    ),
    "union-pro": ControlNetFamily("Shakker-Labs/FLUX.1-dev-ControlNet-Union-Pro", _UNION_MODES, 0.5, 1.0, 6.6),
    "instantx-union": ControlNetFamily("InstantX/FLUX.1-dev-Controlnet-Union", _UNION_MODES, 0.5, 1.0, 6.6),
    "instantx-canny": ControlNetFamily(
        "InstantX/FLUX.1-dev-Controlnet-Canny", {"canny": None}, 0.6, 1.0, 3.58, is_guess=True
    ),
    "jasper-depth": ControlNetFamily(
        "jasperai/Flux.1-dev-Controlnet-Depth", {"depth": None}, 0.6, 1.0, 3.58, is_guess=True
    ),
    "jasper-normal": ControlNetFamily(
        "jasperai/Flux.1-dev-Controlnet-Surface-Normals", {"normal": None}, 0.6, 1.0, 3.58, is_guess=True
    ),
    "jasper-upscaler": ControlNetFamily(
        "jasperai/Flux.1-dev-Controlnet-Upscaler", {"tile": None}, 0.6, 1.0, 3.58, is_guess=True
    ),
    "shakker-depth": ControlNetFamily("Shakker-Labs/FLUX.1-dev-ControlNet-Depth", {"depth": None}, 0.5, 1.0, 3.19),
    "shakker-pose": ControlNetFamily(
        "Shakker-Labs/FLUX.1-dev-ControlNet-Pose", {"pose": None}, 0.7, 1.0, 0.0, is_guess=True
    ),
    "promeai-line": ControlNetFamily(
        "promeai/FLUX.1-controlnet-lineart-promeai", {"line": None}, 0.6, 1.0, 0.0, is_guess=True
    ),
    "xlabs-canny": ControlNetFamily(
        "XLabs-AI/flux-controlnet-canny-diffusers", {"canny": None}, 0.7, 1.0, 1.49, takes_pixels=True, is_guess=True
    ),
    "xlabs-depth": ControlNetFamily(
        "XLabs-AI/flux-controlnet-depth-diffusers", {"depth": None}, 0.7, 1.0, 1.49, takes_pixels=True, is_guess=True
    ),
    "xlabs-soft-edge": ControlNetFamily(
        "XLabs-AI/flux-controlnet-hed-diffusers", {"soft_edge": None}, 0.7, 1.0, 1.49, takes_pixels=True, is_guess=True
    ),
}


def nets_for(kind: str) -> list[str]:
    """The repositories of the nets that know a control, the recommended one first."""
    return [family.repository for family in CONTROLNETS.values() if kind in family.modes]


@dataclass(frozen=True, slots=True)
class SamplingPair:
    """A sampler with a schedule that suits it. steps: from the fewest to the most that are worth their time.

    calls: passes of the model for a step. purpose: what it is good for, in a few words.
    """

    sampler: str
    schedule: str
    steps: tuple[int, int]
    purpose: str
    calls: int = 1
    is_guess: bool = False


RECOMMENDED_SAMPLING = (
    SamplingPair("euler", "simple", (20, 30), "what FLUX's makers use"),
    SamplingPair("unipc", "simple", (8, 15), "few steps"),
    SamplingPair("dpmpp_2m", "simple", (10, 20), "few steps"),
    SamplingPair("dpmpp_2m", "beta", (20, 30), "form and fine detail", is_guess=True),
    SamplingPair("unipc", "karras", (15, 25), "fine detail", is_guess=True),
    SamplingPair("heun", "simple", (8, 14), "few steps, each of them exact", calls=2),
    SamplingPair("lcm", "simple", (4, 8), "few-step models and LoRAs", is_guess=True),
    SamplingPair("euler_ancestral", "beta", (20, 40), "variety: it never settles", is_guess=True),
    SamplingPair("adaptive", "simple", (12, 40), "no more steps than the picture needs"),
)
"""Samplers and schedules that go together, the first the default. Any may be combined with any."""
