"""A report for bug trackers: what is here, what failed and what the log says, without a word about whose it is."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from .. import __version__
from ..wire import Failure, GenerationRequest, stored
from .explain import diagnose_generation_failure
from .finding import PLAIN_MARKS, Finding
from .redact import Redactor

LOGS = ("backend.log", "backend.stderr.log")
LOG_BYTES = 16_000
RESULTS_READ = 200
VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY", "HF_HUB_OFFLINE", "HF_HOME", "LD_LIBRARY_PATH", "GRISAILLE_PYTHON", "GRISAILLE_MODELS",
    "GRISAILLE_DATA", "LANG",
)  # fmt: skip
"""The only variables of the environment that a report holds."""


def bug_report(
    findings: Sequence[Finding] = (),
    error: BaseException | Failure | None = None,
    request: GenerationRequest | None = None,
    *,
    models_folder: str | Path | None = None,
    data_folder: str | Path | None = None,
) -> str:
    """A report in Markdown that can be shown to anyone: no name, folder, prompt or token of the user's is in it.

    findings: of `run_full_diagnostic`. error: what went wrong, if anything. request: what was to be painted; its
    prompts are left out. models_folder: told as `<models>`. data_folder: the end of its logs is added, and the prompts
    of the pictures that wait in it are known, so that they can be taken out.
    """
    models, data = (Path(folder) if folder is not None else None for folder in (models_folder, data_folder))
    parts = [f"# Grisaille {__version__}", _machine(), _findings(findings)]
    if error is not None:
        parts.append(_failure(diagnose_generation_failure(error, request)))
    if request is not None:
        parts.append(_request(request))
    parts.append(_environment())
    if data is not None:
        parts += [_log(data / "logs" / name) for name in LOGS]
    places = {"models": models, "data": data}
    redactor = Redactor.of_this_machine(
        _prompts(request, data), {word: folder for word, folder in places.items() if folder is not None}
    )
    return redactor.clean("\n\n".join(filter(None, parts)) + "\n")


def _machine() -> str:
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"{system}, Python {sys.version.split()[0]}, {os.cpu_count()} processors"


def _findings(findings: Sequence[Finding]) -> str:
    lines: list[str] = []
    for finding in findings:
        lines.append(finding.line(PLAIN_MARKS))
        if not finding.works and (detail := finding.values.get("detail")):
            lines += [f"    {line}" for line in str(detail).splitlines()]
    return _block("Diagnosis", "\n".join(lines))


def _failure(failure: Failure) -> str:
    return _block("Failure", f"{failure.kind}: {failure.message}\n{failure.hint}\n{failure.detail}".strip())


def _request(request: GenerationRequest) -> str:
    """All of it but what the user has written."""
    fields = {name: value for name, value in request.to_json().items() if "prompt" not in name}
    return _block("Request", "\n".join(f"{name} = {value!r}" for name, value in fields.items()))


def _environment() -> str:
    return _block("Environment", "\n".join(f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ))


def _log(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    # The first line is most likely a part of one, with a prompt's or a folder's beginning cut off.
    whole = text.partition("\n")[2] if len(text.encode()) >= LOG_BYTES else text
    return _block(f"The end of {path.name}", whole.strip())


def _prompts(request: GenerationRequest | None, data: Path | None) -> list[str]:
    """Every text of a user's that is known here, also in results that this version cannot read."""
    known = list(_texts(request.to_json())) if request is not None else []
    if data is not None:
        for job_id in stored.stored_ids(data / "results")[:RESULTS_READ]:
            with suppress(OSError, ValueError):
                note = (data / "results" / job_id / "result.json").read_text(encoding="utf-8", errors="replace")
                known += _texts(json.loads(note))
    return known


def _texts(data: object) -> Iterator[str]:
    """The texts in all fields that are called some kind of prompt."""
    if isinstance(data, dict):
        for name, value in data.items():
            if isinstance(value, str) and "prompt" in str(name):
                yield value
            else:
                yield from _texts(value)
    elif isinstance(data, list):
        for item in data:
            yield from _texts(item)


def _block(title: str, text: str) -> str:
    return f"## {title}\n\n```\n{text}\n```" if text else ""
