"""The backend's process: its configuration, its log, its lifeline and its end."""

from __future__ import annotations

import faulthandler
import importlib.util
import json
import logging
import logging.handlers
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from . import __version__, lifeline
from .jobs import Jobs, Producer
from .server import Server
from .wire.disk import disk_failures
from .wire.endpoint import TEMPORARY_PREFIX, TRANSPORTS, Endpoint, listen
from .wire.failure import Failure, FailureError, FailureKind
from .wire.framing import parse_json
from .wire.handshake import SECRET_BYTES
from .wire.messages import Hello
from .wire.model_names import model_names

LOG_BYTES = 2 * 2**20
LOG_FILES = 5
NICENESS_ON_CPU, NICENESS_ON_GPU = 19, 10
"""Blender draws first; the backend computes in the time that Blender leaves. With a GPU it needs little of that, and
without it the GPU would wait. Windows is told when it starts us."""
GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd")
"""What Linux has where there is a driver of NVIDIA's or AMD's: asking torch would take seconds."""
SAVE_SECONDS = 3.0
"""How long a Result that is being written may still take when the parent is gone."""
CACHE_FOLDER = "cache"
"""In the data folder: finished pictures and what else a production keeps between runs."""
MODELS_TOLD = 1000
NEEDED = ("torch", "diffusers", "transformers", "numpy")
_CONFIG_MAX = 64 * 2**10
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """What the parent says in one line of JSON on stdin. The folders are absolute paths."""

    secret: bytes
    data_folder: Path
    models_folder: Path
    device: str
    parent_pid: int
    transport: str

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ServeConfig:
        """Raises `ValueError` when `data` is not exactly the fields above, the secret in hex."""
        wanted = {"secret", "data_folder", "models_folder", "device", "parent_pid", "transport"}
        if set(data) != wanted:
            raise ValueError(f"the configuration has exactly {', '.join(sorted(wanted))}")
        texts = {name: data[name] for name in wanted - {"parent_pid"}}
        if not all(isinstance(text, str) for text in texts.values()) or type(data["parent_pid"]) is not int:
            raise ValueError("a field of the configuration is of the wrong type")
        secret = bytes.fromhex(texts["secret"])
        if len(secret) != SECRET_BYTES or texts["transport"] not in TRANSPORTS:
            raise ValueError("the secret or the transport is wrong")
        return cls(
            secret,
            Path(texts["data_folder"]),
            Path(texts["models_folder"]),
            texts["device"],
            data["parent_pid"],
            texts["transport"],
        )


def serve_process(make_producer: Callable[[ServeConfig], Producer], needed: Sequence[str] = NEEDED) -> NoReturn:
    """The whole life of a backend process. `needed` are the modules without which no job could run."""
    stdin, stdout = _take_standard_streams()
    config = ServeConfig.from_json(parse_json(stdin.readline(_CONFIG_MAX)))
    if hasattr(os, "nice"):
        os.nice(NICENESS_ON_GPU if _computes_on_gpu(config.device) else NICENESS_ON_CPU)
    try:
        missing = [name for name in needed if importlib.util.find_spec(name) is None]
        if missing:
            raise FailureError(_lacking(missing))
        with disk_failures(config.data_folder):
            _start_log(config.data_folder / "logs")
            lifeline.sweep(config.data_folder / "run", "")
            lifeline.sweep(Path(tempfile.gettempdir()), TEMPORARY_PREFIX)
            listener, endpoint = listen(config.data_folder / "run", config.transport)
            hello = Hello(__version__, config.device, tuple(model_names(config.models_folder)[:MODELS_TOLD]))
            server = Server(listener, config.secret, hello)
            jobs = Jobs(lambda: make_producer(config), config.data_folder / "results", server.announce)
    except FailureError as error:
        _announce(stdout, {"failure": error.failure.to_json()})
        sys.exit(1)
    lifeline.hold(stdin, config.parent_pid, lambda: _end(endpoint, jobs))
    _announce(stdout, {"endpoint": endpoint.to_json()})
    jobs.start()
    _log.info("serving; backend %s, Python %s", __version__, sys.version.split()[0])
    server.serve_forever(jobs)
    _end(endpoint, jobs)


def _computes_on_gpu(device: str) -> bool:
    if device == "auto":
        return sys.platform == "darwin" or any(os.path.exists(path) for path in GPU_DEVICES)
    return device != "cpu"


def _take_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """The parent's two pipes, to ourselves: what libraries print goes to the log, and no child gets the lifeline."""
    stdin = os.fdopen(os.dup(0), "rb", buffering=0)
    stdout = os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    faulthandler.enable()
    return stdin, stdout


def _start_log(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(
        folder / "backend.log", maxBytes=LOG_BYTES, backupCount=LOG_FILES - 1, encoding="utf-8"
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)
    logging.captureWarnings(True)


def _announce(stdout: BinaryIO, line: dict[str, Any]) -> None:
    stdout.write(json.dumps({"grisaille": 1, **line}).encode() + b"\n")
    stdout.close()


def _end(endpoint: Endpoint, jobs: Jobs) -> NoReturn:
    jobs.wait_saved(SAVE_SECONDS)
    endpoint.remove()
    # Not sys.exit: a job in the middle of a kernel, or a library's threads, must not keep the process.
    os._exit(0)


def _lacking(modules: list[str]) -> Failure:
    return Failure(
        FailureKind.BACKEND_NOT_FOUND,
        f"The Python {sys.executable} is not a Grisaille backend: it lacks {', '.join(modules)}.",
        "Choose the backend's Python in the preferences, or set the backend up again.",
    )
