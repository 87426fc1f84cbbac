"""Exceptions -> Failures: one sentence and the next step for everything that can go wrong below the door."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from .causes import is_out_of_memory, recognised
from .wire import Failure, FailureError, FailureKind

if TYPE_CHECKING:
    from .wire import GenerationRequest

__all__ = ["failure_of", "is_out_of_memory"]


def failure_of(error: BaseException, request: GenerationRequest | None = None) -> Failure:
    """The Failure that an exception stands for. The detail holds the traceback, except for failures we raised.

    request: what was to be painted, so that the sentence can say its size, its controls and its model.
    """
    if isinstance(error, FailureError):
        return error.failure
    return recognised(error, request) or Failure(
        FailureKind.INTERNAL,
        f"Something went wrong inside Grisaille ({type(error).__name__}).",
        "Try again; if it happens again, report it with the text under Details.",
        "".join(traceback.format_exception(error)),
    )
