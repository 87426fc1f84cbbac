"""Frames: a length-prefixed JSON header and raw typed blobs, checked before anything is allocated.

On the wire, little-endian: magic, version, zero, header length, payload length; the header (JSON, with the blobs'
names, dtypes and shapes under "blobs"); the blobs' bytes in that order.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import mmap
import os
import re
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

PROTOCOL_VERSION = 1
MAGIC = b"GRSL"
PREFIX = struct.Struct("<4sHHIQ")
HEADER_MAX = 2**20
FRAME_MAX = 256 * 2**20
PAYLOAD_MAX = FRAME_MAX - HEADER_MAX
"""Bytes of arrays that pass beside any header."""
BLOBS_MAX = 16
DIMENSIONS_MAX = 4
NESTING_MAX = 32
ITEM_SIZES = {"uint8": 1, "uint16": 2, "int32": 4, "float16": 2, "float32": 4}
"""The dtypes that may pass, with their sizes in bytes."""

POLL_SECONDS = 5.0
"""How often a wait for bytes looks at the clock."""
STALL_SECONDS = 60.0
"""How long a frame that has begun may take, beyond what its bytes need at BYTES_PER_SECOND_MIN."""
BYTES_PER_SECOND_MIN = 10**6
KEPT_MAX = 64 * 2**20
"""Bytes that a receiver may hold on to between two frames."""
MAPPED_MIN = 2**20
"""Payloads from this size on get memory of their own, which the system hands out as the bytes arrive."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class ProtocolError(Exception):
    """The other side broke the rules of the door: the connection is of no more use and must be closed."""


class ConnectionEndedError(ProtocolError):
    """The other side went away in the middle of a frame or of the handshake."""


@dataclass(frozen=True, eq=False, slots=True)
class Blob:
    """A typed array as raw bytes: C order, little-endian. `dtype` is one of ITEM_SIZES.

    digest: `array_digest` of it, where the receiver took it while the bytes arrived; else "".
    """

    dtype: str
    shape: tuple[int, ...]
    data: memoryview | bytes | bytearray
    digest: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """One message as it travels. `header` holds no "blobs" entry: that is read and written with the frame."""

    header: dict[str, Any]
    blobs: dict[str, Blob]


def payload_bytes(frame: Frame) -> int:
    """The bytes of the frame's blobs."""
    return sum(memoryview(blob.data).nbytes for blob in frame.blobs.values())


def settle(sock: socket.socket) -> None:
    """Makes a connected socket ready for frames: it blocks, and its reads look at the clock now and then.

    The system's own timeout, not Python's: that one makes the socket non-blocking, and a large frame then leaves in a
    hundred pieces.
    """
    sock.settimeout(None)
    if os.name == "nt":
        timeout = struct.pack("@i", int(POLL_SECONDS * 1000))
    else:
        timeout = struct.pack("@ll", int(POLL_SECONDS), 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)


