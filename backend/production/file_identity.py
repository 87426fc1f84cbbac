"""Whether a file is still the one that it was, without reading it."""

from __future__ import annotations

import os

FileIdentity = tuple[int, int, int]


def file_identity(status: os.stat_result) -> FileIdentity:
    """Size, modification time and inode: other ones for each file that was ever written in a place."""
    return status.st_size, status.st_mtime_ns, status.st_ino
