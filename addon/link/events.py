"""What a Link is told, and what it tells."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from ...backend.wire.failure import Failure
from ...backend.wire.request import GenerationRequest
from ...backend.wire.result import GenerationResult, Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class BackendPlace:
    """Where the backend is and where it may write. `data_folder` holds results/, logs/ and run/.

    python: the backend's own interpreter. device: "auto", "cpu", "cuda", "mps". transport: "auto", "unix" or "tcp".
    program: what the interpreter runs instead of the backend (for tests of the door).
    """

    python: Path
    models_folder: Path
    data_folder: Path
    device: str = "auto"
    transport: str = "auto"
    program: tuple[str, ...] | None = None


class LinkState(Enum):
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    DIED = "died"
    """It ended or could not start; `Link.failure` says why. The next submit starts another."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job that is not done. `is_running`: given to the backend; else it waits in the add-on's own queue."""

    job_id: str
    request: GenerationRequest
    origin: dict[str, str]
    is_running: bool
    is_cancelling: bool
    progress: Progress


@dataclass(frozen=True, slots=True)
class StateChanged:
    state: LinkState
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class Progressed:
    job_id: str
    progress: Progress


@dataclass(frozen=True, eq=False, slots=True)
class Previewed:
    """image: (height, width, 3) uint8, sRGB, row 0 on top."""

    job_id: str
    image: NDArray[np.uint8]


@dataclass(frozen=True, eq=False, slots=True)
class Finished:
    """The Result is here, and stays on disk until `Link.acknowledge`."""

    job_id: str
    result: GenerationResult
    origin: dict[str, str]


@dataclass(frozen=True, slots=True)
class Failed:
    """There will be no Result; a cancelled job fails with kind `cancelled`."""

    job_id: str
    failure: Failure
    origin: dict[str, str]


Event = StateChanged | Progressed | Previewed | Finished | Failed