def send_frame(sock: socket.socket, frame: Frame) -> None:
    """Sends the whole frame, waiting as long as the other side takes to read it. Nothing of the blobs is copied.

    Raises `ProtocolError` when the frame breaks the rules itself, `OSError` when the connection is gone.
    """
    specs = [{"name": name, "dtype": blob.dtype, "shape": list(blob.shape)} for name, blob in frame.blobs.items()]
    try:
        text = json.dumps({**frame.header, "blobs": specs}, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        header = text.encode()
    except ValueError as error:
        raise ProtocolError(f"the header cannot be written: {error}") from error
    views = [memoryview(blob.data).cast("B") for blob in frame.blobs.values()]
    payload = sum(view.nbytes for view in views)
    if _payload_of(specs) != payload:
        raise ProtocolError("a blob's bytes do not match its dtype and shape")
    _check_lengths(len(header), payload)
    prefix = PREFIX.pack(MAGIC, PROTOCOL_VERSION, 0, len(header), payload)
    _send_all(sock, [memoryview(prefix + header), *views])


class Memory:
    """Where large payloads are received: the last one's memory again, once nothing looks at it any more.

    Memory that is new costs as much as the copy into it, because the system empties it page by page.
    """

    def __init__(self) -> None:
        self._kept: bytearray | mmap.mmap = bytearray()

    def take(self, size: int) -> memoryview:
        """Writable memory of `size` bytes; what stays unused is not touched."""
        if size < MAPPED_MIN:
            return memoryview(bytearray(size))
        # Two references: ours, and the call's. One more is an array somewhere.
        if not size <= len(self._kept) or sys.getrefcount(self._kept) > 2:
            new = _mapped(size)
            if size > KEPT_MAX:
                return memoryview(new)
            self._kept = new
        return memoryview(self._kept)[:size]


def receive_frame(sock: socket.socket, memory: Memory | None = None, with_digests: bool = False) -> Frame | None:
    """The next frame, or None when the connection ended between two frames. Waits for its first byte for ever.

    memory: kept by a caller who receives many. with_digests: whether each blob's digest is taken as its bytes arrive,
    so that nobody reads them a second time for it. Raises `ProtocolError` on the first thing wrong; nothing larger than
    HEADER_MAX is allocated before the header has been found to be right, and the payload's memory is taken as its
    bytes arrive.
    """
    prefix = memoryview(bytearray(PREFIX.size))
    got = _first_bytes(sock, prefix)
    if not got:
        return None
    started = time.monotonic()
    _receive_into(sock, prefix[got:], started + STALL_SECONDS)
    header_length, payload_length = _unpack_prefix(prefix)
    deadline = started + STALL_SECONDS + (header_length + payload_length) / BYTES_PER_SECOND_MIN
    header_bytes = bytearray(header_length)
    _receive_into(sock, memoryview(header_bytes), deadline)
    header = parse_json(bytes(header_bytes))
    specs = header.pop("blobs", None)
    if _payload_of(specs) != payload_length:
        raise ProtocolError("the blobs' dtypes and shapes do not add up to the payload's length")
    payload = (memory or Memory()).take(payload_length)
    blobs = _split(specs, payload)
    if not with_digests:
        _receive_into(sock, payload, deadline)
        return Frame(header, blobs)
    return Frame(header, {name: _received(sock, blob, deadline) for name, blob in blobs.items()})


def parse_json(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`. Raises `ProtocolError` for anything that two parsers could read differently."""
    if _is_deep(data):
        raise ProtocolError("the JSON is nested too deeply")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
        if _SURROGATE.search(data):
            # A lone half of a surrogate pair cannot be written as UTF-8 again.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the JSON cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ProtocolError("the JSON is not an object")
    return value


def _unpack_prefix(prefix: memoryview) -> tuple[int, int]:
    magic, version, zero, header_length, payload_length = PREFIX.unpack(prefix)
    if magic != MAGIC or zero:
        raise ProtocolError("this is not one of our frames")
    if version != PROTOCOL_VERSION:
        raise ProtocolError(f"the frame has version {version}; this side speaks {PROTOCOL_VERSION}")
    _check_lengths(header_length, payload_length)
    return header_length, payload_length


def _check_lengths(header: int, payload: int) -> None:
    if not 2 <= header <= HEADER_MAX:
        raise ProtocolError(f"a header of {header} bytes is outside 2..{HEADER_MAX}")
    if payload > FRAME_MAX - header:
        raise ProtocolError(f"a frame of {header + payload} bytes is larger than {FRAME_MAX}")


def _payload_of(specs: object) -> int:
    """The bytes that the blobs described by `specs` (the header's "blobs") take. Raises `ProtocolError`."""
    if not isinstance(specs, list) or len(specs) > BLOBS_MAX:
        raise ProtocolError(f"blobs is not a list of at most {BLOBS_MAX}")
    names: set[str] = set()
    total = 0
    for spec in specs:
        if not isinstance(spec, dict) or set(spec) != {"name", "dtype", "shape"}:
            raise ProtocolError("a blob has exactly name, dtype and shape")
        name, dtype, shape = spec["name"], spec["dtype"], spec["shape"]
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in names:
            raise ProtocolError("a blob's name is wrong or there twice")
        if not isinstance(dtype, str) or dtype not in ITEM_SIZES:
            raise ProtocolError(f"blob {name} has a dtype that may not pass")
        if not isinstance(shape, list) or not 1 <= len(shape) <= DIMENSIONS_MAX:
            raise ProtocolError(f"the shape of blob {name} is not a list of 1..{DIMENSIONS_MAX} sizes")
        if not all(type(side) is int and 1 <= side <= FRAME_MAX for side in shape):
            raise ProtocolError(f"the shape of blob {name} holds a size that is not in 1..{FRAME_MAX}")
        names.add(name)
        total += math.prod(shape) * ITEM_SIZES[dtype]
    return total


def _split(specs: list[dict[str, Any]], payload: memoryview) -> dict[str, Blob]:
    blobs: dict[str, Blob] = {}
    offset = 0
    for spec in specs:
        shape = tuple(spec["shape"])
        size = math.prod(shape) * ITEM_SIZES[spec["dtype"]]
        blobs[spec["name"]] = Blob(spec["dtype"], shape, payload[offset : offset + size])
        offset += size
    return blobs


def _mapped(size: int) -> mmap.mmap:
    """New writable memory of `size` bytes, not touched before the bytes come."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    # Private, because shared anonymous memory gets no huge pages, and small ones cost more than the copy.
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _first_bytes(sock: socket.socket, view: memoryview) -> int:
    while True:
        try:
            return sock.recv_into(view)
        except (TimeoutError, BlockingIOError):
            # Silence is no sign of death: the other side may be busy for minutes.
            continue


def _received(sock: socket.socket, blob: Blob, deadline: float) -> Blob:
    """The blob with its bytes, which come now, and their digest."""
    digest = _begun_digest(blob.shape)
    _receive_into(sock, memoryview(blob.data), deadline, digest.update)
    return replace(blob, digest=digest.hexdigest())


def _receive_into(
    sock: socket.socket, view: memoryview, deadline: float, take: Callable[[memoryview], None] | None = None
) -> None:
    """Fills `view`, and hands each piece to `take` while the system receives the next.

    Raises `ProtocolError` at the deadline (monotonic seconds), `ConnectionEndedError` at the end.
    """
    filled = 0
    while filled < len(view):
        try:
            got = sock.recv_into(view[filled:])
        except (TimeoutError, BlockingIOError):
            got = None
        if got == 0:
            raise ConnectionEndedError("the connection ended in the middle of a frame")
        if got and take is not None:
            take(view[filled : filled + got])
        filled += got or 0
        if filled < len(view) and time.monotonic() > deadline:
            raise ProtocolError("a frame did not arrive in time")


def _send_all(sock: socket.socket, views: list[memoryview]) -> None:
    pending = [view for view in views if view.nbytes]
    gather = getattr(sock, "sendmsg", None)
    while pending:
        sent = gather(pending) if gather else sock.send(pending[0])
        while pending and sent >= pending[0].nbytes:
            sent -= pending.pop(0).nbytes
        if sent:
            pending[0] = pending[0][sent:]


def _is_deep(data: bytes) -> bool:
    depth = 0
    for match in _BRACKET.finditer(_STRING.sub(b"", data)):
        depth += 1 if match.group() in b"[{" else -1
        if depth > NESTING_MAX:
            return True
    return False


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key is there twice")
    return table


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def as_blob(array: Any) -> Blob:
    """The numpy array as a blob; copied only when it is not contiguous. Raises `ProtocolError` for other dtypes."""
    import numpy as np

    name = array.dtype.name
    if name not in ITEM_SIZES or not 1 <= array.ndim <= DIMENSIONS_MAX or not array.size:
        raise ProtocolError(f"an array of {name} {array.shape} may not pass")
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return Blob(name, plain.shape, memoryview(plain).cast("B"))


def as_array(blob: Blob) -> Any:
    """The blob as a numpy array over the same memory."""
    import numpy as np

    dtype = np.dtype(blob.dtype).newbyteorder("<")
    return np.frombuffer(blob.data, dtype=dtype).reshape(blob.shape)


def array_digest(array: Any) -> str:
    """SHA-256, in hex, of a numpy array's shape and values."""
    digest = _begun_digest(array.shape)
    digest.update(memoryview(array if array.flags.c_contiguous else array.copy()).cast("B"))
    return digest.hexdigest()


def _begun_digest(shape: tuple[int, ...]) -> hashlib._Hash:
    return hashlib.sha256(repr(tuple(shape)).encode())
