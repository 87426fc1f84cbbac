"""What the two sides may say to each other, and how each message becomes a frame and back.

Unknown types and fields are refused by name: both sides ship in one zip, so there is nothing to be lenient for.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from .failure import Failure, FailureError
from .framing import Blob, Frame, ProtocolError, as_array, as_blob
from .maps import MAPS, SOURCES, ControlMaps
from .request import CONTROL_KINDS, GenerationRequest
from .result import GenerationResult, Progress
from .stored import is_job_id, is_origin, result_from_json, result_to_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PICTURE_BLOB = "picture"
CONTROL_BLOB = "control_"
TEXT_MAX = 100_000
NAMES_MAX = 1000


class RefusedRequestError(Exception):
    """A well-formed generate message whose Request asks for something impossible: answered, not hung up on."""

    def __init__(self, job_id: str, failure: Failure) -> None:
        super().__init__(str(failure))
        self.job_id = job_id
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Hello:
    """The backend's first words after the handshake. `models` are names, `device` is what it was told to use."""

    backend_version: str
    device: str
    models: tuple[str, ...]

    def to_frame(self) -> Frame:
        header = {"backend_version": self.backend_version, "device": self.device, "models": list(self.models)}
        return _frame("hello", header)

    @classmethod
    def from_fields(cls, fields: _Fields) -> Hello:
        return cls(fields.text("backend_version"), fields.text("device"), fields.names("models"))


@dataclass(frozen=True, slots=True)
class Generate:
    """A job: the Request, its maps, and where the job came from (kept with its Result, not read by the backend).

    The maps are arrays by now, but not checked against the Request: that reads all of them, and is the worker's.
    digests: those of the maps' arrays that were taken while they arrived, by name.
    """

    job_id: str
    request: GenerationRequest
    maps: ControlMaps
    origin: dict[str, str]
    digests: dict[str, str] = field(default_factory=dict)

    def to_frame(self) -> Frame:
        header = {"id": self.job_id, "request": self.request.to_json(), "origin": self.origin}
        return _frame("generate", header, {kind: as_blob(array) for kind, array in self.maps.arrays().items()})

    @classmethod
    def from_fields(cls, fields: _Fields) -> Generate:
        job_id, origin, data = fields.job_id(), fields.take("origin"), fields.take("request")
        if not is_origin(origin):
            raise ProtocolError("the origin is not a table of a few short texts")
        arrays = fields.blobs((*MAPS, *SOURCES))
        fields.end()
        maps = ControlMaps(**{kind: as_array(blob) for kind, blob in arrays.items()})
        try:
            request = GenerationRequest.from_json(data)
        except FailureError as error:
            raise RefusedRequestError(job_id, error.failure) from error
        return cls(job_id, request, maps, origin, {kind: blob.digest for kind, blob in arrays.items() if blob.digest})


@dataclass(frozen=True, slots=True)
class Cancel:
    job_id: str

    def to_frame(self) -> Frame:
        return _frame("cancel", {"id": self.job_id})

    @classmethod
    def from_fields(cls, fields: _Fields) -> Cancel:
        return cls(fields.job_id())


@dataclass(frozen=True, slots=True)
class AskStatus:
    """Asks for a `Status`."""

    def to_frame(self) -> Frame:
        return _frame("ask_status", {})

    @classmethod
    def from_fields(cls, fields: _Fields) -> AskStatus:
        return cls()


@dataclass(frozen=True, slots=True)
class Status:
    """The ids of the jobs that are running (at most one), queued, and finished but not acknowledged."""

    running: tuple[str, ...]
    queued: tuple[str, ...]
    stored: tuple[str, ...]

    def to_frame(self) -> Frame:
        header = {"running": list(self.running), "queued": list(self.queued), "stored": list(self.stored)}
        return _frame("status", header)

    @classmethod
    def from_fields(cls, fields: _Fields) -> Status:
        return cls(fields.job_ids("running"), fields.job_ids("queued"), fields.job_ids("stored"))


