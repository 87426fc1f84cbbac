"""What decides the pixels of a picture, and nothing else."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from .enhancement import PICTURE_PIXELS_MAX, SIDE_MAX, Enhancement, check_larger, read_enhancement
from .failure import FailureError, FailureKind
from .finishes import finish_of
from .loras import LoRA, check_loras, read_loras
from .speeds import EXACT, SPEEDS
from .styles import STYLES

CONTROL_KINDS = ("depth", "normal", "line", "pose", "canny", "soft_edge", "grey", "tile", "blur")
CONTROLS_MAX = 4
TASKS = ("text_to_image", "image_to_image", "inpaint", "edit", "enhance", "show_controls", "show_prompt")
PICTURELESS = ("show_controls", "show_prompt")
"""Tasks whose Result has no picture."""
SOURCES_OF = {
    "image_to_image": ("image",),
    "inpaint": ("image", "mask"),
    "edit": ("image",),
    "enhance": ("picture",),
}
"""What a task starts from, of `ControlMaps`, where it does not start from noise alone."""
SAMPLERS = ("euler", "heun", "dpmpp_2m", "unipc", "lcm", "euler_ancestral", "adaptive")
SCHEDULES = ("simple", "beta", "karras", "exponential")
SIZE_MULTIPLE = 16
"""One FLUX token covers 16 x 16 pixels: 8 in the VAE, 2 in the transformer's patches."""
SIZE_MIN = 64
SIZE_MAX = 4096
PIXELS_MAX = 2048 * 2048
STEPS_MAX = 200
TRUE_CFG_MAX = 20.0
STRENGTH_MIN = 0.01
STAGES_MAX = 8
STAGE_SCALE_MIN = 0.25
REFERENCE_STRENGTH_MAX = 2.0
SEED_MAX = 2**32 - 1
BIT_DEPTHS = (8, 16)
PROMPT_MAX = 10_000


