"""The backend's side of the door: accepts, lets in who knows the secret, and never keeps a job waiting for a reader."""

from __future__ import annotations

import logging
import socket
import threading
from collections import deque
from contextlib import suppress

from .jobs import Jobs
from .wire.framing import PAYLOAD_MAX, Frame, Memory, ProtocolError, payload_bytes, receive_frame, send_frame
from .wire.handshake import prove_as_server
from .wire.messages import (
    Acknowledge,
    AskStatus,
    Bye,
    Cancel,
    ClientMessage,
    Failed,
    Finished,
    Generate,
    Hello,
    Preview,
    ProgressMade,
    RefusedRequestError,
    ServerMessage,
    from_client,
)

PENDING_MAX = 16
"""Connections that may be in their handshake at once; one more, and the oldest is dropped."""
_log = logging.getLogger(__name__)


class Server:
    """Serves one authenticated client at a time on a listening socket; a new one takes the old one's place."""

    def __init__(self, listener: socket.socket, secret: bytes, hello: Hello) -> None:
        self._listener = listener
        self._secret = secret
        self._hello = hello
        self._lock = threading.Lock()
        self._pending: deque[socket.socket] = deque()
        self._session: Session | None = None

    def announce(self, message: ServerMessage) -> None:
        """Tells the client, if there is one; never blocks. What nobody hears is on disk."""
        with self._lock:
            session = self._session
        if session is not None:
            session.tell(message)

    def serve_forever(self, jobs: Jobs) -> None:
        """Accepts connections until the listening socket is closed."""
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                if self._listener.fileno() < 0:
                    return
                # Out of file descriptors, or a client that was gone before it was accepted.
                _log.exception("a connection could not be accepted")
                threading.Event().wait(0.05)
                continue
            with self._lock:
                self._pending.append(sock)
                oldest = self._pending.popleft() if len(self._pending) > PENDING_MAX else None
            if oldest is not None:
                _hang_up(oldest)
            threading.Thread(target=self._admit, args=(sock, jobs), name="grisaille-client", daemon=True).start()

    def _admit(self, sock: socket.socket, jobs: Jobs) -> None:
        with sock:
            try:
                prove_as_server(sock, self._secret)
            except (ProtocolError, OSError) as error:
                _log.warning("a stranger was turned away: %s", error)
                return
            finally:
                with self._lock, suppress(ValueError):
                    self._pending.remove(sock)
            session = Session(sock)
            with self._lock:
                previous, self._session = self._session, session
            if previous is not None:
                previous.close()
            session.tell(self._hello)
            session.serve(jobs)
            with self._lock:
                if self._session is session:
                    self._session = None


class Session:
    """One authenticated connection: reads in the caller's thread, writes in another, so that neither waits for jobs."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._memory = Memory()
        self._changed = threading.Condition()
        self._outbox: deque[ServerMessage] = deque()
        self._is_closed = False

    def tell(self, message: ServerMessage) -> None:
        """Queues the message. Of a job's progress and previews only the newest waits: the reader may be busy."""
        with self._changed:
            if isinstance(message, ProgressMade | Preview):
                stale = [old for old in self._outbox if type(old) is type(message) and _job(old) == _job(message)]
                for old in stale:
                    self._outbox.remove(old)
            self._outbox.append(message)
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def serve(self, jobs: Jobs) -> None:
        """Reads until the connection ends or breaks the rules, then closes it."""
        writer = threading.Thread(target=self._write, args=(jobs,), name="grisaille-writer", daemon=True)
        writer.start()
        try:
            while self._read(jobs):
                pass
        except ProtocolError as error:
            _log.warning("the client broke the rules: %s", error)
        except OSError as error:
            _log.info("the connection is gone: %s", error)
        finally:
            self.close()
            writer.join()

    def _read(self, jobs: Jobs) -> bool:
        frame = receive_frame(self._sock, self._memory, with_digests=True)
        if frame is None:
            return False
        try:
            message = from_client(frame)
        except RefusedRequestError as refused:
            self.tell(Failed(refused.job_id, refused.failure))
            return True
        return self._heed(message, jobs)

    def _heed(self, message: ClientMessage, jobs: Jobs) -> bool:
        match message:
            case Generate():
                jobs.submit(message)
            case Cancel(job_id):
                jobs.cancel(job_id)
            case Acknowledge(job_id):
                jobs.acknowledge(job_id)
            case AskStatus():
                self.tell(jobs.status())
            case Bye():
                return False
        return True

    def _write(self, jobs: Jobs) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._outbox or self._is_closed)
                if self._is_closed:
                    return
                message = self._outbox.popleft()
            try:
                send_frame(self._sock, _passing(message, jobs))
            except (OSError, ProtocolError) as error:
                _log.info("%s could not be sent: %s", type(message).__name__, error)
                self.close()
                return


def _passing(message: ServerMessage, jobs: Jobs) -> Frame:
    """The message's frame. A Result that is too large is on disk, where a client looks that hears it is done."""
    frame = message.to_frame()
    if not isinstance(message, Finished) or payload_bytes(frame) <= PAYLOAD_MAX:
        return frame
    _log.info("the result of %s is too large to send: it is on disk", message.job_id)
    return jobs.status().to_frame()


def _job(message: ServerMessage) -> str:
    return getattr(message, "job_id", "")


def _hang_up(sock: socket.socket) -> None:
    # Its own thread closes it; this wakes that thread.
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
