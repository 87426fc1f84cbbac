"""Ten thousand hostile frames against a running backend: each is hung up on, and the next client is served."""

from __future__ import annotations

import random
import secrets
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from backend.server import PENDING_MAX
from backend.wire.framing import FRAME_MAX, HEADER_MAX, MAGIC, PROTOCOL_VERSION, ProtocolError, send_frame
from backend.wire.handshake import prove_as_client
from backend.wire.messages import AskStatus, Finished, Hello, Status
from tests.door import RunningBackend, generate, is_hung_up, next_message, run_job, running_backend, until
from tests.wire import hostile

FRAMES = 10_000
SERVED_EVERY = 1_000
GROWTH_MAX = 8 * 2**20
"""Bytes; the allocator's own slack. One leaked kilobyte a frame would be 10 MB."""


@pytest.fixture(scope="module", params=["auto", "tcp"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBackend]:
    with running_backend(tmp_path_factory.mktemp("data"), transport=request.param) as running:
        yield running


@pytest.fixture(scope="module")
def one_backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBackend]:
    with running_backend(tmp_path_factory.mktemp("data"), covered=False) as running:
        yield running


def send(sock: socket.socket, data: bytes) -> None:
    # The server may hang up before it has read all of it: that is what is wanted.
    with suppress(BrokenPipeError, ConnectionError):
        sock.sendall(data)


def assert_serves(backend: RunningBackend) -> None:
    with backend.connect() as sock:
        send_frame(sock, AskStatus().to_frame())
        assert isinstance(next_message(sock), Status)


@pytest.mark.parametrize("name", hostile.by_hand())
def test_each_kind_of_hostile_frame_is_hung_up_on(backend: RunningBackend, name: str) -> None:
    with backend.connect() as sock:
        send(sock, hostile.by_hand()[name])
        assert is_hung_up(sock)
    assert_serves(backend)


def test_ten_thousand_hostile_frames_leave_the_server_serving_and_its_memory_as_it_was(
    one_backend: RunningBackend,
) -> None:
    generator = random.Random(20261123)
    by_hand = hostile.by_hand()
    # The longest are parsed to their end; a hundred of each are enough of those.
    short = [name for name, data in by_hand.items() if len(data) < 20_000]
    memory = []
    for number in range(FRAMES):
        if number % SERVED_EVERY == 0:
            assert_serves(one_backend)
            memory.append(one_backend.process().memory_info().rss)
        what = _attack(one_backend, generator, by_hand, short, number)
        assert one_backend.popen.poll() is None, f"the server died of {what}"
    with one_backend.connect() as sock:
        assert isinstance(run_job(sock, generate()), Finished)
    # The first two thousand are the warm-up: threads' memory, caches.
    memory.append(one_backend.process().memory_info().rss)
    assert memory[-1] - memory[2] < GROWTH_MAX, memory


def _attack(
    backend: RunningBackend, generator: random.Random, by_hand: dict[str, bytes], short: list[str], number: int
) -> str:
    """One hostile connection, which must be hung up on; says what it was."""
    recipe = number % 5
    if recipe == 0:
        # From a stranger, without a handshake.
        what, data = "a stranger's bytes", hostile.made_up(generator)[1]
        with backend.endpoint.connect(5.0) as sock:
            send(sock, data + bytes(100))
            assert is_hung_up(sock), what
        return what
    if recipe == 1:
        what, data = "an honest frame cut short", hostile.cut(generator)
    elif recipe == 2:
        what = generator.choice(short)
        data = by_hand[what]
    else:
        what, data = hostile.made_up(generator)
    with backend.connect() as sock:
        send(sock, data)
        if recipe == 1:
            sock.shutdown(socket.SHUT_WR)
        assert is_hung_up(sock), what
    return what


