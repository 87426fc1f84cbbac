"""Disks that refuse: full, or not writable, each for real and without root's powers."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.wire.messages import Failed, Finished
from tests.disks import small_disk
from tests.door import RunningBackend, generate, run_job, running_backend
from tests.fake_backend import NOBODY

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses permissions and limits that Windows lacks")


@pytest.fixture
def data_folder() -> Iterator[Path]:
    """A data folder that a process without root's powers owns; pytest's own temporary folders are closed to it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        (path / "results").mkdir()
        if os.geteuid() == 0:
            for owned in (path, path / "results"):
                os.chown(owned, NOBODY, NOBODY)
        yield path
        for folder in (path, path / "results"):
            folder.chmod(0o755)


def assert_failed(backend: RunningBackend, prompt: str, kind: str, folder: Path) -> None:
    with backend.connect() as sock:
        outcome = run_job(sock, generate(prompt))
        assert isinstance(outcome, Failed)
        assert outcome.failure.kind == kind
        assert str(folder) in outcome.failure.message and outcome.failure.hint
        assert "Traceback" not in outcome.failure.message


def assert_works(backend: RunningBackend) -> None:
    with backend.connect() as sock:
        assert isinstance(run_job(sock, generate()), Finished)


def test_a_data_folder_that_is_not_writable_ends_the_start_with_a_sentence(data_folder: Path) -> None:
    data_folder.chmod(0o555)
    with running_backend(data_folder, drop=True) as backend:
        assert backend.said["failure"]["kind"] == "not_writable"
        assert str(data_folder) in backend.said["failure"]["message"]
        assert backend.popen.wait(20.0) == 1
    assert [path.name for path in data_folder.iterdir()] == ["results"]


def test_results_that_are_not_writable_fail_the_job_before_it_runs_and_the_next_one_works(data_folder: Path) -> None:
    results = data_folder / "results"
    results.chmod(0o555)
    with running_backend(data_folder, drop=True) as backend:
        assert_failed(backend, "steps=1", "not_writable", results)
        assert list(results.iterdir()) == []
        results.chmod(0o755)
        assert_works(backend)


@pytest.mark.skipif(sys.platform != "linux", reason="sets another process's limit with Linux's prlimit")
def test_a_picture_that_may_not_be_written_whole_leaves_nothing_behind(data_folder: Path) -> None:
    import resource

    results = data_folder / "results"
    with running_backend(data_folder) as backend:
        limits = resource.prlimit(backend.popen.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(backend.popen.pid, resource.RLIMIT_FSIZE, (100_000, limits[1]))
        assert_failed(backend, "size=500000", "disk_full", results)
        assert list(results.iterdir()) == []
        assert_works(backend)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 80) as folder:
        yield folder


def test_a_disk_that_fills_up_during_a_job_is_a_sentence_and_leaves_nothing_behind(disk: Path) -> None:
    results = disk / "results"
    with running_backend(disk) as backend:
        assert_works(backend)
        before = sorted(results.iterdir())
        assert_failed(backend, f"fill={disk} size=500000", "disk_full", results)
        assert sorted(results.iterdir()) == before
        # Full already: refused before the engine runs, not after a minute's work.
        assert_failed(backend, "steps=1", "disk_full", results)
        (disk / "filler").unlink()
        assert_works(backend)
