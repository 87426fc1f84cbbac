"""Control maps on disk by their digests, so that a picture can be made again; within a limit, the oldest use first out.

A folder of DIGEST.npz, each whole or not at all. Any number of processes may use one at once.
"""

from __future__ import annotations

import io
import os
import time
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..wire import ControlMaps, FailureError, FailureKind
from ..wire.disk import PARTIAL, write_whole
from ..wire.maps import MAPS, SOURCES
from .metadata import read_request

if TYPE_CHECKING:
    from numpy.typing import NDArray

BESIDE = "grisaille-maps"
"""The folder beside a picture, where no other is named."""
BYTES_MAX = 2 * 10**9
"""What a store may take on disk: about 80 captures of 1024 x 1024 pixels with depth, normals and lines."""
DIGEST_DIGITS = 64
ABANDONED_SECONDS = 3600.0
"""After so long a part of a file is not being written any more: its process was killed."""


class MapStore:
    """The maps in one folder, which is made when the first one is put there."""

    def __init__(self, folder: Path, bytes_max: int = BYTES_MAX) -> None:
        """bytes_max: beyond it the maps used longest ago are removed, but never those that were just put."""
        self.folder = folder
        self._bytes_max = bytes_max

    def put(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Keeps arrays by their digests (`map_digests`), then makes room. Raises `OSError`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for digest, array in arrays.items():
            path = self._path(digest)
            if not _touch(path):
                write_whole(path, [_packed(array)])
        self._make_room(set(arrays))

    def get(self, digests: dict[str, str]) -> tuple[ControlMaps, list[str]]:
        """The maps that are there, of those named with their digests, and the names of those that are gone.

        A file that is damaged is removed, and counts as gone.
        """
        found: dict[str, Any] = {}
        for name, digest in digests.items():
            if name in (*MAPS, *SOURCES) and (array := self._read(digest)) is not None:
                found[name] = array
        return ControlMaps(**found), [name for name in digests if name not in found]

    def _read(self, digest: str) -> NDArray[Any] | None:
        import numpy as np

        path = self._path(digest)
        try:
            # Opened here: numpy leaves a file open that is no whole archive.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                array = arrays["map"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            path.unlink(missing_ok=True)
            return None
        _touch(path)
        return array

    def _path(self, digest: str) -> Path:
        if len(digest) != DIGEST_DIGITS or not set(digest) <= set("0123456789abcdef"):
            raise FailureError.of(
                FailureKind.BAD_REQUEST,
                f"{digest!r} is not the digest of a map.",
                "Choose another copy of the picture.",
            )
        return self.folder / f"{digest}.npz"

    def _make_room(self, kept: set[str]) -> None:
        found: list[tuple[float, int, Path]] = []
        for path in self.folder.iterdir():
            try:
                status = path.stat()
            except FileNotFoundError:  # another process makes room as well
                continue
            if path.suffix == ".npz":
                found.append((status.st_mtime, status.st_size, path))
            elif path.name.startswith(PARTIAL) and time.time() - status.st_mtime > ABANDONED_SECONDS:
                path.unlink(missing_ok=True)
        total = sum(size for _time, size, _path in found)
        for _time, size, path in sorted(found):
            if total <= self._bytes_max:
                return
            if path.stem not in kept:
                path.unlink(missing_ok=True)
                total -= size


def read_maps(path: str | Path, maps_folder: str | Path | None = None, without: Collection[str] = ()) -> ControlMaps:
    """The maps that the picture at `path` was made from.

    maps_folder: where they are kept; None for `grisaille-maps` beside the picture. without: names of maps that are not
    needed. Raises `FailureError` (bad_request), naming them, where any are gone; and as `read_request` does.
    """
    place = Path(path)
    folder = Path(maps_folder) if maps_folder is not None else place.parent / BESIDE
    digests = read_request(place).digests.get("maps", {})
    maps, gone = MapStore(folder).get({name: digest for name, digest in digests.items() if name not in without})
    if gone:
        raise FailureError.of(
            FailureKind.BAD_REQUEST,
            f"The maps that {place.name} was made from are gone from {folder}: {', '.join(gone)}.",
            "Name the folder that holds them, or capture the scene again.",
        )
    return maps


def _touch(path: Path) -> bool:
    """Marks a file as used now; False where it is not there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _packed(array: NDArray[Any]) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, map=array)
    return buffer.getvalue()
