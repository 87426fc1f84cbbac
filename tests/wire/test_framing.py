"""Frames through a socket pair: what goes in comes out, and what is wrong is refused wherever it is cut or bent."""

from __future__ import annotations

import json
import math
import socket
import struct
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.wire import framing
from backend.wire.framing import (
    ITEM_SIZES,
    MAPPED_MIN,
    PREFIX,
    Blob,
    Frame,
    ProtocolError,
    array_digest,
    as_array,
    as_blob,
    parse_json,
    receive_frame,
    send_frame,
)
from tests.door import frame_bytes

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
# No lone halves of surrogate pairs: they cannot be written.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)


@st.composite
def blobs(draw: st.DrawFn) -> Blob:
    dtype = draw(st.sampled_from(sorted(ITEM_SIZES)))
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    return Blob(dtype, shape, draw(st.binary(min_size=(size := math.prod(shape) * ITEM_SIZES[dtype]), max_size=size)))


FRAMES = st.builds(
    Frame,
    st.dictionaries(TEXT.filter(lambda key: key != "blobs"), JSON, max_size=4),
    st.dictionaries(NAMES, blobs(), max_size=4),
)


def received(data: bytes) -> Frame | None:
    """What a receiver makes of `data` and the connection's end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=_send, args=(ours, data))
        sender.start()
        try:
            return receive_frame(theirs)
        finally:
            theirs.close()
            sender.join()


def _send(sock: socket.socket, data: bytes) -> None:
    try:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        # The receiver has seen enough.
        return


def content(frame: Frame | None) -> object:
    assert frame is not None
    return frame.header, {name: (blob.dtype, blob.shape, bytes(blob.data)) for name, blob in frame.blobs.items()}


@settings(deadline=None, max_examples=200)
@given(FRAMES)
def test_a_frame_comes_out_as_it_went_in(frame: Frame) -> None:
    assert content(received(frame_bytes(frame))) == content(frame)


@settings(deadline=None, max_examples=200)
@given(FRAMES, st.data())
def test_a_frame_that_is_cut_anywhere_is_refused(frame: Frame, data: st.DataObject) -> None:
    whole = frame_bytes(frame)
    kept = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(ProtocolError):
        received(whole[:kept])


@settings(deadline=None, max_examples=300)
@given(FRAMES, st.data())
def test_a_frame_with_bent_bytes_is_refused_or_is_another_honest_frame(frame: Frame, data: st.DataObject) -> None:
    bent = bytearray(frame_bytes(frame))
    # Lengths that promise more than there is end with the connection; nothing else may be raised.
    for place in data.draw(st.lists(st.integers(0, len(bent) - 1), min_size=1, max_size=4)):
        bent[place] = data.draw(st.integers(0, 255))
    try:
        other = received(bytes(bent))
    except ProtocolError:
        return
    assert content(received(frame_bytes(other or Frame({}, {})))) == content(other)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=300))
def test_bytes_of_any_kind_raise_nothing_but_the_rules(data: bytes) -> None:
    for sent in (data, PREFIX.pack(framing.MAGIC, framing.PROTOCOL_VERSION, 0, len(data), 0) + data):
        try:
            received(sent)
        except ProtocolError:
            continue


def test_the_connections_end_between_frames_is_no_error() -> None:
    assert received(b"") is None


def test_a_large_array_arrives_in_memory_of_its_own_and_can_be_written() -> None:
    array = np.arange(MAPPED_MIN, dtype=np.float32).reshape(1024, -1)
    frame = received(frame_bytes(Frame({}, {"depth": as_blob(array), "line": as_blob(array[::2, ::2])})))
    assert frame is not None
    depth, line = as_array(frame.blobs["depth"]), as_array(frame.blobs["line"])
    assert np.array_equal(depth, array) and np.array_equal(line, array[::2, ::2])
    depth += 1
    assert not np.shares_memory(depth, line)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3, np.float64),
        np.zeros(3, object),
        np.zeros(()),
        np.zeros((0, 3), np.float32),
        np.zeros((1,) * 5, "u1"),
    ],
)
def test_arrays_that_may_not_pass_are_refused_by_the_sender(array: np.ndarray) -> None:
    with pytest.raises(ProtocolError, match="may not pass"):
        as_blob(array)


def test_big_endian_arrays_travel_as_little_endian() -> None:
    array = np.array([1.5, -2.0], ">f4")
    blob = as_blob(array)
    assert struct.unpack("<2f", blob.data) == (1.5, -2.0)
    assert as_array(blob).tolist() == [1.5, -2.0]


def test_the_sender_refuses_what_the_receiver_would() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for frame in (
            Frame({"x": math.nan}, {}),
            Frame({"x": "\ud800"}, {}),
            Frame({"x": "x" * framing.HEADER_MAX}, {}),
            Frame({}, {"depth": Blob("float32", (2,), bytes(4))}),
            Frame({}, {"Depth": Blob("uint8", (2,), bytes(2))}),
        ):
            with pytest.raises(ProtocolError):
                send_frame(ours, frame)
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)


def test_large_memory_is_used_again_only_when_nothing_looks_at_it() -> None:
    memory, size = framing.Memory(), framing.MAPPED_MIN
    first = np.frombuffer(memory.take(size), np.uint8)
    first[:] = 1
    second = np.frombuffer(memory.take(size - 8), np.uint8)
    second[:] = 2
    assert first.min() == first.max() == 1, "an array's memory was given away"
    where = second.ctypes.data
    part = second[5:9]
    del second
    assert np.frombuffer(memory.take(size), np.uint8).ctypes.data != where, "a slice still looks at it"
    assert part.tolist() == [2, 2, 2, 2]
    third = np.frombuffer(memory.take(size), np.uint8).ctypes.data
    assert np.frombuffer(memory.take(size), np.uint8).ctypes.data == third


def test_memory_beyond_the_limit_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "KEPT_MAX", framing.MAPPED_MIN)
    memory = framing.Memory()
    assert len(memory.take(framing.MAPPED_MIN + 1)) == framing.MAPPED_MIN + 1
    assert len(memory._kept) == 0


def test_a_frame_that_stalls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "STALL_SECONDS", 0.1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(0.05)
        ours.sendall(frame_bytes(Frame({}, {}))[:-1])
        with pytest.raises(ProtocolError, match="in time"):
            receive_frame(theirs)


def test_silence_between_frames_is_waited_out() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(0.01)
        timer = threading.Timer(0.1, ours.sendall, [frame_bytes(Frame({"late": 1}, {}))])
        timer.start()
        frame = receive_frame(theirs)
        timer.join()
        assert frame is not None and frame.header == {"late": 1}


@pytest.mark.parametrize("depth", [framing.NESTING_MAX - 1, framing.NESTING_MAX])
def test_nesting_is_counted_outside_of_strings(depth: int) -> None:
    text = json.dumps({"a": '[[[["' * 100, "b": 0}).replace(": 0", ": " + "[" * depth + "]" * depth)
    if depth < framing.NESTING_MAX:
        assert parse_json(text.encode())["a"] == '[[[["' * 100
    else:
        with pytest.raises(ProtocolError, match="deeply"):
            parse_json(text.encode())


def test_digests_are_taken_while_the_bytes_arrive() -> None:
    arrays = {
        "depth": np.arange(600_000, dtype=np.float32).reshape(600, 1000),
        "image": (np.arange(300) % 256).astype(np.uint8).reshape(10, 10, 3),
    }
    ours, theirs = socket.socketpair()
    with ours, theirs:
        frame = Frame({"type": "x"}, {name: as_blob(array) for name, array in arrays.items()})
        sender = threading.Thread(target=send_frame, args=(ours, frame))
        sender.start()
        got = receive_frame(theirs, with_digests=True)
        sender.join()
    assert got is not None and list(got.blobs) == list(arrays)
    for name, blob in got.blobs.items():
        assert np.array_equal(as_array(blob), arrays[name])
        assert blob.digest == array_digest(arrays[name]) == array_digest(np.asfortranarray(arrays[name]))
    flat = arrays["image"].reshape(300)
    assert array_digest(flat) != array_digest(arrays["image"]), "the shape counts"
