"""The backend's jobs: one at a time, each finished Result on disk before anyone hears of it."""

from __future__ import annotations

import errno
import logging
import shutil
import threading
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .lifeline import sweep
from .wire import stored
from .wire.disk import disk_failures
from .wire.failure import Failure, FailureError, FailureKind
from .wire.maps import ControlMaps
from .wire.messages import Failed, Finished, Generate, Preview, ProgressMade, ServerMessage, Status
from .wire.request import GenerationRequest
from .wire.result import GenerationResult, Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

QUEUE_MAX = 16
FREE_MIN = 64 * 2**20
"""Bytes that must be free before a job begins: its pictures have to go somewhere."""
_log = logging.getLogger(__name__)


class Producer(Protocol):
    """What makes pictures: `backend.production.Production`, or a stand-in for it in the tests of the door."""

    def run(
        self,
        request: GenerationRequest,
        maps: ControlMaps,
        *,
        on_progress: Callable[[Progress], None],
        on_preview: Callable[[NDArray[np.uint8]], None],
        is_cancelled: Callable[[], bool],
        digests: Mapping[str, str],
    ) -> GenerationResult | Failure: ...


class Jobs:
    """A queue with one worker thread. Every method may be called from any thread.

    `make_producer` is called when the first job runs: importing an engine can keep every thread waiting for seconds.
    `announce` is called from the worker with what the client should hear; it must not block.
    `free_min`: bytes that must be free on the results' disk before a job begins.
    """

    def __init__(
        self,
        make_producer: Callable[[], Producer],
        results: Path,
        announce: Callable[[ServerMessage], None],
        free_min: int = FREE_MIN,
    ) -> None:
        self._make_producer = make_producer
        self._results = results
        self._announce = announce
        self._free_min = free_min
        self._producer: Producer | None = None
        self._changed = threading.Condition()
        self._queue: deque[Generate] = deque()
        self._running: Generate | None = None
        self._is_cancelled = False
        self._is_saving = False
        sweep(results, stored.PARTIAL)
        sweep(results, stored.TRASH)
        self._worker = threading.Thread(target=self._work, name="grisaille-jobs", daemon=True)

    def start(self) -> None:
        self._worker.start()

    def submit(self, job: Generate) -> None:
        """Queues the job; one that cannot be queued is announced as failed."""
        with self._changed:
            ids = [queued.job_id for queued in self._queue] + [self._running.job_id if self._running else ""]
            if job.job_id not in ids and len(self._queue) < QUEUE_MAX:
                self._queue.append(job)
                self._changed.notify_all()
                return
        self._announce(Failed(job.job_id, _refused(job.job_id in ids)))

    def cancel(self, job_id: str) -> None:
        """Stops the job at its next step, or takes it out of the queue. An id that is not here is no error."""
        with self._changed:
            if self._running is not None and self._running.job_id == job_id:
                self._is_cancelled = True
                return
            waiting = [job for job in self._queue if job.job_id == job_id]
            for job in waiting:
                self._queue.remove(job)
        for job in waiting:
            self._announce(Failed(job.job_id, cancelled()))

    def acknowledge(self, job_id: str) -> None:
        """Forgets a stored Result."""
        try:
            stored.remove(self._results, job_id)
        except OSError:
            _log.exception("the stored result %s could not be removed", job_id)

    def status(self) -> Status:
        with self._changed:
            running = (self._running.job_id,) if self._running else ()
            queued = tuple(job.job_id for job in self._queue)
        return Status(running, queued, tuple(stored.stored_ids(self._results)[:1000]))

    def wait_saved(self, seconds: float) -> None:
        """Waits until no Result is being written, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_saving, seconds)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue)
                job = self._running = self._queue.popleft()
                self._is_cancelled = False
            try:
                outcome = self._finish(job)
            except FailureError as error:
                outcome = Failed(job.job_id, error.failure)
            except (Exception, SystemExit) as error:
                # Whatever happens to one job, the next one gets its turn.
                _log.exception("job %s failed", job.job_id)
                outcome = Failed(job.job_id, internal(error))
            with self._changed:
                self._running = None
                self._is_saving = False
                self._changed.notify_all()
            self._announce(outcome)
            # Its maps and pictures are not kept until the next job comes.
            del job, outcome

    def _finish(self, job: Generate) -> Finished:
        """Runs the job and stores its Result. Raises `FailureError`."""
        with disk_failures(self._results):
            self._results.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self._results).free < self._free_min:
                raise OSError(errno.ENOSPC, "too little is free")
            partial = stored.prepare(self._results, job.job_id)
        try:
            result = self._produce(job)
            with self._changed:
                self._is_saving = True
            self._announce(ProgressMade(job.job_id, Progress("saving", fraction=0.99)))
            with disk_failures(self._results):
                stored.write(partial, job.job_id, result, job.origin)
        finally:
            stored.discard(partial)
        _log.info("job %s is stored", job.job_id)
        return Finished(job.job_id, result, job.origin)

    def _produce(self, job: Generate) -> GenerationResult:
        job.maps.check(job.request.width, job.request.height)
        if self._producer is None:
            self._producer = _made(self._make_producer)
        outcome = self._producer.run(
            job.request,
            job.maps,
            on_progress=lambda progress: self._announce(ProgressMade(job.job_id, progress)),
            on_preview=lambda image: self._announce(Preview(job.job_id, image)),
            is_cancelled=lambda: self._is_cancelled,
            digests=job.digests,
        )
        if isinstance(outcome, Failure):
            raise FailureError(outcome)
        return outcome


def cancelled() -> Failure:
    return Failure(FailureKind.CANCELLED, "The job was cancelled.", "Generate again when you like.")


def internal(error: BaseException) -> Failure:
    """A fault of ours, with its traceback as the detail."""
    detail = "".join(traceback.format_exception(error))
    return Failure(
        FailureKind.INTERNAL,
        "Something went wrong inside the backend.",
        "Generate again; if it stays, report it with the backend's log.",
        detail,
    )


def _refused(is_known: bool) -> Failure:
    if is_known:
        return Failure(FailureKind.PROTOCOL, "This job is already there.", "Generate again.")
    message = f"{QUEUE_MAX} jobs are waiting already."
    return Failure(FailureKind.BAD_REQUEST, message, "Wait for some of them, or cancel them.")


def _made(make_producer: Callable[[], Any]) -> Producer:
    try:
        return make_producer()
    except ImportError as error:
        raise FailureError.of(
            FailureKind.BACKEND_NOT_FOUND,
            f"The backend's Python lacks the module {error.name}.",
            "Install the backend again, or choose its Python in the preferences.",
            "".join(traceback.format_exception(error)),
        ) from error
