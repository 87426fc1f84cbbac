"""What a disk refuses, said to a user."""

from __future__ import annotations

import errno
import os
import secrets
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .failure import Failure, FailureError, FailureKind

PARTIAL = ".partial-"
"""What the names of files begin with that are being written; the writer's process id follows."""
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


def write_whole(target: Path, parts: Iterable[bytes]) -> None:
    """Writes a file beside its place and moves it there: whoever looks finds all of it or what was there before.

    Raises `OSError`. What a writer leaves that was killed is `.partial-<process id>-…`, for `lifeline.sweep`.
    """
    partial = target.with_name(f"{PARTIAL}{os.getpid()}-{secrets.token_hex(8)}")
    try:
        with partial.open("xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
        sync_folder(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Has the disk keep the folder's entries as they are now; Windows does so by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
