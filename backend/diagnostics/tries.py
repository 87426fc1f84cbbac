"""What is tried in a process of its own, so that its memory is its own and its end is not ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..wire import Failure, FailureError, FailureKind
from ..wire.framing import ProtocolError, parse_json
from .finding import Finding, gigabytes

ROOT = Path(__file__).resolve().parent.parent.parent
"""The folder that holds this package, in the repository and in the installed extension."""
BOOTSTRAP = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
MARK = "grisaille"
"""The field of the line that is ours, among what libraries print."""


def run(models_folder: Path, name: str, device: str) -> Finding:
    """One step of a small picture on the model. Raises `FailureError`, also where the process was killed."""
    asked = {"models_folder": str(models_folder), "model": name, "device": device}
    told = _told("backend.diagnostics.try_model", asked)
    said = (
        f"{told['width']} x {told['height']} pixels, one step on {told['device']}: {told['seconds']:.1f} s"
        f" ({told['loading_seconds']:.1f} s of them loading), {gigabytes(told['peak_memory'])} of memory."
    )
    return Finding(f"run {name}", True, said, values=told)


def compile_works(device: str) -> Finding:
    """Whether torch.compile makes a program for the device. Raises `FailureError` where the process ended badly."""
    told = _told("backend.diagnostics.try_compile", {"device": device})
    if told["error"]:
        said = f"torch.compile cannot be used here ({told['error']})."
        hint = "Pictures are painted without it; to have it, install a C++ compiler."
        return Finding("compile", False, said, hint, is_needed=False, values=told)
    said = f"torch.compile works on {told['device']}; the first time took {told['seconds']:.1f} s."
    return Finding("compile", True, said, is_needed=False, values=told)


def answer(values: dict[str, Any]) -> None:
    """Said by the process that tries, to the one that asked."""
    sys.stdout.write(f"\n{json.dumps({MARK: 1, **values})}\n")
    sys.stdout.flush()


def question() -> dict[str, str]:
    """What the process that tries was asked."""
    return parse_json(sys.argv[1].encode())


def _told(module: str, asked: dict[str, str]) -> dict[str, Any]:
    """Runs the module and returns what it answers. Raises `FailureError`."""
    flags = ["-I"] if sys.flags.isolated else []
    command = [sys.executable, *flags, "-X", "utf8", "-c", BOOTSTRAP, str(ROOT), module, json.dumps(asked)]
    environment = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, env=environment, stdin=subprocess.DEVNULL, check=False)
    for line in reversed(done.stdout.splitlines()):
        said = _parsed(line)
        if "failure" in said:
            raise FailureError(Failure.from_json(said["failure"]))
        if said.pop(MARK, None) == 1:
            return said
    errors = done.stderr.decode("utf-8", "replace").strip()[-4000:]
    if done.returncode < 0:
        # As recognised: killed for want of memory, most often.
        raise subprocess.CalledProcessError(done.returncode, module, stderr=errors)
    raise FailureError.of(
        FailureKind.BACKEND_DIED,
        f"The process that tried it ended without a word (exit code {done.returncode}).",
        "Try again; if it happens again, report it with the text under Details.",
        errors,
    )


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        return parse_json(line) if line.startswith(b"{") else {}
    except ProtocolError:
        return {}