def snap_size(width: int, height: int) -> tuple[int, int]:
    """The nearest size in pixels that FLUX can make: both sides multiples of 16 within 64..4096.

    A size of more than 2048 x 2048 pixels in all is scaled down, keeping its aspect.
    """
    shrink = min(1.0, math.sqrt(PIXELS_MAX / max(1, width * height)))
    sides: list[int] = []
    for side in (width, height):
        wanted = side * shrink
        snapped = round(wanted / SIZE_MULTIPLE) if shrink == 1.0 else int(wanted // SIZE_MULTIPLE)
        sides.append(min(SIZE_MAX, max(SIZE_MIN, snapped * SIZE_MULTIPLE)))
    while sides[0] * sides[1] > PIXELS_MAX:
        sides[sides.index(max(sides))] -= SIZE_MULTIPLE
    return sides[0], sides[1]


def spoken(kind: str) -> str:
    """A control's kind as it is written in a sentence."""
    return kind.replace("_", " ")


@dataclass(frozen=True, slots=True)
class Control:
    """One ControlNet input: its map's kind, its weight (0..2), and the window of the steps (0..1) it acts in."""

    kind: str
    strength: float = 0.7
    start: float = 0.0
    end: float = 1.0

    def check(self) -> None:
        if self.kind not in CONTROL_KINDS:
            raise _bad(f"There is no control called {self.kind!r}.", f"Use one of {', '.join(CONTROL_KINDS)}.")
        name = f"{spoken(self.kind)} control"
        _check_number(f"the {name}'s strength", self.strength, 0.0, 2.0)
        _check_number(f"the {name}'s start", self.start, 0.0, 1.0)
        _check_number(f"the {name}'s end", self.end, 0.0, 1.0)
        if self.start >= self.end:
            raise _bad(f"The {name} ends before it starts.", "Set its end above its start.")


@dataclass(frozen=True, slots=True)
class Stage:
    """One pass over the picture. The first starts as the Request's task says, each other from the picture so far.

    scale: of the Request's size, 0.25..1; the sides are rounded to multiples of 16. strength: how far to go from the
    picture so far, above 0 to 1; the first stage has the Request's. controls: kinds of the Request's with weights and
    windows of their own; None for the Request's as they are.
    """

    scale: float = 1.0
    steps: int = 20
    strength: float = 0.5
    controls: tuple[Control, ...] | None = None

    def check(self, name: str, kinds: list[str]) -> None:
        """name: such as "stage 2". kinds: of the Request's controls, whose maps there are."""
        _check_number(f"the scale of {name}", self.scale, STAGE_SCALE_MIN, 1.0)
        if type(self.steps) is not int:
            raise _bad(f"The steps of {name} are not a whole number.", "Give them as an integer.")
        _check_number(f"the number of steps of {name}", self.steps, 1, STEPS_MAX)
        _check_number(f"the strength of {name}", self.strength, STRENGTH_MIN, 1.0)
        if self.controls is not None:
            _check_controls(self.controls)
            for control in self.controls:
                if control.kind not in kinds:
                    kind = spoken(control.kind)
                    hint = f"Add {kind} to the Request's controls, or take it out of the stage."
                    raise _bad(f"{name.capitalize()} has a {kind} control that the Request has not.", hint)


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Everything that decides the pixels. Two equal Requests with equal maps make equal pictures.

    prompt: up to 10,000 characters, not empty. width, height: pixels, multiples of 16 within 64..4096, 2048 x 2048 in
    all at most. seed: 0..2**32 - 1. steps: 1..200. guidance: FLUX's distilled guidance (not CFG), 0..100. task: one of
    TASKS; sampler, schedule: of SAMPLERS and SCHEDULES. controls: four at most, one of a kind.
    true_cfg: how far to go from the picture of negative_prompt to that of prompt, 1..20; above 1 each step takes two
    passes, and at 1 there is no negative prompt. strength: how far image_to_image and inpaint go from the picture they
    start from, above 0 to 1; 1 forgets it. stages: passes over the picture, instead of the one that `steps` says; the
    last has the Request's size.
    edit: the prompt says what to change in the picture. reference_strength: what the words of a reference picture are
    multiplied by, 0..2; at 0 there is none.
    model: a name from the catalogue or a folder in the models folder, never a path; "" for the best for this Request on
    this machine, which the Result then names. loras: changes to the model's weights, added up.
    style: a name in `wire.styles.STYLES` whose words are added to the prompt, "" for none. enhance: whether what the
    prompt says nothing of (light, quality) is added, too. What came of them is in the Result's plan; the task
    show_prompt tells it before anything is painted. In prompts (word:1.2) weighs, {a|b} is one of the two by the seed.
    bit_depth: of the picture's channels, 8 or 16. speed: a name in `wire.speeds.SPEEDS`; "exact" leaves nothing out.
    enhancement: what is done to the picture once it is painted; it then has that size. The task enhance does it to a
    picture that is there: width and height are that one's, of any size, and there is neither prompt nor model, unless
    detail is painted into it.
    """

    prompt: str
    width: int = 1024
    height: int = 1024
    seed: int = 0
    steps: int = 20
    guidance: float = 3.5
    task: str = "text_to_image"
    model: str = ""
    sampler: str = "euler"
    schedule: str = "simple"
    negative_prompt: str = ""
    true_cfg: float = 1.0
    strength: float = 1.0
    controls: tuple[Control, ...] = ()
    stages: tuple[Stage, ...] = ()
    reference_strength: float = 0.0
    style: str = ""
    enhance: bool = False
    loras: tuple[LoRA, ...] = ()
    bit_depth: int = 8
    speed: str = EXACT
    enhancement: Enhancement | None = None

    def check(self) -> None:
        """Raises `FailureError` (bad_request), with one sentence and the next step, on the first thing wrong."""
        self._check_types()
        if self.task not in TASKS:
            raise _bad(f"There is no task called {self.task!r}.", f"Use one of {', '.join(TASKS)}.")
        self._check_prompt()
        for name, text in (("prompt", self.prompt), ("negative prompt", self.negative_prompt)):
            if len(text) > PROMPT_MAX:
                raise _bad(f"The {name} has {len(text):,} characters.", f"Keep it under {PROMPT_MAX:,}.")
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise _bad(f"The {name} holds a half of a character.", "Write it again, without what was cut.")
        self._check_enhancement()
        _check_number("the seed", self.seed, 0, SEED_MAX)
        _check_number("the number of steps", self.steps, 1, STEPS_MAX)
        _check_number("guidance", self.guidance, 0.0, 100.0)
        _check_number("strength", self.strength, STRENGTH_MIN, 1.0)
        if self.strength < 1.0 and self.task == "text_to_image":
            raise _bad("A strength below 1 needs a picture to start from.", "Choose one, or set strength to 1.")
        if self.strength < 1.0 and self.task == "edit":
            raise _bad("An edit by instruction has no strength.", "Set strength to 1; say in the prompt what to keep.")
        _check_number("the reference's strength", self.reference_strength, 0.0, REFERENCE_STRENGTH_MAX)
        _check_number("true CFG", self.true_cfg, 1.0, TRUE_CFG_MAX)
        if self.negative_prompt.strip() and self.true_cfg == 1.0:
            raise _bad("At a true CFG of 1 the negative prompt does nothing.", "Raise true CFG to about 2.")
        if self.true_cfg > 1.0 and not self.negative_prompt.strip():
            raise _bad("True CFG is above 1 without a negative prompt.", "Say what the picture should not show.")
        self._check_names()
        _check_controls(self.controls)
        check_loras(self.loras)
        self._check_stages()

    def _check_prompt(self) -> None:
        if self.prompt.strip() or self.task == "show_controls":
            return
        if self.task != "enhance":
            raise _bad("The prompt is empty.", "Describe the picture in a few words.")
        if isinstance(self.enhancement, Enhancement) and self.enhancement.detail:
            raise _bad(
                "Detail is painted from words, and the prompt is empty.", "Describe the picture, or set detail to 0."
            )

    @property
    def is_painted(self) -> bool:
        """Whether a model of FLUX has a part in it."""
        return self.task != "enhance" or self.has_detail

    @property
    def has_detail(self) -> bool:
        """Whether detail is painted into the picture while it is enhanced."""
        return self.enhancement is not None and self.enhancement.detail > 0.0

    def _check_enhancement(self) -> None:
        """That what is to be done to the picture can be done, and the picture's size."""
        if self.task != "enhance":
            check_size(self.width, self.height)
        elif not 1 <= min(self.width, self.height) <= max(self.width, self.height) <= SIDE_MAX or (
            self.width * self.height > PICTURE_PIXELS_MAX
        ):
            raise _bad(f"A picture of {self.width} x {self.height} pixels is too large.", "Choose a smaller one.")
        if self.enhancement is not None:
            self.enhancement.check()
            check_larger(self.width, self.height, self.enhancement)
        if self.task == "enhance" and (self.enhancement is None or self.enhancement.does_nothing):
            raise _bad("Nothing is to be done to the picture.", "Choose a scale, faces or a finish.")

    def _check_stages(self) -> None:
        if len(self.stages) > STAGES_MAX:
            raise _bad(f"There are {len(self.stages)} stages.", f"Use {STAGES_MAX} at most.")
        if self.stages and self.task in ("edit", "enhance"):
            raise _bad(f"The task {self.task} is done in one pass.", "Take the stages away, or choose another task.")
        kinds = [control.kind for control in self.controls]
        for number, stage in enumerate(self.stages, 1):
            stage.check(f"stage {number}", kinds)
        if self.stages and self.stages[-1].scale != 1.0:
            raise _bad("The last stage does not have the picture's size.", "Set its scale to 1.")

    def _check_types(self) -> None:
        for name in ("prompt", "negative_prompt", "task", "model", "sampler", "schedule", "style", "speed"):
            if not isinstance(getattr(self, name), str):
                raise _bad(f"The field {name} is not text.", "Give it as a string.")
        for name in ("width", "height", "seed", "steps", "bit_depth"):
            if type(getattr(self, name)) is not int:
                raise _bad(f"The field {name} is not a whole number.", "Give it as an integer.")
        if type(self.enhance) is not bool:
            raise _bad("The field enhance is not true or false.", "Give it as a boolean.")
        if self.enhancement is not None and not isinstance(self.enhancement, Enhancement):
            raise _bad("The field enhancement is not an enhancement.", "Give an Enhancement, or None.")

    def _check_names(self) -> None:
        if self.sampler not in SAMPLERS:
            raise _bad(f"There is no sampler called {self.sampler!r}.", f"Use one of {', '.join(SAMPLERS)}.")
        if self.schedule not in SCHEDULES:
            raise _bad(f"There is no schedule called {self.schedule!r}.", f"Use one of {', '.join(SCHEDULES)}.")
        if self.style and self.style not in STYLES:
            raise _bad(f"There is no style called {self.style!r}.", f"Use one of {', '.join(STYLES)}, or none.")
        if self.speed not in SPEEDS:
            raise _bad(f"There is no speed called {self.speed!r}.", f"Use one of {', '.join(SPEEDS)}.")
        if self.bit_depth not in BIT_DEPTHS:
            raise _bad(f"The bit depth is {self.bit_depth}.", "Choose 8 or 16.")
        if self.model and not is_plain_name(self.model):
            raise _bad(f"{self.model!r} is not the name of a model.", "Choose a model from the list.")

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        data["controls"] = list(data["controls"])
        data["loras"] = list(data["loras"])
        data["stages"] = [
            {**stage, "controls": None if stage["controls"] is None else list(stage["controls"])}
            for stage in data["stages"]
        ]
        del data["enhancement"]
        if self.enhancement is not None:
            # Left out where there is none, so that the digests of Requests stay what they were before such a field.
            data["enhancement"] = self.enhancement.to_json()
        return data

    @classmethod
    def from_json(cls, data: object) -> GenerationRequest:
        """The Request that `to_json` wrote, checked. Unknown or wrong fields are refused by name (`FailureError`)."""
        values = _known_fields(cls, data, "the request")
        values["controls"] = _read_controls(values.get("controls", []))
        values["stages"] = read_stages(values.get("stages", []))
        values["loras"] = read_loras(values.get("loras", []))
        values["enhancement"] = read_enhancement(values.get("enhancement"))
        request = cls(**values)
        request.check()
        return request

    def digest(self) -> str:
        """SHA-256, in hex, of the Request's canonical JSON."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def check_size(width: int, height: int) -> None:
    """Raises `FailureError` unless width and height (pixels) are a size that FLUX can make."""
    hint = f"Choose sides of {SIZE_MIN} to {SIZE_MAX} pixels, {PIXELS_MAX // 1_000_000} megapixels in all at most."
    if not (SIZE_MIN <= width <= SIZE_MAX and SIZE_MIN <= height <= SIZE_MAX):
        raise _bad(f"A picture of {width} x {height} pixels cannot be made.", hint)
    if width * height > PIXELS_MAX:
        raise _bad(f"A picture of {width} x {height} pixels is too large.", hint)
    if width % SIZE_MULTIPLE or height % SIZE_MULTIPLE:
        snapped = snap_size(width, height)
        raise _bad(
            f"The sides {width} x {height} are not multiples of {SIZE_MULTIPLE}.",
            f"The nearest size is {snapped[0]} x {snapped[1]}.",
        )


def sources_of(request: GenerationRequest) -> tuple[str, ...]:
    """What a Request takes of `ControlMaps` beside its controls' maps."""
    is_shown = request.task not in PICTURELESS and (request.reference_strength > 0.0 or _is_balanced(request))
    return (*SOURCES_OF.get(request.task, ()), *(("reference",) if is_shown else ()))


def _is_balanced(request: GenerationRequest) -> bool:
    """Whether its colours go towards those of the reference picture."""
    finish = finish_of(request.enhancement.finish, request.style) if request.enhancement is not None else None
    return finish is not None and finish.balance > 0.0


def is_from_picture(task: str) -> bool:
    """Whether a task starts from a picture, not from noise alone."""
    return task in SOURCES_OF


def has_strength(task: str) -> bool:
    """Whether a task goes a share of the way from its picture; an edit by instruction is told in words how far."""
    return task in ("image_to_image", "inpaint")


def is_plain_name(name: str) -> bool:
    """Whether a name can stand for a folder in the models folder: no separators, no dots in front, 1..100 long."""
    return 0 < len(name) <= 100 and not name.startswith(".") and all(c.isalnum() or c in "-_. " for c in name)


def _check_controls(controls: tuple[Control, ...]) -> None:
    for control in controls:
        control.check()
    kinds = [control.kind for control in controls]
    if len(set(kinds)) != len(kinds):
        raise _bad("A control is there twice.", "Keep one control of each kind.")
    if len(kinds) > CONTROLS_MAX:
        raise _bad(f"{len(kinds)} controls are on.", f"At most {CONTROLS_MAX} guide a picture: switch some off.")


def _read_controls(data: object) -> tuple[Control, ...]:
    if not isinstance(data, list):
        raise _bad("The field controls is not a list.", "Give a list of controls.")
    return tuple(Control(**_known_fields(Control, item, "a control")) for item in data)


def read_stages(data: object) -> tuple[Stage, ...]:
    """Stages from JSON; their values are checked with the Request. Raises `FailureError` (bad_request)."""
    if not isinstance(data, list):
        raise _bad("The field stages is not a list.", "Give a list of stages.")
    return tuple(_read_stage(item) for item in data)


def _read_stage(data: object) -> Stage:
    values = _known_fields(Stage, data, "a stage")
    if values.get("controls") is not None:
        values["controls"] = _read_controls(values["controls"])
    return Stage(**values)


def _known_fields(cls: type, data: object, what: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise _bad(f"{what.capitalize()} is not a table of fields.", "Send it as a JSON object.")
    known = {field.name for field in fields(cls)}
    unknown = sorted(str(key) for key in data if key not in known)
    if unknown:
        raise _bad(f"Unknown field in {what}: {unknown[0]!r}.", "Update the side that sent it, or remove the field.")
    required = {GenerationRequest: "prompt", Control: "kind"}.get(cls)
    if required is not None and required not in data:
        raise _bad(f"The field {required} is missing in {what}.", "Send it.")
    return dict(data)


def _check_number(what: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _bad(f"{what[0].upper()}{what[1:]} is {value!r}.", f"Choose {low:g} to {high:g}.")


def _bad(message: str, hint: str) -> FailureError:
    return FailureError.of(FailureKind.BAD_REQUEST, message, hint)
