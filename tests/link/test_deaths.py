"""Either side may be killed at any moment: the other one knows, and no finished picture is lost."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import venv
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.link.conftest import ROOT, STAGED, events_until, is_running, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills with SIGKILL, which Windows lacks")
STATE_SECONDS = 2.0
GONE_SECONDS = 5.0


def in_the_middle(link) -> int:
    """Waits until a job is at a step; the backend's process id."""
    until(lambda: any(job.progress.step for job in link.jobs()), "a job's first step")
    return link.backend_pid


def test_killing_the_backend_in_a_job_is_known_at_once_and_the_next_job_starts_another(
    link, request_of, maps, tmp_path
):
    running = link.submit(request_of("steps=2000 pause=0.05"), maps, {"file": "a"})
    queued = link.submit(request_of("steps=1"), maps, {"file": "b"})
    pid = in_the_middle(link)
    os.kill(pid, signal.SIGKILL)
    until(lambda: link.state.name == "DIED", "the state says that it died", STATE_SECONDS)
    assert link.failure.kind == "backend_died"
    assert link.failure.message and link.failure.hint
    failed = {event.job_id: event for event in link.poll() if type(event).__name__ == "Failed"}
    assert set(failed) == {running, queued}
    assert {event.failure.kind for event in failed.values()} == {"backend_died"}
    assert failed[running].origin == {"file": "a"}
    assert link.jobs() == []
    assert list((tmp_path / "data" / "run").iterdir()) == [], "its socket is gone"
    assert link.wait(link.submit(request_of(), maps, {})).png
    assert link.backend_pid != pid
    assert (link.state.name, link.failure) == ("READY", None)


def test_killing_the_backend_between_jobs_is_known_too(link, request_of, maps):
    assert link.wait(link.submit(request_of(), maps, {})).png
    link.poll()
    os.kill(link.backend_pid, signal.SIGKILL)
    [event] = events_until(link, "StateChanged")
    assert (event.state.name, event.failure.kind) == ("DIED", "backend_died")


def test_a_job_that_takes_its_process_with_it_leaves_nothing_half_written(link, request_of, maps, tmp_path):
    assert link.wait(link.submit(request_of("crash"), maps, {})).kind == "backend_died"
    assert link.stored_results() == []
    assert link.wait(link.submit(request_of(), maps, {})).png
    names = [path.name for path in (tmp_path / "data" / "results").iterdir()]
    assert len(names) == 1 and not names[0].startswith("."), "the next backend swept up after the dead one"


def test_a_result_that_was_stored_but_never_announced_arrives(link, request_of, maps):
    job_id = link.submit(request_of("steps=1 lost size=321"), maps, {"file": "a"})
    result = link.wait(job_id)
    assert len(result.png) == 4 + 321
    assert [kept.job_id for kept in link.stored_results()] == [job_id]


def test_a_lost_connection_is_made_again_and_the_job_goes_on(link, request_of, maps):
    handshake = importlib.import_module(f"{STAGED}.backend.wire.handshake")
    endpoint = importlib.import_module(f"{STAGED}.backend.wire.endpoint")
    job_id = link.submit(request_of("steps=40 pause=0.1"), maps, {})
    pid = in_the_middle(link)
    [folder] = (link.place.data_folder / "run").iterdir()
    with endpoint.Endpoint(path=str(folder / "socket")).connect(5.0) as sock:
        # Another client with the secret takes the Link's place; the Link comes back and takes this one's.
        handshake.prove_as_client(sock, link._session._process.secret)
        until(lambda: not _has_more(sock), "the Link took its place back")
    assert link.wait(job_id).png
    assert link.backend_pid == pid
    assert link.wait(link.submit(request_of(), maps, {})).png


def _has_more(sock) -> bool:
    try:
        return bool(sock.recv(4096))
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


