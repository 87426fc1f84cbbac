"""The disk and the folders."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from pathlib import Path

from ..wire import FailureError, FailureKind
from ..wire.disk import disk_failures
from .finding import Finding, gigabytes

DISK_LOW = 2_000_000_000
"""Bytes. A picture takes a few million; a model that is downloaded takes more than this."""
PROBE_BYTES = 1 << 16


def disk(models: Path, data: Path | None) -> Finding:
    """What is free where the models are and where pictures are kept."""
    places = {"models": models} | ({"pictures": data} if data is not None else {})
    free = {name: shutil.disk_usage(_nearest(place)).free for name, place in places.items()}
    said = " and ".join(f"{gigabytes(count)} where {name} are kept" for name, count in free.items())
    values = {f"{name}_free": count for name, count in free.items()}
    if min(free.values()) < DISK_LOW:
        return Finding("disk", False, f"Little is free: {said}.", "Free some space there.", values=values)
    return Finding("disk", True, f"Free: {said}.", values=values)


def models_folder(folder: Path) -> Finding:
    """Whether the models can be read, and whether new ones could be put there, which pictures do not need."""
    if not folder.is_dir():
        hint = "Make it, or choose the folder that holds your models."
        raise FailureError.of(FailureKind.MODEL_MISSING, f"The models folder {folder} is not there.", hint)
    count = len(os.listdir(folder))
    can_write = os.access(folder, os.W_OK)
    said = f"{folder} can be read{' and written' if can_write else ', not written'}; it holds {count} things."
    return Finding("models folder", True, said, values={"is_writable": can_write})


def writable(subject: str, folder: Path) -> Finding:
    """Whether a file can be written, moved, read and taken away in the folder, which is made where it is not there."""
    name = f".grisaille-{secrets.token_hex(6)}"
    before, after, content = folder / f"{name}.part", folder / name, secrets.token_bytes(PROBE_BYTES)
    with disk_failures(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with before.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            before.replace(after)
            is_same = after.read_bytes() == content
        finally:
            for path in (before, after):
                path.unlink(missing_ok=True)
    if not is_same:
        hint = "Check the disk, and choose another folder until then."
        return Finding(subject, False, f"What is written to {folder} is read back as something else.", hint)
    return Finding(subject, True, f"{folder} can be written.")


def temporary() -> Path:
    return Path(tempfile.gettempdir())


def _nearest(place: Path) -> Path:
    """The folder, or the first above it that is there."""
    return next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
