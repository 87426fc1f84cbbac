"""What a disk refuses, said to a user."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .failure import Failure, FailureError, FailureKind

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def disk_failures(folder: Path) -> Iterator[None]:
    """Turns an `OSError` inside into a `FailureError` that says what is wrong with `folder`."""
    try:
        yield
    except OSError as error:
        raise FailureError(disk_failure(error, folder)) from error


def disk_failure(error: OSError, folder: Path) -> Failure:
    """The failure for an error met while writing in `folder`: disk_full or not_writable."""
    detail = "".join(traceback.format_exception_only(error)).strip()
    if error.errno in _FULL:
        message = f"The disk that holds {folder} is full."
        return Failure(FailureKind.DISK_FULL, message, "Free some space there and generate again.", detail)
    hint = "Change its permissions, or choose another folder in the preferences."
    return Failure(FailureKind.NOT_WRITABLE, f"The folder {folder} cannot be written to.", hint, detail)
