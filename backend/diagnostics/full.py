"""The full diagnostic: everything that a picture needs, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ..models import model_names
from ..wire.model_names import shipped_models
from . import door, folders, machine, models, tries
from .finding import Finding, look

QUICK = "Not looked at, as asked (--quick)."


def run_full_diagnostic(
    models_folder: str | Path | None = None,
    device: str = "auto",
    *,
    data_folder: str | Path | None = None,
    quick: bool = False,
    on_finding: Callable[[Finding], None] = lambda finding: None,
) -> list[Finding]:
    """Looks at everything that a picture needs, and paints one small one with each model.

    Python, the libraries, the driver, the device and its memory, attention and compile, the disk and the folders, the
    socket, every file of every model, and one step of each model in a process of its own, with its seconds and bytes.

    models_folder: the user's, beside the models that ship. device: "auto" or a torch device, such as "cpu" or "cuda:1".
    data_folder: where the backend keeps results and logs; None leaves it out. quick: neither compiles nor paints.
    on_finding: called with each finding as soon as it is there; painting may take minutes. Never raises: what goes
    wrong is a finding with the next step. `Finding.is_fault` tells what has to be mended.
    """
    folder = Path(models_folder) if models_folder is not None else None
    data = Path(data_folder) if data_folder is not None else None
    found: list[Finding] = []
    for subject, examine, is_needed in _looks(folder, device, data, quick):
        finding = look(subject, examine, is_needed)
        found.append(finding)
        on_finding(finding)
    return found


Look = tuple[str, Callable[[], Finding], bool]


def _looks(given: Path | None, device: str, data: Path | None, quick: bool) -> Iterator[Look]:
    folder = given or shipped_models()
    yield "python", machine.python, True
    yield "libraries", machine.libraries, True
    yield "torch", machine.torch_build, True
    yield "driver", lambda: machine.driver(device), True
    yield "device", lambda: machine.device(device), True
    yield "memory", lambda: machine.memory(device), True
    yield "attention", lambda: machine.attention(device), True
    yield "compile", lambda: _skipped("compile") if quick else tries.compile_works(device), False
    yield "disk", lambda: folders.disk(folder, data), True
    if given is not None:
        yield "models folder", lambda: folders.models_folder(given), True
    if data is not None:
        yield "data folder", lambda: folders.writable("data folder", data), True
    yield "temporary folder", lambda: folders.writable("temporary folder", folders.temporary()), True
    yield "socket", lambda: door.socket_works(data), True
    names = model_names(folder)
    if not names:
        yield "models", lambda: models.none_there(folder), True
    for name in names:
        yield f"model {name}", lambda name=name: models.model(folder, name), True
    for name in names:
        subject = f"run {name}"
        yield (
            subject,
            lambda name=name, subject=subject: _skipped(subject) if quick else tries.run(folder, name, device),
            True,
        )


def _skipped(subject: str) -> Finding:
    return Finding(subject, False, QUICK, is_skipped=True)
