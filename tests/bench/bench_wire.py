"""A 1024² request with three float32 maps through the door, against the same bytes through a bare socket."""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np

from backend.wire import Control, ControlMaps, GenerationRequest
from backend.wire.endpoint import tune
from backend.wire.framing import Memory, receive_frame, send_frame, settle
from backend.wire.messages import Generate, from_client
from tests.bench.figure import Figure

ROOT = Path(__file__).resolve().parent.parent.parent
SIDE = 1024
ROUNDS = 60
WARM_UP = 5
TARGET = 1.3


def run() -> list[Figure]:
    """The sender's call → arrays in the receiver's process ÷ `sendall` → `recv_into` memory that is there already."""
    generator = np.random.default_rng(0)
    maps = ControlMaps(
        depth=generator.random((SIDE, SIDE), np.float32),
        normal=generator.random((SIDE, SIDE, 3), np.float32),
        line=generator.random((SIDE, SIDE), np.float32),
    )
    controls = tuple(Control(kind) for kind in maps.arrays())
    request = GenerationRequest("a castle on a hill at dawn", SIDE, SIDE, controls=controls)
    message = Generate(uuid.uuid4().hex, request, maps, {"file": "castle.blend"})
    plain = b"".join(array.tobytes() for array in maps.arrays().values())
    families = {"socket pair": socket.AF_UNIX} if hasattr(socket, "AF_UNIX") else {}
    figures = [_measure(name, message, plain, socket.socketpair(family)) for name, family in families.items()]
    return [*figures, _measure("TCP", message, plain, _tcp_pair())]


def _measure(name: str, message: Generate, plain: bytes, pair: tuple[socket.socket, socket.socket]) -> Figure:
    ours, theirs = pair
    settle(ours)
    settle(theirs)
    command = [
        sys.executable,
        "-m",
        "tests.bench.bench_wire",
        str(theirs.fileno()),
        str(theirs.family),
        str(len(plain)),
    ]
    with ours, subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()]) as receiver:
        theirs.close()
        bare, framed = _interleaved(
            lambda: _time(ours, b"b", lambda: ours.sendall(plain)),
            lambda: _time(ours, b"f", lambda: send_frame(ours, message.to_frame())),
        )
        ours.sendall(b"e")
        receiver.wait()
    detail = f"{framed * 1e3:.1f} ms ÷ {bare * 1e3:.1f} ms, medians of {ROUNDS}, {len(plain) / 2**20:.0f} MiB"
    return Figure(f"a {SIDE}² request with three maps ÷ the bare bytes ({name})", framed / bare, TARGET, detail)


def _interleaved(first: Callable[[], float], second: Callable[[], float]) -> tuple[float, float]:
    times = [(first(), second()) for _ in range(WARM_UP + ROUNDS)][WARM_UP:]
    return statistics.median(a for a, _ in times), statistics.median(b for _, b in times)


def _time(sock: socket.socket, mode: bytes, send: Callable[[], None]) -> float:
    sock.sendall(mode)
    sock.recv(1)
    started = time.perf_counter()
    send()
    sock.recv(1)
    return time.perf_counter() - started


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    tune(ours)
    tune(theirs)
    return ours, theirs


def _receive(sock: socket.socket, size: int) -> None:
    """The other process: says when it is about to receive, and when it has."""
    memory, kept = memoryview(bytearray(size)), Memory()
    while (mode := sock.recv(1)) != b"e":
        sock.sendall(b"r")
        message = None
        if mode == b"f":
            message = _next_request(sock, kept)
        else:
            filled = 0
            while filled < size:
                filled += sock.recv_into(memory[filled:])
        sock.sendall(b"d")
        # Let go of before the next round: giving memory back is no part of receiving.
        del message


def _next_request(sock: socket.socket, memory: Memory) -> Generate:
    frame = receive_frame(sock, memory)
    message = from_client(frame) if frame else None
    if not isinstance(message, Generate) or len(message.maps.arrays()) != 3:
        raise RuntimeError("the frame did not come through")
    return message


def main() -> None:
    if len(sys.argv) == 4:
        descriptor, family, size = map(int, sys.argv[1:])
        with socket.socket(family, socket.SOCK_STREAM, fileno=descriptor) as sock:
            _receive(sock, size)
        return
    for figure in run():
        print(f"{figure.name}: {figure.ratio:.2f} (target {figure.target}); {figure.detail}")


if __name__ == "__main__":
    main()
