"""A job's way from `Link.submit` to its events, over a real socket to a real process."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.link.conftest import ROOT, STAGED, events_until, until


def names(events):
    return [type(event).__name__ for event in events]


@pytest.mark.parametrize("transport", ["auto", "tcp"])
def test_a_job_comes_back_finished_with_its_origin(make_link, request_of, maps, link_module, transport):
    link = make_link(transport=transport)
    assert link.state is link_module.LinkState.STOPPED
    job_id = link.submit(request_of("steps=3 preview size=5000"), maps, {"file": "a.blend", "session": "1"})
    events = events_until(link, "Finished")
    finished = events[-1]
    assert (finished.job_id, finished.origin) == (job_id, {"file": "a.blend", "session": "1"})
    assert finished.result.png == b"\x89PNG" + b"\x2a" * 5000
    assert finished.result.plan["sums"] == {"depth": 64.0 * 64.0, "normal": 0.0}
    assert finished.result.request == request_of("steps=3 preview size=5000")
    assert "Progressed" in names(events)
    states = [event.state.name for event in events if type(event).__name__ == "StateChanged"]
    assert states == ["STARTING", "READY"]
    assert link.jobs() == []


def test_waiting_needs_no_timer_and_leaves_other_jobs_events_to_poll(link, request_of, maps):
    first = link.submit(request_of("steps=1"), maps, {})
    second = link.submit(request_of("steps=1 preview"), maps, {})
    seen = []
    result = link.wait(second, seen.append)
    assert result.png.startswith(b"\x89PNG")
    assert {event.job_id for event in seen} == {second}
    assert names(seen)[-1] == "Finished"
    polled = [event for event in link.poll() if type(event).__name__ == "Finished"]
    assert [event.job_id for event in polled] == [first]
    assert link.wait(second).png == result.png, "a job that ended before is answered from its stored Result"


@pytest.mark.skipif(os.name == "nt", reason="Windows has priority classes instead: needs a test on Windows")
@pytest.mark.parametrize(("device", "niceness"), [("cpu", 19), ("cuda", 10)])
def test_the_backend_leaves_the_processor_to_blender_in_the_same_session(make_link, device, niceness):
    link = make_link(device=device)
    link.start()
    events_until(link, "StateChanged")
    until(lambda: link.backend_pid and link.state.name == "READY", "a backend")
    assert psutil.Process(link.backend_pid).nice() == min(19, psutil.Process().nice() + niceness)
    assert os.getsid(link.backend_pid) == os.getsid(0)
    assert os.getpgid(link.backend_pid) == link.backend_pid, "Ctrl-C in the terminal would reach it"


def test_a_job_that_never_was_is_a_failure_and_no_hang(link):
    assert link.wait("0" * 32).kind == "internal"


def test_previews_arrive_as_pictures(link, request_of, maps):
    seen = []
    link.wait(link.submit(request_of("steps=2 pause=0.2 preview"), maps, {}), seen.append)
    images = [event.image for event in seen if type(event).__name__ == "Previewed"]
    assert images
    assert all(image.shape == (64, 64, 3) and image.dtype == np.uint8 for image in images)


def test_a_running_job_is_cancelled_between_its_steps_and_a_queued_one_at_once(link, request_of, maps):
    running = link.submit(request_of("steps=2000 pause=0.05"), maps, {})
    queued = link.submit(request_of("steps=1"), maps, {"file": "q"})
    until(lambda: any(job.progress.step for job in link.jobs()), "the first job's progress")
    assert [(job.job_id, job.is_running) for job in link.jobs()] == [(running, True), (queued, False)]
    link.cancel(queued)
    failed = [event for event in link.poll() if type(event).__name__ == "Failed"]
    assert [(event.job_id, event.failure.kind, event.origin) for event in failed] == [
        (queued, "cancelled", {"file": "q"})
    ]
    link.cancel(running)
    assert link.wait(running).kind == "cancelled"
    assert link.wait(link.submit(request_of("steps=1"), maps, {})).png, "the next job works"


def test_cancel_all_leaves_nothing(link, request_of, maps):
    jobs = [link.submit(request_of("steps=2000 pause=0.05"), maps, {}) for _ in range(3)]
    until(lambda: any(job.progress.step for job in link.jobs()), "progress")
    link.cancel_all()
    assert [link.wait(job).kind for job in jobs] == ["cancelled"] * 3
    assert link.jobs() == []


def test_a_request_that_cannot_be_met_fails_with_a_sentence_and_starts_nothing(link, request_of, maps, link_module):
    for bad in ({"steps": 0}, {"width": 0}, {"width": 20000}, {"prompt": " "}):
        failure = link.wait(link.submit(request_of(**bad), maps, {}))
        assert failure.kind == "bad_request"
        assert failure.message and failure.hint
    assert link.state is link_module.LinkState.STOPPED


def test_maps_of_another_size_fail_without_ending_the_backend(link, request_of, maps):
    failure = link.wait(link.submit(request_of(width=128), maps, {}))
    assert failure.kind == "bad_request"
    assert "(64, 128)" in failure.message
    pid = link.backend_pid
    assert link.wait(link.submit(request_of(), maps, {})).png
    assert link.backend_pid == pid


def test_maps_that_may_not_travel_fail_by_name(link, request_of, wire):
    bad = wire.ControlMaps(depth=np.zeros((64, 64), np.float64))
    assert link.wait(link.submit(request_of(), bad, {})).kind == "bad_request"
    assert link.wait(link.submit(request_of(), wire.ControlMaps(), {})).png


def test_an_exception_in_the_engine_is_a_failure_with_its_traceback_and_the_next_job_works(link, request_of, maps):
    failure = link.wait(link.submit(request_of("raise"), maps, {}))
    assert failure.kind == "internal"
    assert "told to raise" in failure.detail
    assert link.wait(link.submit(request_of(), maps, {})).png


def test_what_libraries_print_goes_to_the_log(link, request_of, maps, tmp_path):
    assert link.wait(link.submit(request_of("print"), maps, {})).png
    assert "a library prints" in (tmp_path / "data" / "logs" / "backend.stderr.log").read_text()


def test_results_are_kept_on_disk_until_acknowledged(link, make_link, request_of, maps, tmp_path):
    job_id = link.submit(request_of("size=77"), maps, {"file": "a.blend"})
    result = link.wait(job_id)
    [kept] = link.stored_results()
    assert (kept.job_id, kept.origin, kept.result) == (job_id, {"file": "a.blend"}, result)
    link.close()
    other = make_link()
    assert [kept.job_id for kept in other.stored_results()] == [job_id]
    other.acknowledge(job_id)
    assert other.stored_results() == []
    assert list((tmp_path / "data" / "results").iterdir()) == []
    other.acknowledge(job_id)


@pytest.mark.parametrize("job_id", ["", "..", "../../x", "a" * 31, "A" * 32, "0" * 32 + "/"])
def test_only_a_jobs_own_folder_can_be_acknowledged(link, tmp_path, job_id):
    victim = tmp_path / "x"
    victim.mkdir()
    with pytest.raises(ValueError, match="id of a job"):
        link.acknowledge(job_id)
    assert victim.exists()


def test_a_damaged_stored_result_is_left_out_and_logged(link, request_of, maps, tmp_path, caplog):
    good = link.submit(request_of(), maps, {})
    assert link.wait(good).png
    bad = tmp_path / "data" / "results" / ("f" * 32)
    bad.mkdir()
    (bad / "result.json").write_text('{"format": 1')
    with caplog.at_level(logging.WARNING):
        assert [kept.job_id for kept in link.stored_results()] == [good]
    assert "f" * 32 in caplog.text


def test_closing_ends_the_backend_and_its_jobs_and_the_link_can_start_again(link, request_of, maps, tmp_path):
    job_id = link.submit(request_of("steps=2000 pause=0.05"), maps, {})
    until(lambda: any(job.progress.step for job in link.jobs()), "progress")
    link.close()
    assert link.wait(job_id).kind == "cancelled"
    assert link.state.name == "STOPPED"
    assert list((tmp_path / "data" / "run").iterdir()) == []
    assert link.wait(link.submit(request_of(), maps, {})).png


def test_a_long_data_folder_still_gets_a_socket(make_link, request_of, maps, tmp_path):
    link = make_link(data_folder=tmp_path / ("long" * 40))
    assert link.wait(link.submit(request_of(), maps, {})).png


def test_the_wire_and_the_link_load_no_numpy_and_nothing_of_others(link_module):
    staged = Path(sys.modules[STAGED].__file__ or "").parent.parent
    code = (
        f"import sys; sys.path.insert(0, {str(staged)!r}); import {STAGED}.backend.wire.messages, {STAGED}.addon.link; "
        "roots = {name.partition('.')[0] for name in sys.modules}; "
        f"print(sorted(roots - set(sys.stdlib_module_names) - {{'{STAGED}', '__main__'}}))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    shown = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert shown.stdout.strip() == "[]"


def test_a_picture_that_is_too_large_for_the_way_back_is_read_from_disk(make_link, request_of, maps):
    """Nothing is lost, and the connection stays: the next job comes back over it."""
    link = make_link(program=(str(ROOT / "tests" / "fake_backend.py"), "narrow"))
    result = link.wait(link.submit(request_of("steps=1 size=3000000"), maps, {}))
    assert result.png == b"\x89PNG" + b"\x2a" * 3_000_000
    pid = link.backend_pid
    events = []
    assert (
        link.wait(link.submit(request_of("steps=1 size=10"), maps, {}), events.append).png == b"\x89PNG" + b"\x2a" * 10
    )
    assert link.backend_pid == pid and not [event for event in link.poll() if getattr(event, "failure", None)]


def test_a_picture_that_is_too_large_to_be_sent_is_said_before_it_is(link, wire, request_of):
    """It is as large as it says, and takes no memory: every pixel is the same one."""
    huge = wire.ControlMaps(picture=np.broadcast_to(np.zeros((), np.uint8), (12_000, 11_000, 3)))
    failure = link.wait(link.submit(request_of(), huge, {}))
    assert failure.kind == "bad_request" and "python -m backend enhance" in failure.hint
    assert failure.message == "The picture of 11000 x 12000 pixels is too large to be sent to the backend."
    assert link.state.name == "STOPPED", "no backend was started for it"
