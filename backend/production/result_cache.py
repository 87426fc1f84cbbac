"""Finished pictures on disk by what decides them, so that nothing is painted twice.

A folder of files, one a picture: a line that says what it is, SHA-256 of the key and of all that follows, the header's
length, the header (the Result without its picture, as JSON) and the PNG. A file is there whole or not at all, is
checked by its digest when a process first reads it and whenever it is another one since, and any number of processes
may share the folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from ..lifeline import sweep
from ..wire import GenerationRequest, GenerationResult
from ..wire.disk import PARTIAL, write_whole
from ..wire.framing import ProtocolError, parse_json
from ..wire.stored import result_from_json, result_to_json
from .file_identity import FileIdentity, file_identity
from .provenance import version

CACHE_BYTES = 2 * 10**9
ENDING = ".result"
MAGIC = b"grisaille result 1\n"
LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "Pillow")
"""Another version of one of these may make other pixels."""
NOTE = "This picture was made before and comes from the cache."
_DIGEST_BYTES = hashlib.sha256().digest_size
_LENGTH_BYTES = 8
CHECKED_MAX = 256
"""Entries of which the process remembers that they are sound."""
log = logging.getLogger("grisaille.production")


@dataclass(frozen=True, eq=False, slots=True)
class _Checked:
    """An entry that was found sound, and all of it but the picture."""

    identity: FileIdentity
    without_png: GenerationResult
    png_bytes: int


class ResultCache:
    """The pictures in `folder`; at most `most_bytes` of them, those that were used last."""

    def __init__(self, folder: Path, most_bytes: int = CACHE_BYTES) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._checked: dict[str, _Checked] = {}
        sweep(folder, PARTIAL)

    def get(self, key: str) -> GenerationResult | None:
        """The Result that was put there under this key; None where there is none, or a damaged one, which is removed.

        key: as `cache_key` makes it.
        """
        path = self._place(key)
        try:
            result = self._read(key, path)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("%s cannot be read: %s", path, error)
            return None
        except ValueError as error:
            log.warning("%s is damaged and is removed; the picture is made anew: %s", path, error)
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)
            self._checked[key] = _Checked(file_identity(os.stat(path)), replace(result, png=b""), len(result.png))
            while len(self._checked) > CHECKED_MAX:
                del self._checked[next(iter(self._checked))]
        return result

    def _read(self, key: str, path: Path) -> GenerationResult:
        """Raises `OSError`, and `ValueError` where the entry is damaged."""
        with path.open("rb", buffering=0) as file:
            checked = self._checked.pop(key, None)
            if checked is None or checked.identity != file_identity(os.fstat(file.fileno())):
                return _read_entry(key, file.readall())
            file.seek(-checked.png_bytes, os.SEEK_END)
            return replace(checked.without_png, png=file.readall())

    def put(self, key: str, result: GenerationResult) -> None:
        """Keeps the Result. A disk that refuses is said in the log: the picture itself is in safe hands."""
        parts = _entry_parts(key, result)
        if sum(map(len, parts)) > self._most_bytes:
            return
        path = self._place(key)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, parts)
        except OSError as error:
            # On Windows also while another process reads the same entry: then it is there.
            log.warning("%s cannot be written: %s", path, error)
        self._trim()

    def _place(self, key: str) -> Path:
        return self._folder / f"{key}{ENDING}"

    def _trim(self) -> None:
        """Removes those that were not used for longest until the rest fits."""
        entries = []
        with suppress(OSError), os.scandir(self._folder) as found:
            for entry in found:
                with suppress(OSError):
                    if entry.name.endswith(ENDING):
                        # Not the entry's own stat: on Windows that one may be of an earlier time.
                        status = os.stat(entry.path)
                        entries.append((status.st_mtime_ns, status.st_size, entry.path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self._most_bytes:
                break
            with suppress(OSError):
                os.unlink(path)
            total -= size
        sweep(self._folder, PARTIAL)


def cache_key(
    request: GenerationRequest, plan: Mapping[str, Any], maps: Mapping[str, str], weights: Mapping[str, Any]
) -> str:
    """SHA-256, in hex, of all that decides a picture.

    plan: what was decided before anything ran. maps: the digests of the arrays that are used, with their dtypes.
    weights: the digests of the model's files and of its LoRAs.
    """
    parts = {
        "request": request.digest(),
        "plan": dict(plan),
        "maps": dict(maps),
        "weights": dict(weights),
        "versions": _versions(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def _versions() -> dict[str, str]:
    found = {"grisaille": version()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version_of(name)
    return found


def _entry_parts(key: str, result: GenerationResult) -> list[bytes]:
    header = json.dumps(result_to_json(result), allow_nan=False).encode()
    length = len(header).to_bytes(_LENGTH_BYTES, "little")
    return [MAGIC, _digest(key, length, header, result.png), length, header, result.png]


def _read_entry(key: str, data: bytes) -> GenerationResult:
    """Raises `ValueError` when `data` is not, to the last byte, what was written under this key."""
    view = memoryview(data)
    digest_end = len(MAGIC) + _DIGEST_BYTES
    header_start = digest_end + _LENGTH_BYTES
    if len(data) < header_start or view[: len(MAGIC)] != MAGIC:
        raise ValueError("it is not one of ours")
    if view[len(MAGIC) : digest_end] != _digest(key, view[digest_end:]):
        raise ValueError("its digest is another one")
    header_end = header_start + int.from_bytes(view[digest_end:header_start], "little")
    try:
        header = parse_json(data[header_start:header_end])
    except ProtocolError as error:
        raise ValueError(str(error)) from error
    return result_from_json(header, data[header_end:], {})


def _digest(key: str, *parts: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(key.encode())
    for part in parts:
        digest.update(part)
    return digest.digest()
