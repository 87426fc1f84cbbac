"""Makes the project's virtual environments from the lock files, once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.console import ROOT, ToolError, run_quietly, say
from tools.interpreters import fetch_interpreter, find_interpreter
from tools.uv import python_of, uv_program

STAMP = "grisaille-stamp.json"
"""Written last into a finished environment; an environment without it was interrupted, and is made anew."""
MEGABITS = 100
"""The connection that the announced minutes are reckoned for, megabit per second."""


@dataclass(frozen=True)
class Environment:
    """One virtual environment in the repository's root.

    pythons: versions it can stand on, the best first. download_gb and installed_gb: gigabytes (1e9 bytes), measured
    on Linux x86-64.
    """

    name: str
    purpose: str
    lock: str
    pythons: tuple[str, ...]
    download_gb: float
    installed_gb: float
    blender: str | None = None


BACKEND = Environment(".venv", "the backend and the tools", "backend.lock", ("3.13", "3.12", "3.11"), 3.2, 6.1)
BLENDER_5_2 = Environment(".venv-5.2", "Blender 5.2", "blender-5.2.lock", ("3.13",), 0.43, 0.95, "5.2")
BLENDER_4_5 = Environment(".venv-4.5", "Blender 4.5", "blender-4.5.lock", ("3.11",), 0.4, 0.93, "4.5")
BLENDERS = (BLENDER_5_2, BLENDER_4_5)
ALL = (BACKEND, *BLENDERS)


@dataclass
class Prepared:
    """What `prepare` made or found: interpreters by the environment's name, and for the others why they are missing."""

    pythons: dict[str, Path] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def python(self, environment: Environment) -> Path:
        """The environment's interpreter; raises `ToolError` with the reason when it is missing."""
        if environment.name not in self.pythons:
            raise ToolError(self.missing.get(environment.name, f"{environment.name} was not prepared."))
        return self.pythons[environment.name]

    def blenders(self) -> list[Environment]:
        """The Blenders that are there, the newest first."""
        return [environment for environment in BLENDERS if environment.name in self.pythons]


def prepare(environments: Sequence[Environment], root: Path = ROOT) -> Prepared:
    """Makes those of the environments that are not there or not up to date; says what it will fetch before it does.

    A missing interpreter is one line, and an entry in `missing`; packages that cannot be fetched raise `ToolError`.
    """
    prepared = Prepared()
    pending: list[tuple[Environment, Path]] = []
    for environment in environments:
        if is_current(environment, root):
            prepared.pythons[environment.name] = python_of(root / environment.name)
            continue
        interpreter = _interpreter_for(environment)
        if interpreter is None:
            prepared.missing[environment.name] = missing_line(environment)
            say(missing_line(environment))
        else:
            pending.append((environment, interpreter))
    if pending:
        announce([environment for environment, _ in pending], root)
    for environment, interpreter in pending:
        make(environment, interpreter, root)
        prepared.pythons[environment.name] = python_of(root / environment.name)
    return prepared


def missing_line(environment: Environment) -> str:
    """What to say where no interpreter for it was found, and none could be fetched."""
    wanted = " or ".join(environment.pythons)
    return (
        f"{environment.name} ({environment.purpose}) needs Python {wanted}, which is not here: install it to have it."
    )


def can_be_made(environment: Environment, root: Path = ROOT) -> bool:
    """Whether the environment is there, or an interpreter for it is or can be fetched."""
    return is_current(environment, root) or _interpreter_for(environment) is not None


def is_current(environment: Environment, root: Path = ROOT) -> bool:
    """Whether the environment is finished, made from the lock as it is now, and its interpreter still runs."""
    stamp = _read_stamp(root / environment.name)
    return stamp is not None and stamp.get("lock") == lock_digest(environment, root) and _runs(environment, root)


def lock_file(environment: Environment, root: Path = ROOT) -> Path:
    """The lock for this system: on Windows one of its own, with PyTorch's CUDA builds, where it has been made."""
    path = root / "requirements" / environment.lock
    windows = path.with_name(f"{path.stem}-windows.lock")
    return windows if sys.platform == "win32" and windows.exists() else path


