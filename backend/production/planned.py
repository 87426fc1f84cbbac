"""The memory plan of each job, and what this process learned of plans that did not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..flux.placement import Placement
from ..models import ControlChoice, FoundLora, ModelFolder, check_family, choose_nets, find_loras
from ..models.sizes import model_sizes
from ..planning import Machine, MemoryPlan, ModelChoice, Work, make_plan, most_needs, step_down
from ..wire import GenerationRequest
from .choosing import model_for
from .enhancing import network_needs, networks_of
from .forecast import Expected
from .passes import passes_of
from .stage_times import Loaded, RunClass, StageTimes

STAGE_WORDS = {
    "loading": "while the model was loaded",
    "text": "while the prompt was read",
    "control": "while the controls were read",
    "denoising": "while it painted",
    "decoding": "while the picture was decoded",
    "enhancing": "while it was enhanced",
}
HOW = {
    "transformer": {"packed": "with its weights packed", "streamed": "with its weights streamed from main memory"},
    "encoders_leave": {True: "without the text encoders beside it"},
    "encoders_streamed": {True: "with the text encoder read block by block"},
    "eight_bit": {False: "in full and not in 8 bits"},
    "nets_leave": {True: "with each ControlNet only in its own steps"},
}


def plan_of_job(
    machine: Machine,
    request: GenerationRequest,
    folder: ModelFolder,
    choices: Sequence[ControlChoice],
    loras: Sequence[FoundLora],
    networks: Mapping[str, Path],
) -> MemoryPlan:
    """The plan for a Request on a model, from the files that are there. networks: what enhances it, by part."""
    lora_bytes = sum(found.path.stat().st_size for found in loras if found.lora.strength != 0.0)
    work = Work.of(request, folder, choices, lora_bytes)
    needs = most_needs(network_needs(part, path, machine.kind) for part, path in networks.items())
    return make_plan(machine, folder, model_sizes(folder), replace(work, network=needs))


def plan_request(
    request: GenerationRequest, models_folder: Path, device: str, machine: Machine, times: StageTimes
) -> tuple[ModelChoice, MemoryPlan]:
    """The model and the plan that the Request would be painted with on that machine, and nothing is loaded for it.

    times: what stages took here; under the device's name, as `Production` has it. Raises `FailureError`.
    """
    request.check()
    choice = model_for(request, models_folder, device, machine)
    folder, named = choice.folder, replace(request, model=choice.folder.name)
    passes = passes_of(named, frozenset(folder.joined))
    for one in passes:
        check_family(one.request, folder)
    kinds = [control.kind for control in named.controls]
    choices = choose_nets(kinds, folder.controlnets, folder.name, folder.joined)
    networks = networks_of(named, models_folder)
    plan = plan_of_job(machine, named, folder, choices, find_loras(named.loras, models_folder, folder.name), networks)
    expected = times.expected(RunClass.of(named, folder.name, device), passes, Loaded(False, False, 1))
    return choice, with_seconds(plan, expected)


class TooLarge:
    """The plans that ran out of memory in this process, so that the next picture alike does not try them again."""

    def __init__(self) -> None:
        self._stages: dict[tuple[str, Placement, Work], str] = {}

    def remember(self, plan: MemoryPlan, stage: str) -> None:
        self._stages[plan.title, plan.placement, plan.work] = stage

    def avoided(self, plan: MemoryPlan) -> MemoryPlan:
        """The plan, or the first rung below it that did not run out."""
        while stage := self._stages.get((plan.title, plan.placement, plan.work)):
            below = step_down(plan, stage)
            if below is None:
                break
            plan = replace(below, stepped_down=())
        return plan


def with_seconds(plan: MemoryPlan, expected: Sequence[Expected]) -> MemoryPlan:
    """The plan with what the stages are expected to take, where all of them are known."""
    seconds = [one.seconds for one in expected if one.seconds is not None]
    return replace(plan, seconds=sum(seconds) if len(seconds) == len(expected) else None)


def stepped_note(before: MemoryPlan, after: MemoryPlan, steps: int) -> str:
    """A sentence that says that memory ran out, and how it went on. steps: those that were painted by then."""
    was, now = before.placement, after.placement
    changes = [words[value] for name, words in HOW.items() if (value := getattr(now, name)) != getattr(was, name)]
    if now.vae_tile != was.vae_tile:
        changes.append(f"decoding in tiles of {now.vae_tile} pixels")
    changes = changes or ["without CUDA graphs"]
    where = f"after step {steps}" if steps else "from there"
    return f"Memory ran out {STAGE_WORDS[after.stepped_down[-1]]}; it went on {where} {', '.join(changes)}."
