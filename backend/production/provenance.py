"""What a picture remembers of how it was made: digests, and text chunks in its PNG."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from ..outputs.metadata import DIGESTS, PARAMETERS, PLAN, REQUEST
from ..outputs.parameters import parameters_text
from ..outputs.png import encode_png
from ..wire import ControlMaps, GenerationRequest

__all__ = ["WeightDigests", "encode_png", "map_digests", "provenance", "version"]

READ_BYTES = 1 << 22


@cache
def version() -> str:
    """Grisaille's version, from the manifest that lies beside this package, in the repository and when installed."""
    manifest = Path(__file__).resolve().parents[2] / "blender_manifest.toml"
    return tomllib.loads(manifest.read_text(encoding="utf-8"))["version"]


class WeightDigests:
    """SHA-256 of model files, remembered as long as size, modification time and inode stay the same."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int, int], str] = {}

    def of(self, files: Iterable[Path], root: Path, check: Callable[[], None]) -> dict[str, str]:
        """Hex digests by path relative to `root`. `check` is called between reads and ends the reading by raising."""
        return {path.relative_to(root).as_posix(): self._digest(path, check) for path in files}

    def _digest(self, path: Path, check: Callable[[], None]) -> str:
        status = path.stat()
        key = (str(path), status.st_size, status.st_mtime_ns, status.st_ino)
        if key not in self._known:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(READ_BYTES):
                    check()
                    digest.update(block)
            self._known[key] = digest.hexdigest()
        return self._known[key]


def map_digests(maps: ControlMaps, kinds: Iterable[str]) -> dict[str, str]:
    """SHA-256 in hex of the shape and values of each map in `kinds`, by kind."""
    digests = {}
    for kind in sorted(kinds):
        array = maps.arrays()[kind]
        digest = hashlib.sha256(repr(array.shape).encode())
        digest.update(memoryview(array if array.flags.c_contiguous else array.copy()).cast("B"))
        digests[kind] = digest.hexdigest()
    return digests


def provenance(
    request: GenerationRequest, digests: dict[str, Any], plan: dict[str, Any], transformer: str = ""
) -> dict[str, str]:
    """The text chunks of a picture, by keyword. Nothing in them changes between two equal runs.

    transformer: which of the digests' weights other tools know the model by.
    """
    software = f"Grisaille {version()}"
    return {
        "Software": software,
        "Description": request.prompt,
        PARAMETERS: parameters_text(request, digests.get("weights", {}), transformer, software),
        REQUEST: _json(request.to_json()),
        DIGESTS: _json(digests),
        PLAN: _json(plan),
    }


def _json(data: object) -> str:
    return json.dumps(data, sort_keys=True, ensure_ascii=False)
