"""The add-on's side of the door: starts and watches the backend's process, queues jobs, brings their events.

Knows nothing of Blender. A `Link` outlives a reload of the add-on when it is kept outside of its modules; after that
its events and enums are of the old modules' classes, so compare them by `type(event).__name__` or make a new Link
when `Link.api_version` differs.
"""

from __future__ import annotations

from ...backend.wire.stored import StoredResult
from .events import (
    BackendPlace,
    Event,
    Failed,
    Finished,
    JobStatus,
    LinkState,
    Previewed,
    Progressed,
    StateChanged,
)
from .link import Link

__all__ = [
    "BackendPlace",
    "Event",
    "Failed",
    "Finished",
    "JobStatus",
    "Link",
    "LinkState",
    "Previewed",
    "Progressed",
    "StateChanged",
    "StoredResult",
]
