"""Small tables that outlive the process: JSON files, written whole, worth nothing when they are damaged."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from ..wire.disk import write_whole

FORMAT = 1
log = logging.getLogger("grisaille.production")


def read_table(path: Path | None) -> dict[str, Any]:
    """The table that `write_table` wrote; empty where there is none, or none that can be read."""
    if path is None:
        return {}
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        log.warning("%s cannot be read and is begun anew: %s", path, error)
        return {}
    is_ours = isinstance(data, dict) and data.get("format") == FORMAT and isinstance(data.get("table"), dict)
    return data["table"] if is_ours else {}


def write_table(path: Path | None, table: dict[str, Any]) -> None:
    """Of two processes that write at once, the last wins. A disk that refuses is said in the log, and nothing else:
    what such a table knows can be found out again."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, [json.dumps({"format": FORMAT, "table": table}, allow_nan=False).encode()])
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error)
