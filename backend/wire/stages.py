"""Named ways to make one picture in several stages, and stages as scripts write them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from .failure import FailureError, FailureKind
from .request import Control, Stage, read_stages

ONE_PASS = "one"


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A stage for any Request. steps: a factor on the Request's. control: a factor on each control's strength."""

    scale: float
    steps: float
    strength: float
    control: float


STRUCTURE = StagePlan(0.5, 1.0, 1.0, 1.0)
"""Form is decided at half the size, where FLUX is at its surest and a step costs a fifth."""
DETAILS = StagePlan(1.0, 1.0, 0.55, 0.7)
POLISH = StagePlan(1.0, 0.75, 0.25, 0.4)
STAGE_PLANS: dict[str, tuple[StagePlan, ...]] = {
    ONE_PASS: (),
    "details": (STRUCTURE, DETAILS),
    "polish": (STRUCTURE, DETAILS, POLISH),
}


def planned_stages(name: str, steps: int, controls: tuple[Control, ...]) -> tuple[Stage, ...]:
    """The stages of a name in STAGE_PLANS, for a Request with these steps and controls."""
    return tuple(
        Stage(
            plan.scale,
            max(1, round(steps * plan.steps)),
            plan.strength,
            tuple(replace(control, strength=round(control.strength * plan.control, 4)) for control in controls),
        )
        for plan in STAGE_PLANS[name]
    )


def plan_of(stages: tuple[Stage, ...], steps: int, controls: tuple[Control, ...]) -> str | None:
    """The name of the plan that makes these stages, or None where none does."""
    names = (name for name in STAGE_PLANS if planned_stages(name, steps, controls) == stages)
    return next(names, None)


def parse_stages(text: str, steps: int, controls: tuple[Control, ...]) -> tuple[Stage, ...]:
    """Stages as scripts write them: a name in STAGE_PLANS, or a JSON list of `Stage`'s fields.

    Raises `FailureError` (bad_request).
    """
    if text in STAGE_PLANS:
        return planned_stages(text, steps, controls)
    try:
        data = json.loads(text)
    except ValueError as error:
        raise FailureError.of(
            FailureKind.BAD_REQUEST,
            f"There are no stages called {text!r}.",
            f"Use one of {', '.join(STAGE_PLANS)}, or a JSON list of stages.",
            str(error),
        ) from error
    return read_stages(data)
