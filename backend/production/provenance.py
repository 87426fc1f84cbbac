"""What a picture remembers of how it was made: digests, and text chunks in its PNG."""

from __future__ import annotations

import hashlib
import io
import json
import tomllib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..wire import ControlMaps, GenerationRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

READ_BYTES = 1 << 22
PNG_LEVEL = 4
"""zlib's level: at 6 a noisy picture takes twice as long for two per cent less."""


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


def provenance(request: GenerationRequest, digests: dict[str, Any], plan: dict[str, Any]) -> dict[str, str]:
    """The text chunks of a picture, by keyword. Nothing in them changes between two equal runs."""
    return {
        "Software": f"Grisaille {version()}",
        "Description": request.prompt,
        "grisaille:request": _json(request.to_json()),
        "grisaille:digests": _json(digests),
        "grisaille:plan": _json(plan),
    }


def encode_png(pixels: NDArray[np.uint8], texts: dict[str, str]) -> bytes:
    """(height, width, 3) uint8 -> a PNG file with the texts as UTF-8 chunks."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for keyword, text in texts.items():
        info.add_itxt(keyword, text)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=info, compress_level=PNG_LEVEL)
    return buffer.getvalue()


def _json(data: object) -> str:
    return json.dumps(data, sort_keys=True, ensure_ascii=False)