def lock_digest(environment: Environment, root: Path = ROOT) -> str:
    """SHA-256, in hex, of the environment's lock."""
    return hashlib.sha256(lock_file(environment, root).read_bytes()).hexdigest()


def announce(environments: Sequence[Environment], root: Path = ROOT) -> None:
    """Says how much is fetched and how long it takes; raises `ToolError` when the disk has no room for it."""
    download = sum(environment.download_gb for environment in environments)
    installed = sum(environment.installed_gb for environment in environments)
    minutes = max(1, round(download * 8000 / MEGABITS / 60 + 0.5 * len(environments)))
    names = ", ".join(environment.name for environment in environments)
    say(f"Setting up {names}: up to {download:.1f} GB to fetch, {installed:.1f} GB on disk.")
    say(f"About {minutes} minutes on a {MEGABITS} Mbit/s line; what uv has fetched before is not fetched again.")
    free = shutil.disk_usage(root).free / 1e9
    if free < installed:
        raise ToolError(
            f"There are {free:.1f} GB free where {installed:.1f} GB are needed: make room and run it again."
        )
    if sys.platform == "win32" and lock_file(BACKEND, root).name == BACKEND.lock:
        say("On Windows this lock has PyTorch's CPU build: python build.py lock makes one with CUDA (not tested).")


def make(environment: Environment, interpreter: Path, root: Path = ROOT) -> None:
    """Makes or updates one environment, and stamps it when it is whole; an interrupted one is made anew."""
    uv = uv_program()
    folder = root / environment.name
    started = time.monotonic()
    say(f"{environment.name}: {environment.purpose}, on {interpreter} …")
    if _read_stamp(folder) is None or not _runs(environment, root):
        shutil.rmtree(folder, ignore_errors=True)
        _run_uv([uv, "venv", "--quiet", "--no-project", "--python", interpreter, folder], environment)
    (folder / STAMP).unlink(missing_ok=True)
    command: list[str | Path] = [uv, "pip", "sync", "--require-hashes", "--python", python_of(folder)]
    _run_uv([*command, lock_file(environment, root)], environment)
    stamp = {"lock": lock_digest(environment, root), "interpreter": str(interpreter)}
    partial = folder / f"{STAMP}.part"
    partial.write_text(json.dumps(stamp))
    partial.replace(folder / STAMP)
    say(f"{environment.name} is ready after {time.monotonic() - started:.0f} s.")


def _run_uv(command: Sequence[str | Path], environment: Environment) -> None:
    # An activated environment or a pinned interpreter of the caller's is not what is asked for here.
    environ = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "UV_PYTHON")}
    words = [str(word) for word in command]
    if sys.stderr.isatty():  # uv draws progress bars
        code = subprocess.run(words, stdin=subprocess.DEVNULL, env=environ, check=False).returncode
    else:
        code = _run_and_filter(words, environ)
    if code != 0:
        raise ToolError(
            f"{environment.name} could not be made (see the lines above): check the connection, then run this again."
        )


def _run_and_filter(words: Sequence[str], environ: dict[str, str]) -> int:
    """Shows uv's lines as they come, without the list of all it has installed."""
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.startswith((" + ", " - ", " ~ ")):
                say(line.rstrip())
    return process.returncode


def _interpreter_for(environment: Environment) -> Path | None:
    for version in environment.pythons:
        found = find_interpreter(version)
        if found is not None:
            return found
    return fetch_interpreter(uv_program(), environment.pythons[0])


def _read_stamp(folder: Path) -> dict[str, str] | None:
    try:
        stamp = json.loads((folder / STAMP).read_text())
    except (OSError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) else None


def _runs(environment: Environment, root: Path) -> bool:
    return run_quietly([python_of(root / environment.name), "-c", "pass"], timeout=60).returncode == 0
