"""Orders that were found in the cache, so that the same again costs no more than reading the picture."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..wire import GenerationRequest
from .file_identity import FileIdentity, file_identity
from .keeping import Order

ORDERS_MAX = 64


@dataclass(frozen=True, eq=False, slots=True)
class _Recent:
    order: Order
    key: str
    watched: Mapping[str, FileIdentity | None]


class RecentOrders:
    """What was decided of the last Requests, for as long as no file or folder that it was decided by has changed."""

    def __init__(self, models_folder: Path) -> None:
        self._models_folder = models_folder
        self._recent: OrderedDict[object, _Recent] = OrderedDict()

    def recall(self, request: GenerationRequest, digests: Mapping[str, str]) -> tuple[Order, str] | None:
        """The order and the key of its picture, where both hold still. digests: of all the maps, by name."""
        asked = _asked(request, digests)
        found = self._recent.get(asked)
        if found is None:
            return None
        if found.watched != _seen(found.watched):
            del self._recent[asked]
            return None
        self._recent.move_to_end(asked)
        return found.order, found.key

    def remember(self, request: GenerationRequest, digests: Mapping[str, str], order: Order, key: str) -> None:
        """request: as it was asked.

        Nothing is remembered where a map that is used has no digest yet, or where the model is to be chosen: that
        depends on more than files.
        """
        if not request.model or not order.map_digests.keys() <= digests.keys():
            return
        files = [os.fspath(path) for path in order.files()]
        folders = {os.path.dirname(path) for path in files}
        # A folder changes when a file comes or goes, one of a model when it shadows another of its name.
        folders |= {os.fspath(self._models_folder), os.fspath(order.folder.path)}
        self._recent[_asked(request, digests)] = _Recent(order, key, _seen([*files, *folders]))
        while len(self._recent) > ORDERS_MAX:
            self._recent.popitem(last=False)


def _asked(request: GenerationRequest, digests: Mapping[str, str]) -> object:
    return request, frozenset(digests.items())


def _seen(paths: Iterable[str]) -> dict[str, FileIdentity | None]:
    """What the files and folders are now; None where there is none."""
    seen: dict[str, FileIdentity | None] = {}
    for path in paths:
        try:
            seen[path] = file_identity(os.stat(path))
        except OSError:
            seen[path] = None
    return seen
