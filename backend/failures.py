"""Exceptions -> Failures: one sentence and the next step for everything that can go wrong below the door."""

from __future__ import annotations

import errno
import traceback

from .wire import Failure, FailureError, FailureKind

MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
"""How torch's allocators say it where they raise a plain RuntimeError."""


def failure_of(error: BaseException) -> Failure:
    """The Failure that an exception stands for. The detail holds the traceback, except for failures we raised."""
    if isinstance(error, FailureError):
        return error.failure
    detail = "".join(traceback.format_exception(error))
    if is_out_of_memory(error):
        return Failure(
            FailureKind.OUT_OF_MEMORY,
            "There is not enough memory for a picture of this size.",
            "Choose a smaller size or fewer controls, or close other programs that use the GPU.",
            detail,
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(FailureKind.DISK_FULL, "The disk is full.", "Free some space and try again.", detail)
    if isinstance(error, PermissionError):
        return Failure(
            FailureKind.NOT_WRITABLE,
            f"The file {error.filename or ''} may not be used.".replace("  ", " "),
            "Change the folder's permissions, or choose another folder in the preferences.",
            detail,
        )
    return Failure(
        FailureKind.INTERNAL,
        f"Something went wrong inside Grisaille ({type(error).__name__}).",
        "Try again; if it happens again, report it with the text under Details.",
        detail,
    )


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    # By name, because torch is not imported here: the error is there only if torch is.
    if type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in MEMORY_WORDS)
