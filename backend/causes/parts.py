"""Parts that do not go together: of another device, another number format or another model; or that are not there."""

from __future__ import annotations

from ..wire import Failure, FailureKind
from ..wire.request import spoken
from .case import Case, painted, smaller

DEVICE_WORDS = (
    r"expected all tensors to be on the same device",
    r"tensor on device (\S+) is not on the expected device (\S+?)!",
    r"cannot copy out of meta tensor",
    r"weight is on (\w+)\S* but expected on (\w+)",
    r"input type \((?:torch\.)?(cuda|mps)\S*\) and weight type \((?:torch\.)?(?!\1)",
    r"expected an? '?(\w+)'? device type for generator but found '?(\w+)",
)
NUMBER_WORDS = (
    r"(?:must|expected|to) .*have the same dtype",
    r"expected scalar type (\w+) but found (\w+)",
    r"mixed dtype",
    r"one of the following scalar types",
    r"input type \(.*\) and (?:bias|weight) type \(.*\) should be the same",
    r"not implemented for '(\w+)'",
    r"expected .* to have dtype",
)
SHAPE_WORDS = (
    r"shapes cannot be multiplied",
    r"must match the (?:size|existing size) ?of tensor",
    r"must match the existing size",
    r"size mismatch",
    r"error\(s\) in loading state_dict",
    r"expected input\[.*\] to have \d+ channels",
    r"expected input with shape",
    r"sizes of tensors must match",
)
KILLED = -9, 137
"""The exit codes of a process that was killed, as Python and as a shell give them."""


def other_device(case: Case) -> Failure | None:
    found = case.says(*DEVICE_WORDS)
    if found is None:
        return None
    return case.failure(
        FailureKind.INTERNAL,
        "A part of the model lies on another device than the rest of it.",
        "Restart the backend and generate again; if it stays, report it with the text under Details.",
    )


def other_number_format(case: Case) -> Failure | None:
    if case.says(*NUMBER_WORDS) is None:
        return None
    return case.failure(
        FailureKind.INTERNAL,
        "Two parts of the model compute in different number formats.",
        "Choose another file of the model or the device Automatic; if it stays, report it with the text under Details.",
    )


def other_shape(case: Case) -> Failure | None:
    """Layers that do not fit: most often a ControlNet or a LoRA that was made for another model."""
    if case.says(*SHAPE_WORDS) is None:
        return None
    request = case.request
    model = f"the model {request.model!r}" if request is not None else "the model"
    if case.passed_through("lora"):
        message, hint = f"A LoRA does not fit {model}: it was made for another one.", "Take the LoRA away"
    elif request is not None and request.controls and case.passed_through("controlnet", "controls.py"):
        kinds = " or ".join(spoken(control.kind) for control in request.controls)
        message = f"The ControlNet for {kinds} does not fit {model}: it was made for another family of models."
        hint = f"Switch the {kinds} control off"
    else:
        message = f"A part of {model} does not fit the rest: its layers have other sizes."
        hint = "Download the model again"
    return case.failure(FailureKind.MODEL_UNSUPPORTED, message, f"{hint}, or choose another model.")


def killed(case: Case) -> Failure | None:
    """A process of ours that the system, or someone, has killed."""
    code = getattr(case.error, "returncode", None)
    if code not in KILLED and not case.is_a("BrokenProcessPool"):
        return None
    return case.failure(FailureKind.BACKEND_DIED, *killed_words(case))


def killed_words(case: Case) -> tuple[str, str]:
    """The message and the hint for a process that was killed on the way to a picture."""
    return (
        f"The process was killed on the way to {painted(case.request)}; running out of memory is the usual reason.",
        f"{smaller(case.request)}, or close other programs.",
    )


def not_installed(case: Case) -> Failure | None:
    if not isinstance(case.error, ImportError):
        return None
    name = f" {case.error.name}" if case.error.name else ""
    return case.failure(
        FailureKind.BACKEND_NOT_FOUND,
        f"The backend's Python cannot use its library{name}.",
        "Set the backend up again, or choose its Python in the preferences.",
    )