@dataclass(frozen=True, slots=True)
class ProgressMade:
    job_id: str
    progress: Progress

    def to_frame(self) -> Frame:
        now = self.progress
        return _frame("progress", {"id": self.job_id, **asdict(now)})

    @classmethod
    def from_fields(cls, fields: _Fields) -> ProgressMade:
        job_id, stage = fields.job_id(), fields.text("stage")
        places = fields.count("step"), fields.count("steps"), fields.number("fraction")
        progress = Progress(stage, *places, fields.text("note"), fields.number_or_none("seconds_left"))
        if progress.fraction > 1.0:
            raise ProtocolError("a progress is beyond its end")
        return cls(job_id, progress)


@dataclass(frozen=True, eq=False, slots=True)
class Preview:
    """A small picture of the job so far: (height, width, 3) uint8, sRGB, row 0 on top."""

    job_id: str
    image: NDArray[np.uint8]

    def to_frame(self) -> Frame:
        return _frame("preview", {"id": self.job_id}, {"image": as_blob(self.image)})

    @classmethod
    def from_fields(cls, fields: _Fields) -> Preview:
        job_id, blobs = fields.job_id(), fields.blobs(("image",))
        blob = blobs.get("image")
        if blob is None or blob.dtype != "uint8" or len(blob.shape) != 3 or blob.shape[2] != 3:
            raise ProtocolError("a preview is one (height, width, 3) picture of uint8")
        return cls(job_id, as_array(blob))


@dataclass(frozen=True, eq=False, slots=True)
class Finished:
    """The job's Result, which is on disk by now."""

    job_id: str
    result: GenerationResult
    origin: dict[str, str]

    def to_frame(self) -> Frame:
        pictures = {f"{CONTROL_BLOB}{kind}": png for kind, png in self.result.control_pngs.items()}
        if self.result.png:
            pictures[PICTURE_BLOB] = self.result.png
        blobs = {name: Blob("uint8", (len(png),), png) for name, png in pictures.items()}
        header = {"id": self.job_id, "origin": self.origin, "result": result_to_json(self.result)}
        return _frame("result", header, blobs)

    @classmethod
    def from_fields(cls, fields: _Fields) -> Finished:
        job_id, origin, data = fields.job_id(), fields.take("origin"), fields.take("result")
        if not is_origin(origin):
            raise ProtocolError("the origin is not a table of a few short texts")
        blobs = fields.blobs((PICTURE_BLOB, *(f"{CONTROL_BLOB}{kind}" for kind in CONTROL_KINDS)))
        if any(blob.dtype != "uint8" or len(blob.shape) != 1 for blob in blobs.values()):
            raise ProtocolError("a picture is not a row of bytes")
        pngs = {name: bytes(blob.data) for name, blob in blobs.items()}
        picture = pngs.pop(PICTURE_BLOB, b"")
        controls = {name.removeprefix(CONTROL_BLOB): png for name, png in pngs.items()}
        try:
            return cls(job_id, result_from_json(data, picture, controls), origin)
        except ValueError as error:
            raise ProtocolError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """The Result of this job is in safe hands: the stored one may go."""

    job_id: str

    def to_frame(self) -> Frame:
        return _frame("acknowledge", {"id": self.job_id})

    @classmethod
    def from_fields(cls, fields: _Fields) -> Acknowledge:
        return cls(fields.job_id())


@dataclass(frozen=True, slots=True)
class Failed:
    job_id: str
    failure: Failure

    def to_frame(self) -> Frame:
        return _frame("failure", {"id": self.job_id, "failure": self.failure.to_json()})

    @classmethod
    def from_fields(cls, fields: _Fields) -> Failed:
        job_id, data = fields.job_id(), fields.take("failure")
        try:
            return cls(job_id, Failure.from_json(data))
        except ValueError as error:
            raise ProtocolError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Bye:
    """The sender hangs up on purpose. From the add-on: the backend's work is done."""

    def to_frame(self) -> Frame:
        return _frame("bye", {})

    @classmethod
    def from_fields(cls, fields: _Fields) -> Bye:
        return cls()


