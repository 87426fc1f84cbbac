"""The socket, made and connected for real by the code that Blender and the backend use."""

from __future__ import annotations

import secrets
import socket
import tempfile
import threading
from pathlib import Path

from .. import __version__
from ..wire.disk import disk_failures
from ..wire.endpoint import TEMPORARY_PREFIX, Endpoint, listen
from ..wire.framing import receive_frame, send_frame
from ..wire.handshake import SECRET_BYTES, prove_as_client, prove_as_server
from ..wire.messages import Hello, from_server
from .finding import Finding

CONNECT_SECONDS = 5.0


def socket_works(data_folder: Path | None) -> Finding:
    """Listens as the backend does, connects as Blender does, proves the secret both ways and says one hello."""
    if data_folder is not None:
        return _greeted(data_folder / "run")
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX) as folder:
        return _greeted(Path(folder))


def _greeted(run_folder: Path) -> Finding:
    secret, hello = secrets.token_bytes(SECRET_BYTES), Hello(__version__, "cpu", ())
    with disk_failures(run_folder):
        listener, endpoint = listen(run_folder)
    errors: list[Exception] = []
    server = threading.Thread(target=_serve, args=(listener, secret, hello, errors), daemon=True)
    try:
        listener.settimeout(CONNECT_SECONDS)
        server.start()
        heard = _hear(endpoint, secret)
        server.join()
    finally:
        listener.close()
        endpoint.remove()
    if errors or heard != hello:
        raise errors[0] if errors else OSError("the hello came back as something else")
    kind = "unix socket" if endpoint.path else "loopback"
    return Finding("socket", True, f"Blender and the backend can talk ({kind}).", values={"transport": kind})


def _serve(listener: socket.socket, secret: bytes, hello: Hello, errors: list[Exception]) -> None:
    try:
        sock, _ = listener.accept()
        with sock:
            prove_as_server(sock, secret)
            send_frame(sock, hello.to_frame())
    except Exception as error:
        errors.append(error)


def _hear(endpoint: Endpoint, secret: bytes) -> object:
    with endpoint.connect(CONNECT_SECONDS) as sock:
        prove_as_client(sock, secret)
        sock.settimeout(CONNECT_SECONDS)
        frame = receive_frame(sock)
        return from_server(frame) if frame is not None else None
