"""A batch as a file: a line of JSON for each picture, and the journal of what was made of it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ..outputs import check_ending
from ..wire import Failure, FailureError, FailureKind, GenerationRequest
from ..wire.disk import write_whole
from ..wire.framing import ProtocolError, parse_json
from ..wire.request import PICTURELESS, is_plain_name

JOURNAL = ".grisaille-batch.jsonl"
READ_BYTES = 1 << 20
Complete = Callable[[GenerationRequest, Collection[str]], GenerationRequest]


@dataclass(frozen=True, slots=True)
class Line:
    """One picture of a batch. number: of its line, from 1. maps: files by the map's name. out: a name, or ""."""

    number: int
    request: GenerationRequest
    maps: dict[str, Path]
    out: str

    def digest(self) -> str:
        """SHA-256, in hex, of the Request and of the bytes of its maps' files. Raises `FailureError`."""
        digest = hashlib.sha256(self.request.digest().encode())
        for name, path in sorted(self.maps.items()):
            digest.update(f"{name} {_file_digest(name, path)}".encode())
        return digest.hexdigest()


def read_lines(path: Path, model: str, complete: Complete) -> list[Line | tuple[int, Failure]]:
    """The lines of the file that are not empty, in their order; what is wrong with a broken one, and its number.

    Each is a Request as JSON, with "maps" (paths of files, from the folder of this file on) and "out" (the picture's
    file name) beside its fields. model: for the lines that name none. complete: gives a Request the
    settings that its line lacks, from the names of those it has; may raise `FailureError`. Raises `OSError`.
    """
    found: list[Line | tuple[int, Failure]] = []
    taken: dict[str, int] = {}
    for number, text in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not text.strip():
            continue
        try:
            line = _read_line(number, text, path.parent, model, complete)
            if line.out and taken.setdefault(line.out.casefold(), number) != number:
                _refuse(f"Line {taken[line.out.casefold()]} writes {line.out} too.", "Give one of them another name.")
            found.append(line)
        except FailureError as error:
            found.append((number, error.failure))
    return found


def _read_line(number: int, text: bytes, folder: Path, model: str, complete: Complete) -> Line:
    try:
        data = parse_json(text)
    except ProtocolError as error:
        raise FailureError.of(
            FailureKind.BAD_REQUEST, f"It is not a line of JSON: {error}.", 'Write it as {"prompt": "…"}.'
        ) from error
    maps, out = data.pop("maps", {}), data.pop("out", "")
    if not isinstance(maps, dict) or not all(isinstance(file, str) and file for file in maps.values()):
        _refuse('Its "maps" are not a table of paths.', 'Write them as {"depth": "depth.exr"}.')
    if out != "" and not (isinstance(out, str) and is_plain_name(out)):
        _refuse('Its "out" is not a plain file name.', 'Write it as "castle.png".')
    if out:
        check_ending(Path(out))
    request = complete(GenerationRequest.from_json({"model": model, **data}), data)
    if request.task in PICTURELESS:
        _refuse("A batch makes pictures; this task makes none.", "Choose another task.")
    return Line(number, request, {name: folder / file for name, file in maps.items()}, out)


class Journal:
    """What was made in a folder, so that a batch that was stopped goes on where it was.

    A line is written before the picture gets its name, so that a picture that is there and whole has its line, even
    when the process is killed at any moment; a line whose picture is not there, or another one, counts for nothing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / JOURNAL
        self._made: dict[str, dict[str, str]] = {}
        self._ours: set[tuple[str, str]] = set()
        for job, out, digest in self._entries():
            self._remember(job, out, digest)

    def made(self, job: str, out: str) -> str | None:
        """The file that holds this job's picture, whole; None where it has to be made. out: the name it must have."""
        for name, digest in self._made.get(job, {}).items():
            if out in ("", name) and _digest_or_none(self._folder / name) == digest:
                return name
        return None

    def check_free(self, out: str) -> None:
        """Raises `FailureError` where writing this file would lose one that is not of this folder's batches."""
        digest = _digest_or_none(self._folder / out)
        if (self._folder / out).exists() and (out, digest) not in self._ours:
            _refuse(
                f"The file {out} is there already and is not of this batch.", "Move it away, or use another folder."
            )

    def put(self, job: str, out: str, data: bytes) -> None:
        """Writes a picture's file, whole or not at all. Raises `OSError`."""
        digest = hashlib.sha256(data).hexdigest()
        entry = json.dumps({"job": job, "out": out, "sha256": digest}).encode()
        with self._path.open("ab") as file:
            # A line that a killed process left half ends here.
            file.write((b"\n" if file.tell() else b"") + entry + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._remember(job, out, digest)
        write_whole(self._folder / out, [data])

    def _remember(self, job: str, out: str, digest: str) -> None:
        self._made.setdefault(job, {})[out] = digest
        self._ours.add((out, digest))

    def _entries(self) -> list[tuple[str, str, str]]:
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                entry = json.loads(line)
                found.append((str(entry["job"]), str(entry["out"]), str(entry["sha256"])))
            except (ValueError, TypeError, KeyError):
                continue
        return [entry for entry in found if is_plain_name(entry[1])]


def _file_digest(name: str, path: Path) -> str:
    try:
        return _digest(path)
    except FileNotFoundError:
        _refuse(f"The file {path.name} for the {name} map is not there.", "Correct its path.", str(path))
    except OSError as error:
        _refuse(f"The file {path.name} for the {name} map cannot be read.", "Look at its permissions.", str(error))


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _digest_or_none(path: Path) -> str | None:
    try:
        return _digest(path)
    except OSError:
        return None


def _refuse(message: str, hint: str, detail: str = "") -> NoReturn:
    raise FailureError.of(FailureKind.BAD_REQUEST, message, hint, detail)
