"""The Link: the add-on's own queue of jobs, in front of a backend that is started when it is needed."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from ...backend.wire import messages, stored
from ...backend.wire.failure import Failure, FailureError, FailureKind
from ...backend.wire.maps import ControlMaps
from ...backend.wire.request import GenerationRequest
from ...backend.wire.result import GenerationResult, Progress
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
from .session import Session

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Job:
    job_id: str
    request: GenerationRequest
    maps: ControlMaps
    origin: dict[str, str]
    is_running: bool = False
    is_cancelling: bool = False
    progress: Progress = field(default_factory=lambda: Progress("waiting"))

    def status(self) -> JobStatus:
        return JobStatus(
            self.job_id, self.request, dict(self.origin), self.is_running, self.is_cancelling, self.progress
        )


class Link:
    """Everything the add-on knows of its backend. Methods may be called from any thread; none but `wait` waits
    for a job, and none but `close` waits for the process.

    The backend gets one job at a time, so that cancelling a queued one is instant. Its death is known from the end
    of the connection and of the process: the running and the queued jobs fail, the next `submit` starts another.
    """

    api_version = 1
    """Changes when a Link kept over a reload of the add-on no longer fits the code that was loaded."""

    def __init__(self, place: BackendPlace) -> None:
        self.place = place
        self._results = place.data_folder / "results"
        self._changed = threading.Condition()
        self._state = LinkState.STOPPED
        self._failure: Failure | None = None
        self._hello: messages.Hello | None = None
        self._session: Session | None = None
        self._jobs: dict[str, _Job] = {}
        self._events: list[Event] = []

    @property
    def state(self) -> LinkState:
        return self._state

    @property
    def failure(self) -> Failure | None:
        """Why the state is DIED; else None."""
        return self._failure

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the backend's models; empty until it was ready once."""
        return self._hello.models if self._hello else ()

    @property
    def backend_pid(self) -> int | None:
        """The backend's process id while there is one."""
        session = self._session
        return session.pid if session else None

    def start(self) -> None:
        """Starts the backend unless it runs. Returns at once: the state becomes STARTING, then READY or DIED."""
        with self._changed:
            if self._session is not None:
                return
            self._session = Session(self.place, self)
            self._set_state(LinkState.STARTING)
            self._session.start()

    def submit(self, request: GenerationRequest, maps: ControlMaps, origin: dict[str, str]) -> str:
        """Queues a job, starts the backend when needed, and gives the job's id. What is wrong comes as `Failed`.

        `origin` says where the job came from (a few short texts: the file, the session); it is kept with the Result.
        The arrays of `maps` must not be changed afterwards. Raises `ValueError` for an origin of another shape.
        """
        if not stored.is_origin(origin):
            raise ValueError("an origin is a few short texts by name")
        job = _Job(uuid.uuid4().hex, request, maps, dict(origin))
        with self._changed:
            self._jobs[job.job_id] = job
            try:
                request.check()
                maps.check_sendable()
            except FailureError as error:
                self._fail(job, error.failure)
                return job.job_id
            self.start()
            self._pump()
        return job.job_id

    def cancel(self, job_id: str) -> None:
        """Cancels a job: a queued one is gone at once, a running one at its next step. Others are no error."""
        with self._changed:
            job = self._jobs.get(job_id)
            if job is None or job.is_cancelling:
                return
            if job.is_running and self._session is not None:
                job.is_cancelling = True
                self._session.tell(messages.Cancel(job_id))
            else:
                self._fail(job, _cancelled())

    def cancel_all(self) -> None:
        """Cancels the queued jobs, then the running one."""
        with self._changed:
            for job in sorted(self._jobs.values(), key=lambda job: job.is_running):
                self.cancel(job.job_id)

    def jobs(self) -> list[JobStatus]:
        """The jobs that are not done, in the order of their submission."""
        with self._changed:
            return [job.status() for job in self._jobs.values()]

    def poll(self) -> list[Event]:
        """What has happened since the last call. Cheap: for a timer on the main thread."""
        with self._changed:
            events, self._events = self._events, []
        return events

    def wait(self, job_id: str, on_event: Callable[[Event], None] | None = None) -> GenerationResult | Failure:
        """Waits for the job's end, giving its events to `on_event` on the way; `poll` will not have them.

        For scripts and background, where no timer runs. A job that ended before is answered from its stored Result.
        """
        while True:
            with self._changed:
                mine = self._take_events(job_id)
                if not mine and job_id not in self._jobs:
                    return self._past(job_id)
                if not mine:
                    # Bounded, because Windows does not deliver Ctrl-C to a thread that waits for ever.
                    self._changed.wait(0.2)
            for event in mine:
                if on_event is not None:
                    on_event(event)
                if isinstance(event, Finished):
                    return event.result
                if isinstance(event, Failed):
                    return event.failure

    def acknowledge(self, job_id: str) -> None:
        """The Result is in the history: its files go. Works also when no backend runs. Raises `ValueError`
        when `job_id` is not a job's id, `OSError` when the files cannot be removed."""
        stored.remove(self._results, job_id)
        with self._changed:
            if self._session is not None and self._state is LinkState.READY:
                self._session.tell(messages.Acknowledge(job_id))

    def stored_results(self) -> list[StoredResult]:
        """The finished Results that nobody has acknowledged, oldest first, from disk: also those of an earlier
        Blender, so look at their origin. Damaged ones are left out, and logged."""
        found: list[StoredResult] = []
        for job_id in stored.stored_ids(self._results):
            try:
                result = stored.read(self._results, job_id)
            except (OSError, ValueError) as error:
                _log.warning("the stored result %s cannot be read: %s", job_id, error)
                continue
            if result is not None:
                found.append(result)
        return sorted(found, key=lambda result: result.finished)

    def close(self) -> None:
        """Ends the backend and waits for its end; the jobs that are not done fail as cancelled. Can start again."""
        with self._changed:
            session, self._session = self._session, None
            for job in list(self._jobs.values()):
                self._fail(job, _cancelled())
            if session is not None:
                session.tell(messages.Bye())
                self._set_state(LinkState.STOPPED)
        if session is not None:
            session.close()

    def on_ready(self, session: Session, hello: messages.Hello) -> None:
        """For the Session's thread."""
        with self._changed:
            if session is not self._session:
                return
            self._hello = hello
            if self._state is LinkState.READY:
                # The connection was made anew: ask what became of the job in the meantime.
                session.tell(messages.AskStatus())
                return
            self._set_state(LinkState.READY)
            self._pump()

    def on_message(self, session: Session, message: messages.ServerMessage) -> None:
        """For the Session's thread."""
        with self._changed:
            if session is not self._session:
                return
            if isinstance(message, messages.Status):
                self._reconcile(message)
                return
            job = self._jobs.get(getattr(message, "job_id", ""))
            if job is None:
                return
            match message:
                case messages.ProgressMade(progress=progress):
                    job.progress = progress
                    self._replace(Progressed(job.job_id, progress))
                case messages.Preview(image=image):
                    self._replace(Previewed(job.job_id, image))
                case messages.Finished(result=result):
                    self._finish(job, result)
                case messages.Failed(failure=failure):
                    self._fail(job, failure)
            self._pump()

    def on_unsendable(self, session: Session, message: messages.ClientMessage, reason: str) -> None:
        """For the Session's thread."""
        with self._changed:
            job = self._jobs.get(getattr(message, "job_id", ""))
            if job is not None:
                text = "The job could not be sent to the backend."
                self._fail(job, Failure(FailureKind.BAD_REQUEST, text, "Capture the view again.", reason))
                self._pump()

    def on_ended(self, session: Session, failure: Failure) -> None:
        """For the Session's thread."""
        with self._changed:
            if session is not self._session:
                return
            self._session = None
            for job in list(self._jobs.values()):
                self._settle(job, failure)
            self._set_state(LinkState.DIED, failure)

    def _set_state(self, state: LinkState, failure: Failure | None = None) -> None:
        self._state, self._failure = state, failure
        self._add(StateChanged(state, failure))

    def _add(self, event: Event) -> None:
        self._events.append(event)
        self._changed.notify_all()

    def _replace(self, event: Progressed | Previewed) -> None:
        """Adds the event in the place of an older one of its kind, which nobody would look at any more."""
        self._events = [
            old
            for old in self._events
            if not (isinstance(old, type(event)) and getattr(old, "job_id", "") == event.job_id)
        ]
        self._add(event)

    def _pump(self) -> None:
        """Gives the backend the next job, when it has none."""
        if self._state is not LinkState.READY or self._session is None:
            return
        if any(job.is_running for job in self._jobs.values()):
            return
        for job in self._jobs.values():
            job.is_running = True
            self._session.tell(messages.Generate(job.job_id, job.request, job.maps, job.origin))
            return

    def _finish(self, job: _Job, result: GenerationResult) -> None:
        del self._jobs[job.job_id]
        self._add(Finished(job.job_id, result, job.origin))

    def _fail(self, job: _Job, failure: Failure) -> None:
        del self._jobs[job.job_id]
        self._add(Failed(job.job_id, failure, job.origin))

    def _settle(self, job: _Job, failure: Failure) -> None:
        """Ends a job whose backend is gone or forgot it: with its Result if that was stored, else with `failure`."""
        kept = self._past(job.job_id)
        if isinstance(kept, GenerationResult):
            self._finish(job, kept)
        else:
            self._fail(job, _cancelled() if job.is_cancelling else failure)

    def _reconcile(self, status: messages.Status) -> None:
        for job in list(self._jobs.values()):
            if job.is_running and job.job_id not in (*status.running, *status.queued):
                text = "The connection to the backend was lost, and the job with it."
                self._settle(job, Failure(FailureKind.BACKEND_DIED, text, "Generate again."))
        self._pump()

    def _take_events(self, job_id: str) -> list[Event]:
        mine = [event for event in self._events if getattr(event, "job_id", "") == job_id]
        self._events = [event for event in self._events if getattr(event, "job_id", "") != job_id]
        return mine

    def _past(self, job_id: str) -> GenerationResult | Failure:
        """What is left of a job that is not in the queue: its stored Result, or that there is none."""
        try:
            kept = stored.read(self._results, job_id)
        except (OSError, ValueError) as error:
            return Failure(FailureKind.INTERNAL, "The job's result cannot be read.", "Generate again.", str(error))
        if kept is None:
            return Failure(FailureKind.INTERNAL, "There is no such job.", "Generate again.", job_id)
        return kept.result


def _cancelled() -> Failure:
    return Failure(FailureKind.CANCELLED, "The job was cancelled.", "Generate again when you like.")
