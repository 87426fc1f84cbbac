"""Ends the backend when the process that started it is gone, however that ended; clears up after the dead."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

WATCH_SECONDS = 0.5
_OWNER = re.compile(r"(\d+)-")


def hold(stream: BinaryIO, parent_pid: int, end: Callable[[], None]) -> None:
    """Calls `end` when `stream` (a pipe from the parent) ends or the parent is gone, from threads of its own.

    Two lines, because another child of the parent may have inherited the pipe's other end.
    """
    first = os.getppid()

    def read() -> None:
        while stream.read(4096):
            pass
        end()

    def watch() -> None:
        while os.getppid() == first and is_alive(parent_pid):
            time.sleep(WATCH_SECONDS)
        end()

    for target in (read, watch):
        threading.Thread(target=target, name=f"grisaille-lifeline-{target.__name__}", daemon=True).start()


def is_alive(pid: int) -> bool:
    """Whether a process with this id exists."""
    if os.name == "nt":
        return _is_alive_on_windows(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_alive_on_windows(pid: int) -> bool:
    import ctypes

    synchronize, timed_out, access_denied = 0x00100000, 0x102, 5
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # pyright: ignore[reportAttributeAccessIssue]
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = kernel.OpenProcess(synchronize, False, pid)
    if not handle:
        return ctypes.get_last_error() == access_denied  # pyright: ignore[reportAttributeAccessIssue]
    try:
        return kernel.WaitForSingleObject(ctypes.c_void_p(handle), 0) == timed_out
    finally:
        kernel.CloseHandle(ctypes.c_void_p(handle))


def sweep(folder: Path, prefix: str) -> None:
    """Removes the entries `<prefix><pid>-…` of `folder` whose process is gone."""
    try:
        entries = list(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        owner = _OWNER.match(entry.name.removeprefix(prefix))
        if entry.name.startswith(prefix) and owner and not is_alive(int(owner[1])):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                with suppress(OSError):
                    entry.unlink()
