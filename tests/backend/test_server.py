"""A running backend process over its socket: what a well-behaved client meets, and how the process ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from backend.wire import ControlMaps, stored
from backend.wire.framing import Frame, send_frame
from backend.wire.messages import (
    Acknowledge,
    AskStatus,
    Bye,
    Cancel,
    Failed,
    Finished,
    Preview,
    ProgressMade,
    ServerMessage,
    Status,
)
from tests.door import (
    FAKE,
    RunningBackend,
    generate,
    is_hung_up,
    next_message,
    outcome,
    run_job,
    running_backend,
    until,
)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[RunningBackend]:
    with running_backend(tmp_path) as running:
        yield running


def first_of(sock, kind: type) -> ServerMessage:
    while not isinstance(message := next_message(sock), kind):
        pass
    return message


def test_a_job_reports_its_progress_and_previews_and_then_its_result(backend: RunningBackend) -> None:
    job = generate("steps=3 pause=0.1 preview", ControlMaps(depth=np.ones((64, 64), np.float32)))
    seen: list[ServerMessage] = []
    with backend.connect() as sock:
        send_frame(sock, job.to_frame())
        finished = outcome(sock, job.job_id, seen)
    assert isinstance(finished, Finished)
    assert finished.origin == job.origin and finished.result.plan["sums"] == {"depth": 4096.0}
    fractions = [message.progress.fraction for message in seen if isinstance(message, ProgressMade)]
    assert fractions == sorted(fractions) and fractions[-1] < 1.0
    assert any(isinstance(message, Preview) for message in seen)


def test_a_cancel_is_heard_while_a_job_runs(backend: RunningBackend) -> None:
    job = generate("steps=100000 pause=0.02")
    with backend.connect() as sock:
        send_frame(sock, job.to_frame())
        first_of(sock, ProgressMade)
        send_frame(sock, AskStatus().to_frame())
        status = first_of(sock, Status)
        assert isinstance(status, Status) and status.running == (job.job_id,)
        send_frame(sock, Cancel(job.job_id).to_frame())
        failed = outcome(sock, job.job_id)
        assert isinstance(failed, Failed) and failed.failure.kind == "cancelled"
        assert isinstance(run_job(sock, generate()), Finished)
    assert len(list((backend.data_folder / "results").iterdir())) == 1


def test_a_request_that_cannot_be_met_is_answered_and_the_connection_stays(backend: RunningBackend) -> None:
    frame = generate().to_frame()
    bad = {**frame.header, "request": {**frame.header["request"], "steps": 0}}
    with backend.connect() as sock:
        send_frame(sock, Frame(bad, {}))
        failed = next_message(sock)
        assert isinstance(failed, Failed) and failed.failure.kind == "bad_request"
        assert isinstance(run_job(sock, generate()), Finished)


def test_a_client_that_is_too_busy_to_read_holds_no_job_up(backend: RunningBackend) -> None:
    job = generate("steps=5000 preview")
    results = backend.data_folder / "results"
    with backend.connect() as sock:
        send_frame(sock, job.to_frame())
        until(lambda: (results / job.job_id).exists(), "the job ended with nobody reading")
        seen: list[ServerMessage] = []
        assert isinstance(outcome(sock, job.job_id, seen), Finished)
    assert len(seen) < 1000, "of ten thousand messages only the newest waited"


def test_a_result_waits_for_a_client_that_was_gone_when_it_came(backend: RunningBackend) -> None:
    job = generate("steps=5 pause=0.05")
    with backend.connect() as sock:
        send_frame(sock, job.to_frame())
        first_of(sock, ProgressMade)
        send_frame(sock, Bye().to_frame())
        assert is_hung_up(sock)
    results = backend.data_folder / "results"
    until(lambda: stored.stored_ids(results) == [job.job_id], "the job ended with nobody there")
    with backend.connect() as sock:

        def told() -> Status:
            send_frame(sock, AskStatus().to_frame())
            status = first_of(sock, Status)
            assert isinstance(status, Status)
            return status

        # The Result is on the disk a moment before the job is over.
        until(lambda: not told().running, "the job is over")
        assert told() == Status((), (), (job.job_id,))
        send_frame(sock, Acknowledge(job.job_id).to_frame())
        send_frame(sock, AskStatus().to_frame())
        assert first_of(sock, Status) == Status((), (), ())
    assert list(results.iterdir()) == []


def test_the_end_of_stdin_ends_the_process_in_the_middle_of_a_job(backend: RunningBackend) -> None:
    with backend.connect() as sock:
        send_frame(sock, generate("steps=1000 pause=60 ignore").to_frame())
        first_of(sock, ProgressMade)
        backend.stdin.close()
        assert is_hung_up(sock)
    assert backend.popen.wait(20.0) == 0
    assert list((backend.data_folder / "run").iterdir()) == []


def test_a_result_that_is_being_written_is_written_to_its_end(backend: RunningBackend) -> None:
    job = generate("slow_save")
    with backend.connect() as sock:
        send_frame(sock, job.to_frame())
        while True:
            message = first_of(sock, ProgressMade)
            if isinstance(message, ProgressMade) and message.progress.stage == "saving":
                break
        backend.stdin.close()
        assert backend.popen.wait(20.0) == 0
    assert [path.name for path in (backend.data_folder / "results").iterdir()] == [job.job_id]
    assert stored.read(backend.data_folder / "results", job.job_id) is not None


@pytest.mark.parametrize("line", [b"", b"{}\n", b"secret\n", b'{"secret": "00"}\n', b"[" * 70_000])
def test_a_configuration_that_is_none_ends_the_process_before_it_listens(tmp_path: Path, line: bytes) -> None:
    ended = subprocess.run([sys.executable, "-I", str(FAKE)], input=line, capture_output=True, cwd=tmp_path)
    assert ended.returncode != 0
    assert ended.stdout == b""
    assert list(tmp_path.iterdir()) == []


def test_the_log_rotates(tmp_path: Path) -> None:
    code = (
        "import logging, sys; from pathlib import Path; from backend import serving; "
        "serving.LOG_BYTES = 10_000; serving._start_log(Path(sys.argv[1])); "
        "[logging.getLogger('x').info('a line of the log, number %d', i) for i in range(2000)]"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=FAKE.parent.parent)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "backend.log",
        *(f"backend.log.{i}" for i in range(1, 5)),
    ]
    assert all(path.stat().st_size <= 10_000 for path in tmp_path.iterdir())
    assert "number 1999" in (tmp_path / "backend.log").read_text()
