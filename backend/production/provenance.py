"""What a picture remembers of how it was made: digests, and text chunks in its PNG."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..outputs.metadata import DIGESTS, PARAMETERS, PLAN, REQUEST
from ..outputs.parameters import parameters_text
from ..outputs.png import encode_png
from ..wire import ControlMaps, GenerationRequest
from ..wire.framing import array_digest

__all__ = ["encode_png", "map_digests", "provenance", "version"]


@cache
def version() -> str:
    """Grisaille's version, from the manifest that lies beside this package, in the repository and when installed."""
    manifest = Path(__file__).resolve().parents[2] / "blender_manifest.toml"
    return tomllib.loads(manifest.read_text(encoding="utf-8"))["version"]


def map_digests(maps: ControlMaps, kinds: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """`array_digest` of each map in `kinds`, by kind. known: those that were taken while the maps arrived."""
    arrays = maps.arrays()
    return {kind: known.get(kind) or array_digest(arrays[kind]) for kind in sorted(kinds)}


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