@pytest.mark.parametrize("mode", ["job", "fork"])
def test_killing_blender_ends_the_backend_with_its_socket(link_module, tmp_path, mode):
    staged = Path(sys.modules[STAGED].__file__ or "").parent.parent
    command = [sys.executable, str(ROOT / "tests" / "link" / "parent.py"), str(staged), str(tmp_path), mode]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as blender:
        assert blender.stdout is not None
        said = json.loads(blender.stdout.readline())
        try:
            assert is_running(said["backend"])
            assert len(list((tmp_path / "run").iterdir())) == 1
            blender.kill()
            blender.wait()
            until(lambda: not is_running(said["backend"]), "the backend ended", GONE_SECONDS)
            assert list((tmp_path / "run").iterdir()) == []
        finally:
            for pid in (said["backend"], said["other"]):
                with suppress(psutil.NoSuchProcess):
                    if pid:
                        psutil.Process(pid).kill()


def test_a_python_that_is_not_there_is_a_sentence(make_link, request_of, maps, tmp_path):
    link = make_link(python=tmp_path / "none" / "python")
    failure = link.wait(link.submit(request_of(), maps, {}))
    assert failure.kind == "backend_not_found"
    assert str(tmp_path / "none") in failure.message and failure.hint
    assert link.state.name == "DIED"


def test_a_python_without_torch_is_a_sentence_that_names_it(make_link, request_of, maps, tmp_path):
    venv.create(tmp_path / "empty", symlinks=True)
    link = make_link(python=tmp_path / "empty" / "bin" / "python", program=None)
    failure = link.wait(link.submit(request_of(), maps, {}))
    assert failure.kind == "backend_not_found"
    assert "torch" in failure.message and failure.hint


@pytest.mark.parametrize("program", [("-c", "raise SystemExit('broken on purpose')"), ("-c", "print('hello')")])
def test_a_program_that_is_no_backend_is_a_sentence_with_what_it_said(make_link, request_of, maps, program):
    link = make_link(program=program)
    failure = link.wait(link.submit(request_of(), maps, {}))
    assert failure.kind == "backend_not_found"
    assert ("broken on purpose" in failure.detail) == ("raise" in program[1])
    assert "exit code" in failure.detail


def test_a_backend_that_runs_but_cannot_be_reached_is_ended_with_a_sentence(
    make_link, request_of, maps, tmp_path, monkeypatch
):
    session = importlib.import_module(f"{STAGED}.addon.link.session")
    monkeypatch.setattr(session, "EXIT_SECONDS", 0.01)
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "file").write_text("kept")
    said = json.dumps({"grisaille": 1, "endpoint": {"path": str(folder / "socket"), "port": 0}})
    link = make_link(program=("-c", f"import sys; print({said!r}, flush=True); sys.stdin.read()"))
    failure = link.wait(link.submit(request_of(), maps, {}))
    assert failure.kind == "backend_died"
    assert "connection" in failure.message and failure.hint
    assert (folder / "file").read_text() == "kept"


def test_the_real_backend_gets_ready_from_the_staged_tree(make_link, tmp_path):
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    (tmp_path / "models" / "tiny" / "model.json").write_text("{}")
    link = make_link(program=None)
    link.start()
    until(lambda: link.state.name != "STARTING", "the start's end")
    assert (link.state.name, link.failure) == ("READY", None)
    assert link.models == ("tiny", "sample"), "and the one that ships"
    [log] = (tmp_path / "data" / "logs").glob("backend.log")
    assert "serving" in log.read_text()


def test_a_data_folder_that_cannot_be_written_is_a_sentence(link_module):
    staged = Path(sys.modules[STAGED].__file__ or "").parent.parent
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        command = [sys.executable, str(ROOT / "tests" / "link" / "parent.py"), str(staged), folder, "unwritable"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True)
        Path(folder).chmod(0o755)
        failure = json.loads(shown.stdout)["failure"]
        assert failure["kind"] == "not_writable"
        assert folder in failure["message"] and failure["hint"]
        assert list(Path(folder).iterdir()) == []
