"""The jobs' queue, in this process, with a fake production."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.jobs import QUEUE_MAX, Jobs
from backend.lifeline import is_alive, sweep
from backend.wire import ControlMaps, GenerationRequest, GenerationResult, stored
from backend.wire.messages import Failed, Finished, Generate, ProgressMade, ServerMessage
from tests.door import generate, until
from tests.fake_production import FakeProduction


class Room:
    """Jobs whose engine waits for `gate`, and all they said, with what was on disk when they said it."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.gate = threading.Event()
        self.said: list[tuple[ServerMessage, list[str]]] = []
        self.jobs = Jobs(lambda: self, results, self._hear, free_min=0)
        self.jobs.start()

    def run(self, request: GenerationRequest, maps: ControlMaps, **callbacks: Any) -> Any:
        self.gate.wait(60.0)
        return FakeProduction().run(request, maps, **callbacks)

    def _hear(self, message: ServerMessage) -> None:
        self.said.append((message, stored.stored_ids(self.results)))

    def outcome(self, job: Generate) -> Finished | Failed:
        return until(lambda: next(iter(self._ends(job)), None), "the job's end")

    def _ends(self, job: Generate) -> list[Finished | Failed]:
        return [said for said, _ in self.said if isinstance(said, Finished | Failed) and said.job_id == job.job_id]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path / "results")
    yield made
    made.gate.set()


def test_a_result_is_on_disk_before_it_is_announced_and_until_acknowledged(room: Room) -> None:
    room.gate.set()
    job = generate("size=42")
    room.jobs.submit(job)
    finished = room.outcome(job)
    assert isinstance(finished, Finished)
    assert [ids for said, ids in room.said if said is finished] == [[job.job_id]]
    kept = stored.read(room.results, job.job_id)
    assert kept is not None and (kept.result, kept.origin) == (finished.result, job.origin)
    assert room.jobs.status().stored == (job.job_id,)
    room.jobs.acknowledge(job.job_id)
    assert list(room.results.iterdir()) == []


def test_one_job_at_a_time_in_their_order_and_cancelled_ones_never(room: Room) -> None:
    jobs = [generate() for _ in range(4)]
    for job in jobs:
        room.jobs.submit(job)
    until(lambda: room.jobs.status().running == (jobs[0].job_id,), "the first runs")
    assert room.jobs.status().queued == tuple(job.job_id for job in jobs[1:])
    room.jobs.cancel(jobs[2].job_id)
    room.jobs.cancel(jobs[0].job_id)
    room.jobs.cancel("f" * 32)
    room.gate.set()
    outcomes = [room.outcome(job) for job in jobs]
    assert [type(outcome) for outcome in outcomes] == [Failed, Finished, Failed, Finished]
    assert {outcome.failure.kind for outcome in outcomes if isinstance(outcome, Failed)} == {"cancelled"}
    assert set(stored.stored_ids(room.results)) == {jobs[1].job_id, jobs[3].job_id}
    assert len(list(room.results.iterdir())) == 2, "nothing half-written is left of the cancelled"


def test_a_job_that_is_there_already_and_one_too_many_are_refused(room: Room) -> None:
    jobs = [generate() for _ in range(QUEUE_MAX + 2)]
    for job in jobs[:1]:
        room.jobs.submit(job)
    until(lambda: room.jobs.status().running, "the first runs")
    for job in jobs[1:]:
        room.jobs.submit(job)
    room.jobs.submit(generate())
    refused = room.outcome(jobs[-1])
    assert isinstance(refused, Failed) and refused.failure.kind == "bad_request"
    again = len(room.said)
    room.jobs.submit(jobs[0])
    [(message, _)] = room.said[again:]
    assert isinstance(message, Failed) and message.failure.kind == "protocol"


def test_maps_that_do_not_fit_are_refused_before_the_engine_runs(room: Room) -> None:
    room.gate.set()
    for maps in (
        ControlMaps(depth=np.zeros((64, 32), np.float32)),
        ControlMaps(line=np.full((64, 64), np.nan, np.float32)),
    ):
        job = generate(maps=maps)
        room.jobs.submit(job)
        refused = room.outcome(job)
        assert isinstance(refused, Failed) and refused.failure.kind == "bad_request"
    assert not any(isinstance(said, ProgressMade) for said, _ in room.said)


def test_an_engine_that_does_not_import_fails_its_jobs_by_name(tmp_path: Path) -> None:
    said: list[ServerMessage] = []

    def broken() -> FakeProduction:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    jobs = Jobs(broken, tmp_path, said.append, free_min=0)
    jobs.start()
    jobs.submit(generate())
    until(lambda: said, "the failure")
    assert isinstance(said[0], Failed) and said[0].failure.kind == "backend_not_found"
    assert "torch" in said[0].failure.message


def test_what_the_dead_left_is_swept_up_and_what_the_living_write_is_not(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    assert not is_alive(dead.pid) and is_alive(os.getpid())
    for name in (f"{stored.PARTIAL}{dead.pid}-a", f"{stored.PARTIAL}{os.getpid()}-b", f"{dead.pid}-c", "other"):
        (tmp_path / name / "inside").mkdir(parents=True)
    sweep(tmp_path, stored.PARTIAL)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [f"{stored.PARTIAL}{os.getpid()}-b", f"{dead.pid}-c", "other"]
    )
    sweep(tmp_path / "none", "")


def test_a_stored_result_is_whole_with_its_control_pictures(tmp_path: Path) -> None:
    job_id = "a" * 32
    result = GenerationResult(
        GenerationRequest("", 64, 64, task="show_controls"),
        control_pngs={"depth": b"d", "line": b"l"},
        plan={"path": tmp_path, "sizes": (1, 2)},
        timings={"control": 0.25},
        peak_memory=7,
    )
    stored.write(stored.prepare(tmp_path, job_id), job_id, result, {"file": "ä \U0001f600"})
    kept = stored.read(tmp_path, job_id)
    assert kept is not None
    assert kept.result.control_pngs == {"depth": b"d", "line": b"l"} and kept.result.png == b""
    assert kept.result.plan == {"path": str(tmp_path), "sizes": [1, 2]}
    assert kept.origin == {"file": "ä \U0001f600"}
    (tmp_path / job_id / "control-line.png").unlink()
    with pytest.raises(ValueError, match="lacks a file"):
        stored.read(tmp_path, job_id)
    assert stored.read(tmp_path, "b" * 32) is None


def test_a_library_that_asks_to_exit_ends_its_job_and_not_the_worker(tmp_path: Path) -> None:
    said: list[ServerMessage] = []

    class Exiting:
        def run(self, *arguments: Any, **callbacks: Any) -> GenerationResult:
            sys.exit(3)

    jobs = Jobs(Exiting, tmp_path, said.append, free_min=0)
    jobs.start()
    for _ in range(2):
        jobs.submit(generate())
    until(lambda: len(said) == 2, "both jobs' ends")
    assert [message.failure.kind for message in said if isinstance(message, Failed)] == ["internal", "internal"]
