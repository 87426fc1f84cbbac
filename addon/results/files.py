"""Files that arrive whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path

from ...backend.wire import FailureError, FailureKind


def write_whole(path: str | Path, data: bytes) -> None:
    """Writes beside `path`, then renames. Leaves nothing half-written.

    Raises `FailureError` (not_writable, disk_full).
    """
    path = Path(path)
    beside = ""
    try:
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=".grisaille-", suffix=path.suffix)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o666 & ~_umask())
        os.replace(beside, path)
    except OSError as error:
        if beside:
            with contextlib.suppress(OSError):
                os.unlink(beside)
        raise _failure(path, error) from error


def check_writable(path: str | Path) -> None:
    """Raises `FailureError` unless a file can be made in the folder of `path`. Leaves nothing there."""
    path = Path(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _failure(path, error) from error


def _umask() -> int:
    # mkstemp makes files for the owner only; what a user asked for gets the user's usual permissions.
    current = os.umask(0)
    os.umask(current)
    return current


def _failure(path: Path, error: OSError) -> FailureError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FailureError.of(
            FailureKind.DISK_FULL, f"The disk is full: {path} was not written.", "Make room, or choose another disk."
        )
    if not path.parent.is_dir():
        return FailureError.of(
            FailureKind.NOT_WRITABLE, f"The folder {path.parent} is not there.", "Make it, or choose another one."
        )
    return FailureError.of(
        FailureKind.NOT_WRITABLE,
        f"{path} cannot be written.",
        "Choose a file in a folder that you may write to.",
        str(error),
    )
