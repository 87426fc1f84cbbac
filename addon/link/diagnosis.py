"""The backend's diagnosis, made by its own Python in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ...backend.wire.failure import Failure, FailureError, FailureKind
from .events import BackendPlace
from .process import backend_command, clean_environment, creation_flags

FORMAT = 1
SETUP_HINT = "Choose the backend's Python in the preferences, or set the backend up again."


@dataclass(frozen=True, slots=True)
class FoundLine:
    """One thing that was looked at. state: "works", "fails" or "skipped". said: a sentence. hint: what to do, or ""."""

    subject: str
    state: str
    said: str
    hint: str


@dataclass(frozen=True, slots=True)
class Diagnosed:
    """works: whether all that pictures need is there. report: for a bug tracker, without names and folders."""

    works: bool
    lines: tuple[FoundLine, ...]
    report: str


class Diagnosis:
    """A diagnosis that runs. No method but `wait` waits for it."""

    def __init__(self, place: BackendPlace, quick: bool = False) -> None:
        """quick: neither compiles nor paints. Raises `FailureError` when there is no such Python."""
        options = ["--json", "--models", str(place.models_folder), "--data", str(place.data_folder)]
        options += ["--device", place.device, *(["--quick"] if quick else [])]
        program = place.program or backend_command("diagnose", *options)
        try:
            self._popen = subprocess.Popen(
                [str(place.python), "-I", "-X", "utf8", *program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=place.data_folder,
                env=clean_environment(),
                process_group=0,
                creationflags=creation_flags(),
            )
        except OSError as error:
            message = f"{place.python} could not be run: {error.strerror}."
            raise FailureError.of(FailureKind.BACKEND_NOT_FOUND, message, SETUP_HINT) from error
        self._outcome: Diagnosed | Failure | None = None
        # A pipe that nobody reads stops who writes.
        self._reader = threading.Thread(target=self._read, name="grisaille-diagnosis", daemon=True)
        self._reader.start()

    @property
    def outcome(self) -> Diagnosed | Failure | None:
        """What it found, or why it found nothing; None while it runs."""
        return self._outcome

    def wait(self) -> Diagnosed | Failure:
        self._reader.join()
        assert self._outcome is not None, "the reader leaves one"
        return self._outcome

    def cancel(self) -> None:
        """Ends the process and those it has started; the outcome is then a failure."""
        if self._popen.poll() is not None:
            return
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)
        else:
            self._popen.kill()

    def _read(self) -> None:
        outcome: Diagnosed | Failure
        try:
            stdout, stderr = self._popen.communicate()
            outcome = _parsed(stdout) or _ended(self._popen.returncode, stderr)
        except Exception as error:  # nobody may be left waiting
            outcome = Failure(FailureKind.INTERNAL, "The diagnosis cannot be read.", "Try again.", repr(error))
        self._outcome = outcome


def _parsed(output: bytes) -> Diagnosed | None:
    """The last line that is a diagnosis: libraries may print before it."""
    for line in reversed(output.splitlines()):
        with suppress(ValueError, KeyError, TypeError):
            data = json.loads(line)
            if data["format"] == FORMAT:
                lines = tuple(_line(finding) for finding in data["findings"])
                return Diagnosed(bool(data["works"]), lines, str(data["report"]))
    return None


def _line(finding: dict[str, Any]) -> FoundLine:
    state = "skipped" if finding["is_skipped"] else "works" if finding["works"] else "fails"
    return FoundLine(str(finding["subject"]), state, str(finding["said"]), str(finding["hint"]))


def _ended(code: int, stderr: bytes) -> Failure:
    detail = f"exit code {code}\n{stderr.decode('utf-8', 'replace')[-4000:]}".strip()
    if code < 0:
        return Failure(FailureKind.BACKEND_DIED, "The diagnosis was stopped before its end.", "Diagnose again.", detail)
    return Failure(FailureKind.BACKEND_NOT_FOUND, "The backend's Python ended without a diagnosis.", SETUP_HINT, detail)
