"""LoRAs that paint in few steps: which there are, how they are recognised, and what they were made for, as data.

Each goes together with style LoRAs and controls. HYBRIDS are the same with 8-bit products; whether blocks are compiled
is the memory plan's to say, of these as of all pictures.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from .failure import FailureError, FailureKind
from .lora_files import FOLDER, lora_metadata, lora_names, lora_path
from .loras import LoRA, check_loras
from .request import GenerationRequest


@dataclass(frozen=True, slots=True)
class FewSteps:
    """A published LoRA and its makers' settings. names: what its file, or what that says of itself, is called."""

    title: str
    repository: str
    names: str
    strength: float
    steps: int
    guidance: float = 3.5
    sampler: str = "euler"
    schedule: str = "simple"


FEW_STEPS = {
    "turbo-alpha": FewSteps("Turbo-Alpha", "alimama-creative/FLUX.1-Turbo-Alpha", r"turbo[-_. ]?alpha", 1.0, 8),
    "hyper-8": FewSteps("Hyper, 8 steps", "ByteDance/Hyper-SD", r"hyper.*(?<!\d)8[-_. ]?steps?", 0.125, 8),
    "hyper-16": FewSteps("Hyper, 16 steps", "ByteDance/Hyper-SD", r"hyper.*(?<!\d)16[-_. ]?steps?", 0.125, 16),
}
HYBRIDS = {f"{name}-8bit": name for name in FEW_STEPS}
"""A few-step LoRA and 8-bit products under one name -> the LoRA's."""
HYBRID_SPEED = "eight_bit"
PRESETS = (*FEW_STEPS, *HYBRIDS)
"""The names that a script can give in place of a file's."""
TITLES = ("modelspec.title", "ss_output_name", "title", "name")
"""Where a file says what it is called."""


def few_steps_of(name: str, metadata: Mapping[str, str] | None = None) -> str:
    """Which of FEW_STEPS a LoRA is, by its file's name, else by what the file says of itself; "" where it is none."""
    told = [metadata[title] for title in TITLES if title in metadata] if metadata else []
    for words in (name, *told):
        for key, few in FEW_STEPS.items():
            if re.search(few.names, words.lower()):
                return key
    return ""


def find_few_steps(name: str, models_folder: Path, model: str) -> tuple[str, str]:
    """What a script names, one of PRESETS or a file that is a few-step LoRA -> the LoRA's name, and which of PRESETS.

    model: the one that paints, "" where it is not chosen yet. Raises `FailureError`: model_missing for a preset whose
    file is not there, bad_request for anything else that is no LoRA for few steps.
    """
    if name in PRESETS:
        wanted = HYBRIDS.get(name, name)
        for lora in lora_names(models_folder, model):
            if file_kind(lora, models_folder, model) == wanted:
                return lora, name
        few = FEW_STEPS[wanted]
        raise FailureError.of(
            FailureKind.MODEL_MISSING,
            f"The LoRA {few.title} is not there.",
            f"Get it from {few.repository} and put its file into a folder {FOLDER} in the models folder.",
        )
    LoRA(name).check()
    if kind := file_kind(name, models_folder, model):
        return name, kind
    raise FailureError.of(
        FailureKind.BAD_REQUEST,
        f"{name!r} is not known as a LoRA that paints in few steps.",
        f"Use {', '.join(PRESETS)}; or name it as a LoRA, with steps and guidance of your own.",
    )


def file_kind(name: str, models_folder: Path, model: str) -> str:
    """Which of FEW_STEPS the LoRA of that name is, by its file, where that is there; "" where it is none."""
    path = lora_path(models_folder, model, name)
    return few_steps_of(name, lora_metadata(path) if path is not None else None)


def usual_strength(name: str) -> float:
    """What the makers of the LoRA of that name recommend, 1 where nothing is known."""
    kind = few_steps_of(name)
    return FEW_STEPS[kind].strength if kind else 1.0


def parse_loras(text: str) -> tuple[LoRA, ...]:
    """LoRAs as written in scripts: "woodcut:0.8,ink". "none" or nothing for no LoRAs.

    A strength that is not written is the one that its makers recommend, where they are known, else 1. Raises
    `FailureError` (bad_request).
    """
    found = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        if item.lower() == "none":
            continue
        name, colon, strength = item.partition(":")
        try:
            value = float(strength) if colon else usual_strength(name.strip())
        except ValueError:
            message = f"The strength of the LoRA {name!r} is {strength!r}."
            raise FailureError.of(FailureKind.BAD_REQUEST, message, "Write it as a number: woodcut:0.8.") from None
        found.append(LoRA(name.strip(), value))
    check_loras(tuple(found))
    return tuple(found)


def with_few_steps(request: GenerationRequest, lora: str, kind: str = "") -> GenerationRequest:
    """The Request with a few-step LoRA before its style LoRAs, and with the settings that this one was made for.

    It takes the place of another few-step LoRA.

    lora: its name. kind: of FEW_STEPS or HYBRIDS, where the name does not tell. Raises `KeyError` where neither does.
    """
    few = FEW_STEPS[HYBRIDS.get(kind, kind) or few_steps_of(lora)]
    others = tuple(one for one in request.loras if one.name != lora and not few_steps_of(one.name))
    return replace(
        request,
        steps=few.steps,
        guidance=few.guidance,
        sampler=few.sampler,
        schedule=few.schedule,
        loras=(LoRA(lora, few.strength), *others),
        speed=HYBRID_SPEED if kind in HYBRIDS else request.speed,
    )
