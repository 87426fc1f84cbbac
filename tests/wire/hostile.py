"""Frames that no honest side sends, each wrong by its making."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any

from backend.wire.framing import FRAME_MAX, HEADER_MAX, MAGIC, PREFIX, PROTOCOL_VERSION
from tests.door import frame_bytes, generate

JOB_ID = "0123456789abcdef" * 2


def packed(
    header: Any,
    payload: bytes = b"",
    *,
    magic: bytes = MAGIC,
    version: int = PROTOCOL_VERSION,
    zero: int = 0,
    header_length: int | None = None,
    payload_length: int | None = None,
) -> bytes:
    """A frame with any lie in it; `header` is JSON-able or the header's bytes."""
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    lengths = (
        len(data) if header_length is None else header_length,
        len(payload) if payload_length is None else payload_length,
    )
    return PREFIX.pack(magic, version, zero, *lengths) + data + payload


def cancel(**changes: Any) -> dict[str, Any]:
    return {"type": "cancel", "id": JOB_ID, "blobs": [], **changes}


def blob(**changes: Any) -> dict[str, Any]:
    return {"name": "depth", "dtype": "float32", "shape": [2, 2], **changes}


def generating(blobs: list[Any], payload: bytes = b"", **changes: Any) -> bytes:
    request = generate().request.to_json()
    header = {"type": "generate", "id": JOB_ID, "request": request, "origin": {}, "blobs": blobs, **changes}
    return packed(header, payload)


