"""Finished results on disk: kept from the moment the backend announces them until a saved .blend holds them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...backend.wire import Failure, FailureKind
from .. import preferences, state

if TYPE_CHECKING:
    from ...backend.wire.stored import StoredResult


def folder() -> Path:
    """Where results are kept: where the link's backend writes them, or would."""
    current = state.get()
    if current.place is not None:
        return current.place.data_folder / "results"
    # Remembered: at Blender's exit there are no preferences to ask any more.
    current.data_folder = current.data_folder or preferences.data_folder()
    return current.data_folder / "results"


def read(job_id: str) -> StoredResult | None:
    """A kept result, or None when it is gone or damaged."""
    from ...backend.wire import stored

    try:
        return stored.read(folder(), job_id)
    except (OSError, ValueError):
        return None


def look() -> None:
    """Learns what is on disk, also from earlier sessions."""
    from ...backend.wire import stored

    current = state.get()
    current.data_folder = preferences.data_folder()
    kept = current.kept
    for job_id in stored.stored_ids(folder()):
        if job_id not in kept and (result := read(job_id)) is not None and result.result.png:
            kept[job_id] = result.origin


def forget(job_id: str) -> None:
    """Deletes a result's copy on disk. One that cannot be deleted is told in the panel, and stays known."""
    from ...backend.wire import stored

    current = state.get()
    try:
        if current.link is not None:
            current.link.acknowledge(job_id)
        else:
            stored.remove(folder(), job_id)
    except OSError as error:
        current.failure = Failure(
            FailureKind.NOT_WRITABLE,
            "A finished picture could not be deleted from the data folder.",
            "Check that you may write to the Data Folder of the add-on's preferences.",
            str(error),
        )
        return
    current.kept.pop(job_id, None)


def forget_saved() -> None:
    """Lets go of the results that the open file's last save holds.

    Called when the file is left, not when it is saved: its undo steps reach back before the result, and the user may
    save again there.
    """
    current = state.get()
    for job_id in current.saved & set(current.kept):
        forget(job_id)
    current.saved = set()
