"""The backend's process, seen from its parent."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from ...backend.wire.disk import disk_failures
from ...backend.wire.endpoint import Endpoint
from ...backend.wire.failure import Failure, FailureError, FailureKind
from ...backend.wire.framing import ProtocolError, parse_json
from ...backend.wire.handshake import SECRET_BYTES
from .events import BackendPlace

START_SECONDS = 120.0
"""How long a process may take to say where it listens: a cold disk and a virus scanner are slow, not dead."""
WINDOWS_FLAGS = ("CREATE_NO_WINDOW", "BELOW_NORMAL_PRIORITY_CLASS")
LINE_MAX = 64 * 2**10
STDERR_MAX = 2 * 2**20
BOOTSTRAP = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module('backend', run_name='__main__', alter_sys=True)"
)
_SETUP_HINT = "Choose the backend's Python in the preferences, or set the backend up again."


class BackendProcess:
    """A child that ends when we do: its stdin is a pipe that only we hold."""

    def __init__(self, place: BackendPlace) -> None:
        """Starts it. Raises `FailureError` when there is no such Python or nowhere to write."""
        self._place = place
        self.secret = secrets.token_bytes(SECRET_BYTES)
        if not os.path.isfile(place.python) or not os.access(place.python, os.X_OK):
            raise FailureError.of(FailureKind.BACKEND_NOT_FOUND, f"There is no Python at {place.python}.", _SETUP_HINT)
        with disk_failures(place.data_folder):
            self._stderr = _stderr_path(place.data_folder)
            self._stderr_start = self._stderr.stat().st_size if self._stderr.exists() else 0
            stderr = self._stderr.open("ab")
        with stderr:
            self._popen = self._spawn(stderr)
        self._configure()

    def endpoint(self) -> Endpoint:
        """Waits until it listens. Raises `FailureError` when it ends first, or takes more than START_SECONDS."""
        timer = threading.Timer(START_SECONDS, self._popen.kill)
        timer.daemon = True
        timer.start()
        try:
            while line := self._stdout().readline(LINE_MAX):
                said = _announcement(line)
                if "failure" in said:
                    raise FailureError(Failure.from_json(said["failure"]))
                if "endpoint" in said:
                    return Endpoint.from_json(said["endpoint"])
        except (OSError, ValueError) as error:
            raise FailureError(self._not_a_backend(str(error))) from error
        finally:
            timer.cancel()
        raise FailureError(self._not_a_backend("it ended without a word"))

    def wait(self, seconds: float) -> int | None:
        """Its exit code, or None when it still runs after so long."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def end(self, seconds: float) -> int:
        """Ends it: by closing its stdin, and by force when that takes longer than so many seconds."""
        with suppress(OSError):
            self._stdin().close()
        if self.wait(seconds) is None:
            self._popen.kill()
        code = self._popen.wait()
        self._stdout().close()
        return code

    def kill(self) -> None:
        self._popen.kill()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def stderr_tail(self) -> str:
        """The last of what it wrote to stderr: a crash in native code leaves its trace there."""
        with suppress(OSError), self._stderr.open("rb") as file:
            file.seek(max(self._stderr_start, file.seek(0, os.SEEK_END) - 4000))
            return file.read().decode("utf-8", "replace").strip()
        return ""

    def _spawn(self, stderr: BinaryIO) -> subprocess.Popen[bytes]:
        program = self._place.program or backend_command("serve")
        try:
            return subprocess.Popen(
                [str(self._place.python), "-I", "-X", "utf8", *program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                # Not the extension's folder: Windows would not let an update replace it.
                cwd=self._place.data_folder,
                env=clean_environment(),
                close_fds=True,
                # Ctrl-C in the terminal is for Blender; the backend follows it. Not a session of its own: Linux
                # shares the processor between sessions first, and the backend's low priority would not count.
                process_group=0,
                creationflags=creation_flags(),
            )
        except OSError as error:
            message = f"{self._place.python} could not be run: {error.strerror}."
            raise FailureError.of(FailureKind.BACKEND_NOT_FOUND, message, _SETUP_HINT) from error

    def _configure(self) -> None:
        config = {
            "secret": self.secret.hex(),
            "data_folder": str(self._place.data_folder.resolve()),
            "models_folder": str(self._place.models_folder.resolve()),
            "device": self._place.device,
            "transport": self._place.transport,
            "parent_pid": os.getpid(),
        }
        # One that is gone already shows at its stdout.
        with suppress(OSError):
            self._stdin().write(json.dumps(config).encode() + b"\n")
            self._stdin().flush()

    def _not_a_backend(self, why: str) -> Failure:
        code = self.wait(1.0)
        message = f"{self._place.python} did not start as a Grisaille backend."
        detail = f"{why}; exit code {code}\n{self.stderr_tail()}".strip()
        return Failure(FailureKind.BACKEND_NOT_FOUND, message, _SETUP_HINT, detail)

    def _stdin(self) -> Any:
        return self._popen.stdin

    def _stdout(self) -> Any:
        return self._popen.stdout


def backend_command(*arguments: str) -> tuple[str, ...]:
    """What a Python of the backend's runs, isolated, for a command of `python -m backend`."""
    return ("-c", BOOTSTRAP, str(Path(__file__).resolve().parent.parent.parent), *arguments)


def clean_environment() -> dict[str, str]:
    """Ours, without what Blender's Python is told."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def creation_flags() -> int:
    """For Windows: no console, and behind Blender."""
    return sum(getattr(subprocess, flag, 0) for flag in WINDOWS_FLAGS)


def _announcement(line: bytes) -> dict[str, Any]:
    """What the backend says in `line`; empty for anything else that a Python may print at its start."""
    try:
        said = parse_json(line)
    except ProtocolError:
        return {}
    return said if said.get("grisaille") == 1 else {}


def _stderr_path(data_folder: Path) -> Path:
    logs = data_folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    path = logs / "backend.stderr.log"
    if path.exists() and path.stat().st_size > STDERR_MAX:
        with suppress(OSError):
            path.replace(logs / "backend.stderr.log.1")
    return path
