"""The one kind of failure this room knows."""

from __future__ import annotations

from ...backend.wire import FailureError, FailureKind


def capture_error(message: str, hint: str, detail: str = "") -> FailureError:
    """A capture that cannot be made: one sentence saying why, one saying what to do next."""
    return FailureError.of(FailureKind.CAPTURE_FAILED, message, hint, detail)
