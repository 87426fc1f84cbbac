"""Both sides prove, with fresh nonces, that they know the secret; the secret itself never travels.

Fixed sizes and no parser: someone without the secret reaches nothing but a comparison of bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
import struct
import time

from .framing import MAGIC, PROTOCOL_VERSION, ConnectionEndedError, ProtocolError, settle

SECRET_BYTES = 32
HANDSHAKE_SECONDS = 3.0
"""The time that the whole handshake may take, however its bytes drip in."""

_OPENING = struct.pack("<4sHH", MAGIC, PROTOCOL_VERSION, 0)
_NONCE_BYTES = 32
_PROOF_BYTES = 32


def prove_as_server(sock: socket.socket, secret: bytes) -> None:
    """The server's half: challenge, check the client's proof, give one's own. Raises `ProtocolError` or `OSError`."""
    deadline = time.monotonic() + HANDSHAKE_SECONDS
    ours = secrets.token_bytes(_NONCE_BYTES)
    _send(sock, _OPENING + ours, deadline)
    answer = _receive(sock, len(_OPENING) + _NONCE_BYTES + _PROOF_BYTES, deadline)
    theirs = answer[len(_OPENING) : -_PROOF_BYTES]
    if not hmac.compare_digest(answer[-_PROOF_BYTES:], _proof(secret, b"client", ours, theirs)):
        raise ProtocolError("the client does not know the secret")
    _send(sock, _proof(secret, b"server", ours, theirs), deadline)
    settle(sock)


def prove_as_client(sock: socket.socket, secret: bytes) -> None:
    """The client's half. Raises `ProtocolError` when the server does not know the secret, `OSError` when it is gone."""
    deadline = time.monotonic() + HANDSHAKE_SECONDS
    challenge = _receive(sock, len(_OPENING) + _NONCE_BYTES, deadline)
    theirs = challenge[len(_OPENING) :]
    ours = secrets.token_bytes(_NONCE_BYTES)
    _send(sock, _OPENING + ours + _proof(secret, b"client", theirs, ours), deadline)
    proof = _receive(sock, _PROOF_BYTES, deadline, opening=b"")
    if not hmac.compare_digest(proof, _proof(secret, b"server", theirs, ours)):
        raise ProtocolError("the server does not know the secret")
    settle(sock)


def _proof(secret: bytes, role: bytes, server_nonce: bytes, client_nonce: bytes) -> bytes:
    # The role keeps one side's proof from being sent back to it as the other's.
    return hmac.new(secret, _OPENING + role + server_nonce + client_nonce, hashlib.sha256).digest()


def _send(sock: socket.socket, data: bytes, deadline: float) -> None:
    sock.settimeout(_left(deadline))
    sock.sendall(data)


def _receive(sock: socket.socket, size: int, deadline: float, opening: bytes = _OPENING) -> bytes:
    """`size` bytes that begin with `opening`; the first byte that differs ends it."""
    data = b""
    while len(data) < size:
        sock.settimeout(_left(deadline))
        try:
            chunk = sock.recv(size - len(data))
        except TimeoutError as error:
            raise ProtocolError("the handshake took too long") from error
        if not chunk:
            raise ConnectionEndedError("the connection ended in the handshake")
        data += chunk
        begun = min(len(data), len(opening))
        if data[:begun] != opening[:begun]:
            raise ProtocolError("the other side does not speak this version of the protocol")
    return data


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise ProtocolError("the handshake took too long")
    return left
