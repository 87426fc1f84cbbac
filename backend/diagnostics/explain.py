"""What a failed picture means, or one that came out wrong: one sentence, and the next step."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import overload

from ..causes.case import Case, painted, smaller
from ..causes.parts import killed_words
from ..failures import failure_of
from ..wire import Failure, FailureKind, GenerationRequest, GenerationResult

KILLED_WORDS = ("was killed", "signal 9")


@overload
def diagnose_generation_failure(
    error: BaseException | Failure, request: GenerationRequest | None = None
) -> Failure: ...
@overload
def diagnose_generation_failure(
    error: GenerationResult, request: GenerationRequest | None = None
) -> Failure | None: ...
def diagnose_generation_failure(
    error: BaseException | Failure | GenerationResult, request: GenerationRequest | None = None
) -> Failure | None:
    """The cause of a failed picture in one sentence, the next step, and the detail for a report.

    error: what was raised; or a Failure that says it generally; or a Result that does not look right, for which the
    answer is None where nothing is found wrong with it: a picture that is black or of one colour, or one that was
    painted on the processor. request: what was to be painted; the sentence then says its size, controls and model.
    Never raises. For causes that are not known, the kind is `internal`, and the detail holds the traceback.
    """
    if isinstance(error, GenerationResult):
        return _of_result(error)
    failure = error if isinstance(error, Failure) else failure_of(error, request)
    return _with_request(failure, request) if request is not None else failure


def _with_request(failure: Failure, request: GenerationRequest) -> Failure:
    """A Failure that came without the Request, or from another process, with what the Request tells."""
    what = painted(request)
    if what in failure.message:
        return failure
    if failure.kind == FailureKind.OUT_OF_MEMORY:
        place = "graphics card" if "graphics card" in failure.message else "computer"
        hint = f"{smaller(request)}, or close other programs."
        return replace(failure, message=f"The {place} has too little memory for {what}.", hint=hint)
    if failure.kind == FailureKind.BACKEND_DIED and any(words in failure.message for words in KILLED_WORDS):
        message, hint = killed_words(Case(RuntimeError(), "", failure.detail, request))
        return replace(failure, message=message, hint=hint)
    return failure


def _of_result(result: GenerationResult) -> Failure | None:
    return _blank(result) or _on_processor(result)


def _blank(result: GenerationResult) -> Failure | None:
    """A picture may be finished and have nothing in it: then the model's numbers ran over, or its VAE is another's."""
    if not result.png:
        return None
    from PIL import Image

    try:
        with Image.open(io.BytesIO(result.png), formats=["PNG"]) as image:
            ends = image.convert("RGB").getextrema()
    except Exception as error:  # what a damaged file raises differs from decoder to decoder
        return Failure(FailureKind.PICTURE_BLANK, "The picture's file is damaged.", "Generate it again.", f"{error!r}")
    spans = [(low, high) for low, high in ends]  # pyright: ignore[reportGeneralTypeIssues]
    if any(low != high for low, high in spans):
        return None
    colour = "all black" if all(high == 0 for _, high in spans) else "in one flat colour"
    return Failure(
        FailureKind.PICTURE_BLANK,
        f"{painted(result.request).capitalize()} came out {colour}: there is nothing in it.",
        "Try another seed and lower strengths of the controls; if it stays, download the model's VAE again.",
        f"extrema {spans}, plan {result.plan}",
    )


def _on_processor(result: GenerationResult) -> Failure | None:
    if result.plan.get("device") != "cpu":
        return None
    seconds = sum(result.timings.values())
    time = f" and took {seconds:.0f} s" if seconds >= 1.0 else ""
    hint = "Choose the device Automatic if a graphics card is there, or a smaller size and a model of fewer steps."
    picture = painted(result.request).capitalize()
    return Failure(
        FailureKind.DEVICE_UNUSABLE,
        f"{picture} was painted on the processor{time}, which is slow: {_why_processor()}.",
        hint,
        f"plan {result.plan}, timings {result.timings}",
    )


def _why_processor() -> str:
    """Why, as far as this machine can say; it is the one that painted, or else this says what holds here."""
    try:
        from .machine import why_no_card

        why = why_no_card()
    except ImportError:
        why = ""
    return why[:1].lower() + why[1:].rstrip(".") if why else "the device was chosen so"
