"""The one state of the add-on in this Blender: the link to the backend, and what the panel shows of its jobs.

It lives in a holder in `sys.modules`, because module globals die when the add-on is reloaded and Blender clears
its driver namespace when a file is loaded. A reload finds the link, and its running job, as it left them.
"""

from __future__ import annotations

import atexit
import secrets
import sys
import time
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

import bpy

if TYPE_CHECKING:
    from ..backend.wire import Failure, GenerationRequest, Progress
    from .link import BackendPlace, Link

HOLDER = "_grisaille_state"
GRACE_SECONDS = 30.0
"""How long the link outlives the add-on: a reload takes a moment, and must not end a running job."""


@dataclass
class Job:
    """A picture on its way. `origin` says where it goes: see `results.origin`."""

    job_id: str
    request: GenerationRequest
    origin: dict[str, str]
    output: str = ""
    progress: Progress | None = None


@dataclass
class State:
    """Everything the add-on knows that is not in the .blend.

    jobs: queued and running, oldest first. failure: of the last job that ended badly, for the panel.
    session: names the file that is open now, also when it was never saved; new at each load.
    kept: origins, by job id, of results that are on disk until a saved .blend holds them.
    saved: job ids that the open file's last save holds.
    """

    link: Link | None = None
    place: BackendPlace | None = None
    jobs: dict[str, Job] = field(default_factory=dict)
    failure: Failure | None = None
    session: str = field(default_factory=lambda: secrets.token_hex(8))
    kept: dict[str, dict[str, str]] = field(default_factory=dict)
    saved: set[str] = field(default_factory=set)
    model_items: list[tuple[str, str, str, int]] = field(default_factory=list)
    previews: Any = None
    command: Any = None
    release_at: float = 0.0

    def connect(self, place: BackendPlace) -> Link:
        """The link to the backend at `place`; one to another place is closed first, unless jobs run there."""
        from .link import Link

        if self.link is not None and self.place != place and not self.jobs:
            self.close()
        if self.link is None:
            self.link, self.place = Link(place), place
        return self.link

    def close(self) -> None:
        """Ends the backend and forgets its jobs. What it finished stays on disk."""
        link, self.link, self.place = self.link, None, None
        self.jobs.clear()
        if link is not None:
            link.close()

    def new_file(self) -> None:
        """Another file is open: results of unsaved work before it are not this file's."""
        self.session = secrets.token_hex(8)
        self.saved = set()


def get() -> State:
    """The state, made on first use."""
    holder = sys.modules.get(HOLDER)
    if holder is None:
        holder = ModuleType(HOLDER, "Grisaille's state, kept while the add-on is reloaded.")
        state = State()
        vars(holder)["state"] = state
        sys.modules[HOLDER] = holder
        atexit.register(_end, state)
    return vars(holder)["state"]


def _end(state: State) -> None:
    acknowledge_saved(state)
    state.close()


def acknowledge_saved(state: State) -> None:
    """Lets go of the copies on disk of results that a saved .blend holds.

    Not on saving: the file's undo steps reach back before the result, and the user may save again there.
    """
    if state.link is not None:
        for job_id in state.saved & set(state.kept):
            state.link.acknowledge(job_id)
            del state.kept[job_id]
    state.saved = set()


def register() -> None:
    get().release_at = 0.0


def unregister() -> None:
    state = get()
    if state.link is None:
        return
    state.release_at = time.monotonic() + GRACE_SECONDS

    def close_unless_back() -> float | None:
        if state.release_at == 0.0:
            return None
        if time.monotonic() < state.release_at:
            return 1.0
        state.close()
        return None

    bpy.app.timers.register(close_unless_back, first_interval=GRACE_SECONDS, persistent=True)
