"""Every message survives its way; what only one side may say, the other does not understand."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.wire import (
    Control,
    ControlMaps,
    Failure,
    FailureKind,
    GenerationRequest,
    GenerationResult,
    Progress,
)
from backend.wire import messages as m
from backend.wire.endpoint import Endpoint
from backend.wire.framing import PAYLOAD_MAX, Frame, ProtocolError
from backend.wire.maps import REFERENCE_SIDE_MAX
from backend.wire.request import PIXELS_MAX

ROOT = Path(__file__).resolve().parent.parent.parent
JOB_ID = "0123456789abcdef" * 2
REQUEST = GenerationRequest(
    "a hill, ä \U0001f600", 64, 128, seed=2**32 - 1, controls=(Control("depth"), Control("line", 0.5))
)
MAPS = ControlMaps(depth=np.full((128, 64), np.inf, np.float32), line=np.ones((128, 64), np.float32))
COLOURS = ControlMaps(colour=np.arange(128 * 64 * 3, dtype=np.uint8).reshape(128, 64, 3))
RESULT = GenerationResult(REQUEST, b"png", {"depth": b"d"}, {"a": [1, {"b": None}]}, {"text": 0.5}, 2**40)
CLIENT: list[Any] = [
    m.Generate(JOB_ID, REQUEST, MAPS, {"file": "a.blend"}),
    m.Generate(JOB_ID, REQUEST, ControlMaps(), {}),
    m.Generate(JOB_ID, REQUEST, COLOURS, {}),
    m.Cancel(JOB_ID),
    m.AskStatus(),
    m.Acknowledge(JOB_ID),
    m.Bye(),
]
SERVER: list[Any] = [
    m.Hello("0.1.0", "cpu", ("sample", "dev")),
    m.Status((JOB_ID,), (), (JOB_ID, "f" * 32)),
    m.ProgressMade(JOB_ID, Progress("denoising", 3, 20, 0.25, "It is told.")),
    m.ProgressMade(JOB_ID, Progress("denoising", 3, 20, 0.25, seconds_left=12.5)),
    m.Preview(JOB_ID, np.arange(24, dtype=np.uint8).reshape(2, 4, 3)),
    m.Finished(JOB_ID, RESULT, {"file": "a.blend"}),
    m.Finished(JOB_ID, GenerationResult(REQUEST), {}),
    m.Failed(JOB_ID, Failure(FailureKind.DISK_FULL, "It is full.", "Make room.", "detail")),
    m.Bye(),
]


def plain(value: Any) -> Any:
    """The message in a form that compares: its arrays as lists."""
    if isinstance(value, np.ndarray):
        return value.dtype.name, value.tolist()
    if isinstance(value, ControlMaps):
        return {kind: plain(array) for kind, array in value.arrays().items()}
    if type(value).__module__ == m.__name__:
        return type(value), {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


@pytest.mark.parametrize("message", CLIENT, ids=lambda message: type(message).__name__)
def test_what_the_client_says_is_understood(message: Any) -> None:
    assert plain(m.from_client(message.to_frame())) == plain(message)


@pytest.mark.parametrize("message", SERVER, ids=lambda message: type(message).__name__)
def test_what_the_server_says_is_understood(message: Any) -> None:
    assert plain(m.from_server(message.to_frame())) == plain(message)


@pytest.mark.parametrize("message", CLIENT + SERVER, ids=lambda message: type(message).__name__)
def test_a_field_too_many_or_too_few_is_refused_by_name(message: Any) -> None:
    decode = m.from_client if message in CLIENT else m.from_server
    frame = message.to_frame()
    with pytest.raises(ProtocolError, match="surprise"):
        decode(Frame({**frame.header, "surprise": 1}, frame.blobs))
    for name in frame.header:
        header = {key: value for key, value in frame.header.items() if key != name}
        with pytest.raises(ProtocolError):
            decode(Frame(header, frame.blobs))


def test_neither_side_may_say_the_others_words() -> None:
    for message in SERVER[:-1]:
        with pytest.raises(ProtocolError, match="from this side"):
            m.from_client(message.to_frame())
    for message in CLIENT[:-1]:
        with pytest.raises(ProtocolError, match="from this side"):
            m.from_server(message.to_frame())


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("width", 20_000), ("width", 0), ("prompt", " "), ("model", "../x"), ("steps", "1"), ("extra", 1)],
)
def test_a_request_that_cannot_be_met_is_answered_and_not_hung_up_on(name: str, value: Any) -> None:
    frame = CLIENT[0].to_frame()
    header = {**frame.header, "request": {**frame.header["request"], name: value}}
    with pytest.raises(m.RefusedRequestError) as refused:
        m.from_client(Frame(header, frame.blobs))
    assert refused.value.job_id == JOB_ID
    assert refused.value.failure.kind is FailureKind.BAD_REQUEST
    assert refused.value.failure.hint


@pytest.mark.parametrize(
    ("position", "changes"),
    [
        (0, {"models": "sample"}),
        (1, {"running": ["x"]}),
        (2, {"fraction": 1.5}),
        (2, {"fraction": -1}),
        (2, {"step": True}),
        (2, {"step": -1}),
        (4, {"result": {}}),
        (4, {"origin": None}),
        (6, {"failure": {"kind": "nonsense", "message": "", "hint": "", "detail": ""}}),
        (6, {"failure": {"kind": "internal"}}),
    ],
)
def test_fields_of_the_wrong_kind_are_refused(position: int, changes: dict[str, Any]) -> None:
    frame = SERVER[position].to_frame()
    with pytest.raises(ProtocolError):
        m.from_server(Frame({**frame.header, **changes}, frame.blobs))


def test_an_endpoint_is_a_path_or_a_port() -> None:
    for endpoint in (Endpoint(path="/x/socket"), Endpoint(port=80)):
        assert Endpoint.from_json(endpoint.to_json()) == endpoint
    for wrong in (
        {},
        {"path": "", "port": 0},
        {"path": "/x", "port": 1},
        {"path": "", "port": 70_000},
        {"path": 1, "port": 0},
    ):
        with pytest.raises(ValueError, match="endpoint"):
            Endpoint.from_json(wrong)


def test_importing_the_wire_loads_only_itself_and_the_standard_library() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pkgutil, importlib, backend.wire as wire; "
        "[importlib.import_module(f'backend.wire.{module.name}') for module in pkgutil.iter_modules(wire.__path__)]; "
        "names = set(sys.modules) - {'__main__'}; "
        "roots = {name.partition('.')[0] for name in names} - set(sys.stdlib_module_names) - {'backend'}; "
        "print(sorted(roots), sorted(name for name in names if name.startswith('backend.') "
        "and not name.startswith('backend.wire')))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, "-I", "-S", "-c", code]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert shown.stdout.strip() == "[] []"


def test_all_maps_of_the_largest_picture_pass_the_door_at_once() -> None:
    """Arrays that are as large as they say, and take no memory: every pixel is the same one."""

    def full(dtype: type, *last: int, side: int = 2048) -> Any:
        return np.broadcast_to(np.zeros((), dtype), (side, side, *last))

    assert PIXELS_MAX == 2048**2
    maps = ControlMaps(
        depth=full(np.float32), normal=full(np.float32, 3), line=full(np.float32), colour=full(np.uint8, 3),
        image=full(np.uint8, 3), mask=full(np.float32), reference=full(np.uint8, 3, side=REFERENCE_SIDE_MAX),
        pose=np.zeros((64, 18, 3), np.float32),
    )  # fmt: skip
    assert sum(array.nbytes for array in maps.arrays().values()) < PAYLOAD_MAX