@pytest.mark.skipif(sys.platform != "linux", reason="reads a process's peak memory from Linux's /proc")
def test_a_promise_of_a_quarter_gigabyte_takes_no_memory_before_its_bytes_come(one_backend: RunningBackend) -> None:
    assert_serves(one_backend)
    before = peak_memory(one_backend)
    side = (FRAME_MAX - HEADER_MAX) // 4
    header = hostile.generating([hostile.blob(shape=[side])])[hostile.PREFIX.size :]
    with one_backend.connect() as sock:
        send(sock, hostile.packed(header, payload_length=side * 4) + bytes(4096))
        until(lambda: unread_by_the_server(sock) == 0, "the server read what was sent")
        assert one_backend.process().is_running()
        sock.shutdown(socket.SHUT_WR)
        assert is_hung_up(sock)
    assert peak_memory(one_backend) - before < 32 * 2**20


def peak_memory(backend: RunningBackend) -> int:
    """The most memory, in bytes, that the process ever had."""
    status = Path(f"/proc/{backend.popen.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def unread_by_the_server(sock: socket.socket) -> int:
    import fcntl
    import termios

    return struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]


def test_a_stranger_without_the_secret_is_hung_up_on(backend: RunningBackend) -> None:
    with backend.endpoint.connect(5.0) as sock, pytest.raises(ProtocolError):
        prove_as_client(sock, secrets.token_bytes(32))
    assert_serves(backend)


def test_an_earlier_handshake_played_again_is_hung_up_on(backend: RunningBackend) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, backend.endpoint.connect(5.0) as sock:
        recorded = _recorded_proof(sock, backend.secret, ours, theirs)
        assert isinstance(next_message(sock), Hello), "the recorded handshake was a good one"
    with backend.endpoint.connect(5.0) as sock:
        challenge = sock.recv(40)
        assert challenge[:4] == MAGIC
        send(sock, recorded)
        assert is_hung_up(sock)
    assert_serves(backend)


def _recorded_proof(sock: socket.socket, secret: bytes, ours: socket.socket, theirs: socket.socket) -> bytes:
    """Passes an honest client's handshake on to the server, keeping what the client said."""
    client = threading.Thread(target=prove_as_client, args=(ours, secret))
    client.start()
    theirs.sendall(sock.recv(40))
    said = theirs.recv(72)
    sock.sendall(said)
    theirs.sendall(sock.recv(32))
    client.join()
    return said


def test_a_server_without_the_secret_learns_nothing_and_is_refused() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(MAGIC + PROTOCOL_VERSION.to_bytes(2, "little") + bytes(2) + bytes(32) + bytes(32))
        secret = secrets.token_bytes(32)
        with pytest.raises(ProtocolError, match="does not know"):
            prove_as_client(ours, secret)
        assert secret not in theirs.recv(4096)


def test_the_first_wrong_byte_ends_the_handshake(backend: RunningBackend) -> None:
    with backend.endpoint.connect(5.0) as sock:
        sock.recv(40)
        sock.sendall(b"X")
        assert is_hung_up(sock)


def test_slow_strangers_are_hung_up_on_and_hold_nobody_up(backend: RunningBackend) -> None:
    with ExitStack() as stack:
        strangers = [stack.enter_context(backend.endpoint.connect(5.0)) for _ in range(2 * PENDING_MAX)]
        for stranger in strangers:
            send(stranger, MAGIC[:1])
        with backend.connect() as sock:
            # They are all still in their handshakes or were dropped for newer ones; a friend is served meanwhile.
            assert isinstance(run_job(sock, generate()), Finished)
        assert all(_is_hung_up_dripping(stranger) for stranger in strangers)
    assert_serves(backend)


def _is_hung_up_dripping(sock: socket.socket) -> bool:
    """Whether the server hangs up on someone who sends a right byte now and then, and never enough."""
    sock.settimeout(0.2)
    said = MAGIC[1:] + PROTOCOL_VERSION.to_bytes(2, "little") + bytes(60)
    for byte in said:
        try:
            sock.sendall(bytes([byte]))
            while sock.recv(4096):
                pass
            return True
        except TimeoutError:
            continue
        except ConnectionError:
            return True
    return False


def test_a_second_client_with_the_secret_takes_the_firsts_place(backend: RunningBackend) -> None:
    with backend.connect() as first, backend.connect() as second:
        assert is_hung_up(first)
        assert isinstance(run_job(second, generate()), Finished)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a unix socket, which Python lacks on Windows")
def test_only_this_user_reaches_the_socket(one_backend: RunningBackend) -> None:
    path = Path(one_backend.endpoint.path)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
