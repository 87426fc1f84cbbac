"""A running backend process with a fake production, and a plain client to it, for the tests of the door."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from backend.wire import ControlMaps, GenerationRequest
from backend.wire.endpoint import Endpoint
from backend.wire.framing import Frame, receive_frame, send_frame
from backend.wire.handshake import prove_as_client
from backend.wire.messages import Failed, Finished, Generate, Hello, ServerMessage, from_server

ROOT = Path(__file__).resolve().parent.parent
FAKE = ROOT / "tests" / "fake_backend.py"
GIVE_UP_SECONDS = 60.0
"""A bound for a broken test, not a measure of speed."""


class RunningBackend:
    """The process, what it said at its start, and connections to it."""

    def __init__(self, data_folder: Path, transport: str = "auto", drop: bool = False, covered: bool = True) -> None:
        self.secret = secrets.token_bytes(32)
        self.data_folder = data_folder
        self.config = {
            "secret": self.secret.hex(),
            "data_folder": str(data_folder),
            "models_folder": str(data_folder / "models"),
            "device": "cpu",
            "transport": transport,
            "parent_pid": os.getpid(),
        }
        command = [sys.executable, "-I", str(FAKE), *(["drop"] if drop else [])]
        # A measure of coverage keeps something for each thread: no good where memory is what is looked at.
        environment = {name: value for name, value in os.environ.items() if covered or not name.startswith("COV")}
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        assert self.popen.stdin is not None and self.popen.stdout is not None
        self.stdin, self.stdout = self.popen.stdin, self.popen.stdout
        self.stdin.write(json.dumps(self.config).encode() + b"\n")
        self.stdin.flush()
        self.said = json.loads(self.stdout.readline() or "{}")

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint.from_json(self.said["endpoint"])

    def connect(self) -> socket.socket:
        """An authenticated connection, its hello taken."""
        sock = self.endpoint.connect(5.0)
        try:
            prove_as_client(sock, self.secret)
            assert isinstance(next_message(sock), Hello)
        except BaseException:
            sock.close()
            raise
        return sock

    def process(self) -> psutil.Process:
        return psutil.Process(self.popen.pid)

    def close(self) -> None:
        with suppress(OSError):
            self.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.popen.wait(20.0)
        self.popen.kill()
        self.popen.wait()
        self.stdout.close()


@contextmanager
def running_backend(data_folder: Path, **options: Any) -> Iterator[RunningBackend]:
    backend = RunningBackend(data_folder, **options)
    try:
        yield backend
    finally:
        backend.close()


def next_message(sock: socket.socket) -> ServerMessage:
    frame = receive_frame(sock)
    assert frame is not None, "the server hung up"
    return from_server(frame)


def generate(prompt: str = "steps=1", maps: ControlMaps | None = None, **changes: Any) -> Generate:
    request = GenerationRequest(**{"prompt": prompt, "width": 64, "height": 64, **changes})
    return Generate(uuid.uuid4().hex, request, maps or ControlMaps(), {"file": "a.blend"})


def outcome(sock: socket.socket, job_id: str, seen: list[ServerMessage] | None = None) -> Finished | Failed:
    """What the job ended with; the messages before go to `seen`."""
    while True:
        message = next_message(sock)
        if isinstance(message, Finished | Failed) and message.job_id == job_id:
            return message
        if seen is not None:
            seen.append(message)


def run_job(sock: socket.socket, message: Generate) -> Finished | Failed:
    send_frame(sock, message.to_frame())
    return outcome(sock, message.job_id)


def frame_bytes(frame: Frame) -> bytes:
    """The frame as it travels."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(1) as reader:
        received = reader.submit(lambda: b"".join(iter(lambda: theirs.recv(2**16), b"")))
        try:
            send_frame(ours, frame)
        finally:
            ours.shutdown(socket.SHUT_WR)
        return received.result()


def is_hung_up(sock: socket.socket) -> bool:
    """Whether the other side closes the connection, reading on until it does."""
    sock.settimeout(GIVE_UP_SECONDS)
    try:
        while sock.recv(2**16):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def until(condition: Callable[[], Any], what: str) -> Any:
    """Waits for `condition` to be true and gives its value; a broken test fails saying what never happened."""
    end = time.monotonic() + GIVE_UP_SECONDS
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"never happened: {what}")
        time.sleep(0.01)
    return value
