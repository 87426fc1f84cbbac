"""Where the backend listens: a unix socket in a folder of its own, or a port of 127.0.0.1 that the system picks."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNIX_PATH_MAX = 100
"""Bytes; the systems allow 104 (macOS) to 108 (Linux) with the closing zero."""
TRANSPORTS = ("auto", "unix", "tcp")
TEMPORARY_PREFIX = "grisaille-"
_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Either the path of a unix socket, or a port of 127.0.0.1 (then `path` is empty)."""

    path: str = ""
    port: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "port": self.port}

    @classmethod
    def from_json(cls, data: object) -> Endpoint:
        """Raises `ValueError` when `data` is not what `to_json` writes."""
        if not isinstance(data, dict) or set(data) != {"path", "port"}:
            raise ValueError("an endpoint has exactly path and port")
        path, port = data["path"], data["port"]
        if not isinstance(path, str) or type(port) is not int or not 0 <= port < 65536 or bool(path) == bool(port):
            raise ValueError("an endpoint is a path or a port")
        return cls(path, port)

    def connect(self, timeout: float) -> socket.socket:
        """A connection to it. Raises `OSError`."""
        sock = _new_socket(bool(self.path))
        try:
            sock.settimeout(timeout)
            self._connect(sock, time.monotonic() + timeout)
            tune(sock)
        except BaseException:
            sock.close()
            raise
        return sock

    def _connect(self, sock: socket.socket, deadline: float) -> None:
        while True:
            try:
                sock.connect(self.path or (_HOST, self.port))
                return
            except BlockingIOError:
                # A unix socket with a full queue does not make one wait.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def remove(self) -> None:
        """Takes away the socket and its folder, also when the process that listened there was killed."""
        if self.path:
            # Nothing but what `listen` made: the path came from another process.
            with contextlib.suppress(OSError):
                Path(self.path).unlink()
            with contextlib.suppress(OSError):
                Path(self.path).parent.rmdir()


def listen(run_folder: Path, transport: str = "auto") -> tuple[socket.socket, Endpoint]:
    """A listening socket that only this user can reach. Raises `OSError`."""
    if transport == "tcp" or not hasattr(socket, "AF_UNIX"):
        listener = _new_socket(False)
        with _closed_on_error(listener):
            if os.name == "nt":
                # Else another program of this user could listen on the same port.
                listener.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_EXCLUSIVEADDRUSE"), 1)  # noqa: B009
            listener.bind((_HOST, 0))
            listener.listen(128)
            return listener, Endpoint(port=listener.getsockname()[1])
    path = _private_folder(run_folder) / "socket"
    listener = _new_socket(True)
    with _closed_on_error(listener):
        listener.bind(os.fspath(path))
        path.chmod(0o600)
        listener.listen(128)
        return listener, Endpoint(path=os.fspath(path))


def tune(sock: socket.socket) -> None:
    """No delay of small messages. The buffers stay as the system has them: larger ones leave the CPU's caches."""
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _private_folder(run_folder: Path) -> Path:
    """A new 0700 folder, in `run_folder` unless that makes a socket's path too long."""
    folder = run_folder.resolve() / f"{os.getpid()}-{secrets.token_hex(4)}"
    if len(os.fsencode(folder / "socket")) > UNIX_PATH_MAX:
        return Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{os.getpid()}-"))
    run_folder.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)
    return folder


def _new_socket(is_unix: bool) -> socket.socket:
    return socket.socket(socket.AF_UNIX if is_unix else socket.AF_INET, socket.SOCK_STREAM)


@contextlib.contextmanager
def _closed_on_error(sock: socket.socket):
    try:
        yield
    except BaseException:
        sock.close()
        raise