ClientMessage = Generate | Cancel | AskStatus | Acknowledge | Bye
ServerMessage = Hello | Status | ProgressMade | Preview | Finished | Failed | Bye

_CLIENT_TYPES: dict[str, Any] = {
    "generate": Generate,
    "cancel": Cancel,
    "ask_status": AskStatus,
    "acknowledge": Acknowledge,
    "bye": Bye,
}
_SERVER_TYPES: dict[str, Any] = {
    "hello": Hello,
    "status": Status,
    "progress": ProgressMade,
    "preview": Preview,
    "result": Finished,
    "failure": Failed,
    "bye": Bye,
}


def from_client(frame: Frame) -> ClientMessage:
    """What the add-on said. Raises `ProtocolError`, or `RefusedRequestError` for a Request that cannot be met."""
    return _decode(frame, _CLIENT_TYPES)


def from_server(frame: Frame) -> ServerMessage:
    """What the backend said. Raises `ProtocolError`."""
    return _decode(frame, _SERVER_TYPES)


def _decode(frame: Frame, types: dict[str, Any]) -> Any:
    kind = frame.header.get("type")
    if not isinstance(kind, str) or kind not in types:
        raise ProtocolError(f"there is no message called {str(kind)[:40]!r} from this side")
    fields = _Fields(frame)
    message = types[kind].from_fields(fields)
    fields.end()
    return message


def _frame(kind: str, header: dict[str, Any], blobs: dict[str, Blob] | None = None) -> Frame:
    return Frame({"type": kind, **header}, blobs or {})


class _Fields:
    """Takes a frame apart, field by field; what is missing, of the wrong type or left over is a `ProtocolError`."""

    def __init__(self, frame: Frame) -> None:
        self._values = {key: value for key, value in frame.header.items() if key != "type"}
        self._blobs = dict(frame.blobs)

    def take(self, key: str) -> Any:
        if key not in self._values:
            raise ProtocolError(f"the field {key} is missing")
        return self._values.pop(key)

    def text(self, key: str) -> str:
        value = self.take(key)
        if not isinstance(value, str) or len(value) > TEXT_MAX:
            raise ProtocolError(f"the field {key} is not text")
        return value

    def count(self, key: str) -> int:
        value = self.take(key)
        if type(value) is not int or not 0 <= value < 2**31:
            raise ProtocolError(f"the field {key} is not a count")
        return value

    def number(self, key: str) -> float:
        value = self.take(key)
        if type(value) not in (int, float) or not 0.0 <= value < math.inf:
            raise ProtocolError(f"the field {key} is not a number from 0 up")
        return float(value)

    def number_or_none(self, key: str) -> float | None:
        if self._values.get(key, 0) is None:
            return self.take(key)
        return self.number(key)

    def job_id(self) -> str:
        return _checked_id(self.take("id"))

    def job_ids(self, key: str) -> tuple[str, ...]:
        return tuple(_checked_id(name) for name in self.names(key))

    def names(self, key: str) -> tuple[str, ...]:
        value = self.take(key)
        if not isinstance(value, list) or len(value) > NAMES_MAX or not all(isinstance(name, str) for name in value):
            raise ProtocolError(f"the field {key} is not a list of names")
        return tuple(value)

    def blobs(self, allowed: tuple[str, ...]) -> dict[str, Blob]:
        return {name: self._blobs.pop(name) for name in list(self._blobs) if name in allowed}

    def end(self) -> None:
        left = [*self._values, *self._blobs]
        if left:
            raise ProtocolError(f"unknown field {left[0][:40]!r}")


def _checked_id(value: object) -> str:
    if not is_job_id(value):
        raise ProtocolError("a job's id is not 32 hexadecimal digits")
    return str(value)
