"""The one state of the add-on in this Blender: the link to the backend, and what the panel shows of its jobs.

It lives in a holder in `sys.modules`, because module globals die when the add-on is reloaded and Blender clears
its driver namespace when a file is loaded. A reload finds the link, and its running job, as it left them.
"""

from __future__ import annotations

import atexit
import secrets
import sys
import time
from dataclasses import dataclass, field, fields
from types import ModuleType
from typing import TYPE_CHECKING, Any

import bpy

if TYPE_CHECKING:
    from pathlib import Path

    from ..backend.wire import Failure, GenerationRequest, Progress
    from .link import BackendPlace, Link
    from .link.diagnosis import Diagnosed, Diagnosis

HOLDER = "_grisaille_state"
GRACE_SECONDS = 30.0
"""How long the link outlives the add-on: a reload takes a moment, and must not end a running job."""


@dataclass
class Job:
    """A picture on its way. `origin` says where it goes: see `results.origin`.

    objects: names of those that a projected material goes on. output: a file for the picture, or "".
    """

    job_id: str
    request: GenerationRequest
    origin: dict[str, str]
    objects: tuple[str, ...] = ()
    output: str = ""
    progress: Progress | None = None


@dataclass(frozen=True)
class ShownPrompt:
    """What Show Prompt found. asked: the prompt, style and enhancement it was asked for, as the panel has them."""

    asked: tuple[str, str, bool]
    prompt: str
    tokens: str
    note: str


@dataclass
class State:
    """Everything the add-on knows that is not in the .blend.

    jobs: queued and running, oldest first. failure: of the last job that ended badly, for the panel.
    control_note: what the last Show Controls had to say of its pictures.
    shown_prompt: what the last Show Prompt found.
    session: names the file that is open now, also when it was never saved; new at each load.
    kept: origins, by job id, of results that are on disk until a saved .blend holds them.
    saved: job ids that the open file's last save holds. has_looked: whether the disk was read for `kept`.
    diagnosis: the one that runs. diagnosed: what the last one found, or why it found nothing.
    command: the command line's registration. previews: the icon of the picture while it is made.
    release_at: when the link is closed after the add-on was switched off, in monotonic seconds; 0 while it is on.
    """

    link: Link | None = None
    place: BackendPlace | None = None
    data_folder: Path | None = None
    jobs: dict[str, Job] = field(default_factory=dict)
    failure: Failure | None = None
    control_note: str = ""
    shown_prompt: ShownPrompt | None = None
    session: str = field(default_factory=lambda: secrets.token_hex(8))
    kept: dict[str, dict[str, str]] = field(default_factory=dict)
    saved: set[str] = field(default_factory=set)
    model_items: list[tuple[str, str, str, int]] = field(default_factory=list)
    network_items: list[tuple[str, str, str]] = field(default_factory=list)
    previews: Any = None
    command: Any = None
    diagnosis: Diagnosis | None = None
    diagnosed: Diagnosed | Failure | None = None
    has_looked: bool = False
    release_at: float = 0.0

    def connect(self, place: BackendPlace) -> Link:
        """The link to the backend at `place`; one to another place is closed first, unless jobs run there."""
        from .link import Link

        is_other = self.place != place or getattr(self.link, "api_version", None) != Link.api_version
        if self.link is not None and is_other and not self.jobs:
            self.close()
        if self.link is None:
            self.link, self.place, self.data_folder = Link(place), place, place.data_folder
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
        vars(holder)["state"] = State()
        sys.modules[HOLDER] = holder
        atexit.register(_end)
    return vars(holder)["state"]


def _end() -> None:
    from .results import kept

    kept.forget_saved()
    current = get()
    if current.diagnosis is not None:
        current.diagnosis.cancel()
    current.close()


def _renew() -> None:
    """After a reload the state is of the old module's class: its values move to one of ours."""
    old = get()
    if type(old) is State:
        return
    values = {item.name: getattr(old, item.name) for item in fields(State) if hasattr(old, item.name)}
    vars(sys.modules[HOLDER])["state"] = State(**values)


def register() -> None:
    _renew()
    get().release_at = 0.0


def unregister() -> None:
    current = get()
    if current.link is None:
        return
    current.release_at = time.monotonic() + GRACE_SECONDS

    def close_unless_back() -> float | None:
        now = get()
        if now.release_at == 0.0:
            return None
        if time.monotonic() < now.release_at:
            return 1.0
        now.close()
        return None

    bpy.app.timers.register(close_unless_back, first_interval=GRACE_SECONDS, persistent=True)
