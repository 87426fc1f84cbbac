"""LoRAs as a Request names them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from .failure import FailureError, FailureKind

LORAS_MAX = 8
LORA_STRENGTH_MAX = 2.0
NAME_MAX = 100


@dataclass(frozen=True, slots=True)
class LoRA:
    """A file of small changes to a model's weights. name: the file's, without its ending, never a path.

    strength: what the changes are multiplied by, -2..2; at 0 the model is as it was without.
    """

    name: str
    strength: float = 1.0

    def check(self) -> None:
        """Raises `FailureError` (bad_request)."""
        if not is_lora_name(self.name):
            _bad(f"{self.name!r} is not the name of a LoRA.", "Give the file's name without its ending.")
        value = self.strength
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not -LORA_STRENGTH_MAX <= value <= LORA_STRENGTH_MAX:
            hint = f"Choose {-LORA_STRENGTH_MAX:g} to {LORA_STRENGTH_MAX:g}."
            _bad(f"The strength of the LoRA {self.name!r} is {value!r}.", hint)


def is_lora_name(name: object) -> bool:
    """Whether a name can stand for a file in a folder of LoRAs; brackets and the like are common in those."""
    if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX or name.startswith("."):
        return False
    return all(letter.isalnum() or letter in "-_. ()[]+&'@#!=~%" for letter in name)


def check_loras(loras: tuple[LoRA, ...]) -> None:
    """Raises `FailureError` (bad_request) on the first thing wrong."""
    for lora in loras:
        lora.check()
    names = [lora.name for lora in loras]
    if len(set(names)) != len(names):
        _bad("A LoRA is there twice.", "Keep it once, with the sum of the strengths.")
    if len(names) > LORAS_MAX:
        _bad(f"There are {len(names)} LoRAs.", f"Use {LORAS_MAX} at most.")


def read_loras(data: object) -> tuple[LoRA, ...]:
    """LoRAs from JSON; their values are checked with the Request. Raises `FailureError` (bad_request)."""
    if not isinstance(data, list):
        _bad("The field loras is not a list.", "Give a list of LoRAs.")
    found = []
    for item in data:
        if not isinstance(item, dict):
            _bad("A LoRA is not a table of fields.", "Send it as a JSON object.")
        if unknown := sorted(str(key) for key in item if key not in ("name", "strength")):
            _bad(f"Unknown field in a LoRA: {unknown[0]!r}.", "Update the side that sent it, or remove the field.")
        if "name" not in item:
            _bad("The field name is missing in a LoRA.", "Send it.")
        found.append(LoRA(**item))
    return tuple(found)


def _bad(message: str, hint: str) -> NoReturn:
    raise FailureError.of(FailureKind.BAD_REQUEST, message, hint)