def by_hand() -> dict[str, bytes]:
    """One of each kind that we could think of, by what is wrong with it; refused without waiting for more."""
    good = packed(cancel())
    return {
        "wrong magic": packed(cancel(), magic=b"HTTP"),
        "a browser": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "another version": packed(cancel(), version=2),
        "version zero": packed(cancel(), version=0),
        "a reserved bit": packed(cancel(), zero=1),
        "no header": packed(b""),
        "a header of one byte": packed(b"{"),
        "a header beyond the cap": packed(cancel(), header_length=HEADER_MAX + 1),
        "a giant header": packed(cancel(), header_length=2**32 - 1),
        "a payload beyond the cap": packed(cancel(), payload_length=FRAME_MAX + 1),
        "a giant payload": packed(cancel(), payload_length=2**64 - 1),
        "a payload at the cap, the header beyond": packed(cancel(), payload_length=FRAME_MAX),
        "bytes that are not UTF-8": packed(b'{"type":"\xff\xfe"}'),
        "no JSON": packed(b"not json at all"),
        "a pickle": packed(b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94."),
        "an array": packed([1, 2, 3]),
        "a number": packed(b"12"),
        "a key twice": packed(b'{"type":"cancel","type":"bye","id":"' + JOB_ID.encode() + b'","blobs":[]}'),
        "a number that is none": packed(b'{"type":"cancel","id":NaN,"blobs":[]}'),
        "infinity": packed(b'{"type":"cancel","id":-Infinity,"blobs":[]}'),
        "a number too large": packed(b'{"type":"cancel","id":1e999,"blobs":[]}'),
        "an integer of a million digits": packed(b'{"type":"cancel","id":' + b"9" * 10**6 + b',"blobs":[]}'),
        "half a surrogate pair": packed(b'{"type":"cancel","id":"\\ud800","blobs":[]}'),
        "a deep list": packed(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
        "a deep object": packed(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        "a deep list without its end": packed(b"[" * (HEADER_MAX - 1)),
        "no blobs": packed({"type": "cancel", "id": JOB_ID}),
        "blobs that are an object": packed(cancel(blobs={})),
        "blobs that are null": packed(cancel(blobs=None)),
        "too many blobs": packed(cancel(blobs=[blob(name=f"b{i}", shape=[1]) for i in range(17)]), bytes(68)),
        "a blob that is text": packed(cancel(blobs=["depth"])),
        "a blob without dtype": packed(cancel(blobs=[{"name": "depth", "shape": [1]}]), bytes(4)),
        "a blob with an offset": packed(cancel(blobs=[blob(offset=0)]), bytes(16)),
        "a blob twice": packed(cancel(blobs=[blob(), blob()]), bytes(32)),
        "a blob's name that climbs": packed(cancel(blobs=[blob(name="../x")]), bytes(16)),
        "a blob's name that is a number": packed(cancel(blobs=[blob(name=1)]), bytes(16)),
        "an unknown dtype": generating([blob(dtype="float128")], bytes(64)),
        "a dtype of objects": generating([blob(dtype="object")], bytes(32)),
        "a dtype that is a list": generating([blob(dtype=["float32"])], bytes(16)),
        "a shape that is a number": generating([blob(shape=4)], bytes(16)),
        "a shape of nothing": generating([blob(shape=[])], bytes(4)),
        "a shape of five sides": generating([blob(shape=[1, 1, 1, 1, 4])], bytes(16)),
        "a side of zero": generating([blob(shape=[0, 2**40])], b""),
        "a negative side": generating([blob(shape=[-2, -2])], bytes(16)),
        "a side that is a truth": generating([blob(shape=[True, 4])], bytes(16)),
        "a side that is a fraction": generating([blob(shape=[2.0, 2])], bytes(16)),
        "sides that overflow": generating([blob(shape=[2**28, 2**28, 2**28, 2**28])], bytes(16)),
        "sides that wrap to the right size": generating([blob(shape=[2**62 + 1, 4])], bytes(16)),
        "more shape than bytes": generating([blob(shape=[2, 3])], bytes(16)),
        "more bytes than shape": generating([blob()], bytes(20)),
        "bytes without a blob": packed(cancel(), bytes(16)),
        "no type": packed({"id": JOB_ID, "blobs": []}),
        "a type that is a number": packed(cancel(type=7)),
        "an unknown type": packed(cancel(type="execute")),
        "a type of the other side": packed(
            {"type": "hello", "backend_version": "", "device": "", "models": [], "blobs": []}
        ),
        "a result from the client": packed({"type": "result", "id": JOB_ID, "origin": {}, "result": {}, "blobs": []}),
        "an unknown field": packed(cancel(path="/etc/passwd")),
        "a blob too many": packed(cancel(blobs=[blob()]), bytes(16)),
        "no id": packed({"type": "cancel", "blobs": []}),
        "a short id": packed(cancel(id="0" * 31)),
        "an id that climbs": packed({"type": "acknowledge", "id": "../../../../tmp/xxxxxxxxxxxxxxxxx", "blobs": []}),
        "an id in capitals": packed(cancel(id="A" * 32)),
        "an id with a line's end": packed(cancel(id="0" * 32 + "\n")),
        "an id that is a list": packed(cancel(id=["0" * 32])),
        "a map of an unknown kind": generating([blob(name="heat")], bytes(16)),
        "an origin that is text": generating([], origin="a.blend"),
        "an origin of numbers": generating([], origin={"file": 1}),
        "an origin too long": generating([], origin={"file": "x" * 9000}),
        "an origin too wide": generating([], origin={str(i): "" for i in range(17)}),
        "a request missing": packed({"type": "generate", "id": JOB_ID, "origin": {}, "blobs": []}),
        "two frames in one's length": packed(cancel(), good, payload_length=len(good)),
    }


def made_up(generator: random.Random) -> tuple[str, bytes]:
    """A hostile frame that nobody thought of; the first word says which recipe made it."""
    recipes: list[Callable[[random.Random], bytes]] = [_noise, _lengths, _shape, _header, _fields]
    recipe = generator.choice(recipes)
    return recipe.__name__, recipe(generator)


def cut(generator: random.Random) -> bytes:
    """An honest frame's beginning: to be followed by the connection's end."""
    whole = frame_bytes(generate("x" * generator.randrange(200) + "y").to_frame())
    return whole[: generator.randrange(1, len(whole))]


def _noise(generator: random.Random) -> bytes:
    return b"\x00" + generator.randbytes(generator.randrange(PREFIX.size, 2000))


def _lengths(generator: random.Random) -> bytes:
    lengths = struct.pack("<IQ", generator.randrange(HEADER_MAX + 1, 2**32), generator.randrange(2**64))
    return packed(cancel())[:8] + lengths + generator.randbytes(100)


def _shape(generator: random.Random) -> bytes:
    sides = [generator.choice([1, 2, 3, 7, 64, 2**16, 2**31, 2**63, -1, 0]) for _ in range(generator.randrange(1, 6))]
    dtype = generator.choice(["float32", "uint8", "uint16", "float16", "int32", "float64", "O", "", "V8", ">f4"])
    # 13 bytes are a product of none of the sides and sizes above but 13 times 1.
    return generating([blob(shape=sides, dtype=dtype)], bytes(13))


def _header(generator: random.Random) -> bytes:
    data = bytearray(json.dumps(cancel()).encode())
    for _ in range(generator.randrange(1, 5)):
        data[generator.randrange(len(data))] = generator.randrange(128, 256)
    return packed(bytes(data) + b"\xff")


def _fields(generator: random.Random) -> bytes:
    key = "".join(generator.choices("abcdefgh_0123éß\U0001f600", k=generator.randrange(1, 30)))
    value = generator.choice([None, True, -1, 2**64, 0.5, "x", [], {}, [[1]], {"a": {"b": None}}])
    return packed(cancel(**{f"{key}x": value}))
