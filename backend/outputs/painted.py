"""The Result that scripts get: one that can be saved in every format, with its maps beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path

from ..wire import ControlMaps, GenerationResult
from .files import save_picture
from .map_store import BESIDE, MapStore
from .metadata import DIGESTS, texts_of_png


@dataclass(frozen=True, slots=True)
class PaintedResult(GenerationResult):
    """A `GenerationResult` with the maps that it was made from, unless they are kept in a folder already."""

    maps: ControlMaps | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, result: GenerationResult, maps: ControlMaps | None) -> PaintedResult:
        return cls(**{one.name: getattr(result, one.name) for one in fields(GenerationResult)}, maps=maps)

    def save(self, path: str | Path, maps_folder: str | Path | None = None) -> Path:
        """Writes the picture as PNG, WebP, JPEG or EXR by the ending of `path`, and keeps its maps; returns the path.

        See `save_picture` for what each format holds. maps_folder: where `read_maps` will look for the maps; None for
        `grisaille-maps` beside the picture. Raises `FailureError` (bad_request) for another ending, `OSError` where
        something cannot be written.
        """
        target = save_picture(self.png, path)
        if self.maps is not None:
            folder = Path(maps_folder) if maps_folder is not None else target.parent / BESIDE
            keep_maps(self.png, self.maps, MapStore(folder))
        return target


def keep_maps(png: bytes, maps: ControlMaps, store: MapStore) -> None:
    """Puts the maps that a picture's PNG names into a store. Raises `OSError`."""
    digests: dict[str, str] = json.loads(texts_of_png(png).get(DIGESTS, "{}")).get("maps", {})
    arrays = maps.arrays()
    if used := {digest: arrays[name] for name, digest in digests.items() if name in arrays}:
        store.put(used)
