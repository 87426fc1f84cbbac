"""One backend process, from its start to its end, and the connection to it."""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
import traceback
from contextlib import suppress
from typing import Protocol

from ...backend.wire.endpoint import Endpoint
from ...backend.wire.failure import Failure, FailureError, FailureKind
from ...backend.wire.framing import ProtocolError, receive_frame, send_frame
from ...backend.wire.handshake import prove_as_client
from ...backend.wire.messages import Bye, ClientMessage, Hello, ServerMessage, from_server
from .events import BackendPlace
from .process import BackendProcess

CONNECT_SECONDS = 5.0
EXIT_SECONDS = 1.0
"""After the connection's end: how long the process may take to be gone, if that is what happened."""
RECONNECTS_MAX = 10
"""In a row. One can fail for no fault of the backend's: when Blender was too busy for the handshake's deadline."""
END_SECONDS = 5.0
_log = logging.getLogger(__name__)


class SessionOwner(Protocol):
    """Who a Session reports to, from its own threads."""

    def on_ready(self, session: Session, hello: Hello) -> None: ...
    def on_message(self, session: Session, message: ServerMessage) -> None: ...
    def on_unsendable(self, session: Session, message: ClientMessage, reason: str) -> None: ...
    def on_ended(self, session: Session, failure: Failure) -> None: ...


class Session:
    """Runs in threads that touch nothing but the process, the socket and the owner's queue."""

    def __init__(self, place: BackendPlace, owner: SessionOwner) -> None:
        self._place = place
        self._owner = owner
        self._outbox: queue.SimpleQueue[ClientMessage | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._process: BackendProcess | None = None
        self._sock: socket.socket | None = None
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="grisaille-link", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """The process's id, once it is started."""
        process = self._process
        return process.pid if process else None

    def tell(self, message: ClientMessage) -> None:
        """Queues a message; never blocks."""
        self._outbox.put(message)

    def close(self) -> None:
        """Ends the backend and waits for that; `on_ended` is not called any more."""
        with self._lock:
            self._is_closing = True
            process, sock = self._process, self._sock
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        if process is not None:
            process.end(END_SECONDS)
        self._outbox.put(None)
        if self._thread is not threading.current_thread() and self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._live()
        except FailureError as error:
            self._report(error.failure)
        except Exception as error:
            # Nobody may be left waiting for a thread that is gone.
            _log.exception("the link to the backend broke")
            self._report(_broken(error))

    def _live(self) -> None:
        """The process's whole life. Raises `FailureError` when it cannot start."""
        process = BackendProcess(self._place)
        with self._lock:
            self._process = process
            is_closing = self._is_closing
        if is_closing:
            process.end(0.0)
            return
        endpoint: Endpoint | None = None
        try:
            endpoint = process.endpoint()
            failure = self._stay(process, endpoint)
        finally:
            process.end(END_SECONDS)
            if endpoint is not None:
                # A backend that was killed leaves its socket behind.
                endpoint.remove()
        self._report(failure)

    def _stay(self, process: BackendProcess, endpoint: Endpoint) -> Failure:
        """Keeps a connection until there is no more to be had; says why."""
        failed = 0
        while True:
            was_ready = self._talk(process, endpoint)
            code = process.wait(EXIT_SECONDS)
            if code is not None or self._is_closing:
                return _death(code, process.stderr_tail())
            failed = 0 if was_ready else failed + 1
            if failed == RECONNECTS_MAX:
                process.kill()
                return _unreachable(process.stderr_tail())

    def _talk(self, process: BackendProcess, endpoint: Endpoint) -> bool:
        """One connection, from its handshake to its end; whether it got as far as the backend's hello."""
        was_ready = False
        try:
            with endpoint.connect(CONNECT_SECONDS) as sock:
                prove_as_client(sock, process.secret)
                with self._lock:
                    if self._is_closing:
                        return was_ready
                    self._sock = sock
                writer = threading.Thread(target=self._write, args=(sock,), name="grisaille-link-writer", daemon=True)
                writer.start()
                try:
                    while (frame := receive_frame(sock)) is not None:
                        message = from_server(frame)
                        if isinstance(message, Hello):
                            was_ready = True
                            self._owner.on_ready(self, message)
                        elif isinstance(message, Bye):
                            break
                        else:
                            self._owner.on_message(self, message)
                finally:
                    with self._lock:
                        self._sock = None
                    self._outbox.put(None)
                    with suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)
                    writer.join()
        except (OSError, ProtocolError):
            # The end of the connection is an answer in itself; what it means, the process tells.
            time.sleep(0.05)
        return was_ready

    def _write(self, sock: socket.socket) -> None:
        while (message := self._outbox.get()) is not None:
            try:
                frame = message.to_frame()
            except ProtocolError as error:
                self._owner.on_unsendable(self, message, str(error))
                continue
            try:
                send_frame(sock, frame)
            except ProtocolError as error:
                self._owner.on_unsendable(self, message, str(error))
            except OSError:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _report(self, failure: Failure) -> None:
        with self._lock:
            if self._is_closing:
                return
        self._owner.on_ended(self, failure)


def _death(code: int | None, stderr: str) -> Failure:
    message = "The backend has stopped."
    if code is not None and code < 0:
        message = f"The backend was stopped by signal {-code}."
        if code == -9:
            message = "The backend was killed; running out of memory is the usual reason."
    hint = "Press Generate to start it again; a smaller picture needs less memory."
    return Failure(FailureKind.BACKEND_DIED, message, hint, f"exit code {code}\n{stderr}".strip())


def _broken(error: Exception) -> Failure:
    message = "Something went wrong in the link to the backend."
    return Failure(FailureKind.INTERNAL, message, "Generate again.", "".join(traceback.format_exception(error)))


def _unreachable(stderr: str) -> Failure:
    message = "The connection to the backend was lost and could not be made again."
    return Failure(FailureKind.BACKEND_DIED, message, "Press Generate to start it again.", stderr)
