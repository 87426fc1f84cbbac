"""SHA-256 of model files, taken once and kept on disk."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .file_identity import file_identity
from .kept_table import read_table, write_table

READ_BYTES = 1 << 22
FILES_MAX = 4096
_DIGEST = re.compile(r"[0-9a-f]{64}")


class WeightDigests:
    """Digests of files, remembered as long as size, modification time and inode stay the same.

    A file of 12 GB takes about ten seconds to read, so they are kept in the file `place` where one is given. Two
    processes may share it: what one of them did not see of the other's, it reads again.
    """

    def __init__(self, place: Path | None = None) -> None:
        self._place = place
        self._known: dict[str, list[Any]] | None = None

    def of(self, files: Iterable[Path], root: Path, check: Callable[[], None]) -> dict[str, str]:
        """Hex digests by path relative to `root`. `check` is called between reads and ends the reading by raising."""
        found, is_new = {}, False
        for path in files:
            digest = self._remembered(path)
            if digest is None:
                digest = self._read(path, check)
                is_new = True
            found[_name(path, root)] = digest
        if is_new:
            self._keep()
        return found

    def known(self, files: Iterable[Path], root: Path) -> dict[str, str] | None:
        """The same without reading any of them: None where one has not been read as it is now."""
        found = {}
        for path in files:
            digest = self._remembered(path)
            if digest is None:
                return None
            found[_name(path, root)] = digest
        return found

    def _table(self) -> dict[str, list[Any]]:
        if self._known is None:
            self._known = _sound(read_table(self._place))
        return self._known

    def _remembered(self, path: Path) -> str | None:
        known = self._table().get(str(path))
        return known[-1] if known is not None and known[:-1] == _identity(path) else None

    def _read(self, path: Path, check: Callable[[], None]) -> str:
        before = _identity(path)
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(READ_BYTES):
                check()
                digest.update(block)
        table = self._table()
        table.pop(str(path), None)
        if _identity(path) == before:  # else it changed under our eyes, and belongs to neither state
            table[str(path)] = [*before, digest.hexdigest()]
        return digest.hexdigest()

    def _keep(self) -> None:
        if self._place is None:
            return
        table = {**_sound(read_table(self._place)), **self._table()}
        self._known = dict(list(table.items())[-FILES_MAX:])
        write_table(self._place, self._known)


def _name(path: Path, root: Path) -> str:
    """A file's path relative to a folder that it lies in. Path's own way takes longer than reading a picture."""
    return os.fspath(path).removeprefix(os.path.join(root, "")).replace(os.sep, "/")


def _identity(path: Path) -> list[int]:
    return [*file_identity(os.stat(path))]


def _sound(table: dict[str, Any]) -> dict[str, list[Any]]:
    """The entries that have the form of ours."""
    return {path: entry for path, entry in table.items() if _is_entry(entry)}


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, list) or len(entry) != 4 or not all(type(number) is int for number in entry[:-1]):
        return False
    return isinstance(entry[-1], str) and _DIGEST.fullmatch(entry[-1]) is not None
