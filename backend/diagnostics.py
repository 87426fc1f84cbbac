"""What works on this machine and what does not: python -m backend diagnose"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .failures import failure_of
from .models import ModelFolder, find_model, model_names
from .wire import Failure, FailureError, FailureKind
from .wire.model_names import shipped_models

DISK_LOW = 2e9
LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "gguf", "PIL")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. said: one sentence. hint: the next step where it does not work, else ""."""

    subject: str
    works: bool
    said: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{'ok  ' if self.works else 'FAIL'} {self.subject}: {self.said} {self.hint}".rstrip()


def run_full_diagnostic(models_folder: str | Path | None = None, device: str = "auto") -> list[Finding]:
    """Looks at Python, the libraries, the device, the disk and each model, and paints a small picture.

    models_folder: the user's, beside the models that ship. device: "auto" or a torch device. Never raises: what goes
    wrong is a finding with the next step.
    """
    folder = Path(models_folder) if models_folder is not None else shipped_models()
    looks: list[tuple[str, Callable[[], str]]] = [
        ("Python", lambda: f"{sys.version.split()[0]} at {sys.executable}."),
        ("libraries", _libraries),
        ("device", lambda: _device(device)),
        ("disk", lambda: _disk(folder)),
        *((f"model {name}", lambda name=name: _model(folder, name)) for name in model_names(folder)),
        ("a picture", lambda: _picture(folder, device)),
    ]
    return [_look(subject, look) for subject, look in looks]


def diagnose_generation_failure(failure: Failure | BaseException) -> Failure:
    """What a failed picture means: one sentence, the next step, and the detail for a report."""
    return failure if isinstance(failure, Failure) else failure_of(failure)


def _look(subject: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, True, look())
    except Exception as error:  # a diagnosis goes on to the next thing, whatever this one met
        failure = failure_of(error)
        return Finding(subject, False, failure.message, failure.hint)


def _libraries() -> str:
    import importlib

    versions = []
    for name in LIBRARIES:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise FailureError.of(
                FailureKind.BACKEND_NOT_FOUND,
                f"The library {name} cannot be imported ({error}).",
                "Set the backend's environment up again, as README says.",
            ) from error
        versions.append(f"{name} {getattr(module, '__version__', '')}".strip())
    return f"{', '.join(versions)}."


def _device(name: str) -> str:
    import torch

    from .flux.model import choose_device

    device, dtype = choose_device(name)
    number = torch.ones(2, 2, device=device, dtype=dtype).matmul(torch.ones(2, 2, device=device, dtype=dtype)).sum()
    if number.item() != 8.0:
        raise RuntimeError(f"{device} computes 8 as {number.item()}")
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return f"{torch.cuda.get_device_name(device)}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free."
    return f"{device.type}, {torch.get_num_threads()} threads. No NVIDIA GPU is in use."


def _disk(folder: Path) -> str:
    place = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(place).free
    if free < DISK_LOW:
        message = f"{free / 1e9:.1f} GB are free where the models are."
        raise FailureError.of(FailureKind.DISK_FULL, message, "Free some space there.")
    return f"{free / 1e9:.0f} GB are free where the models are."


def _model(folder: Path, name: str) -> str:
    model = find_model(folder, name)
    missing = [path for path in _wanted(model) if not path.exists()]
    if missing:
        raise FailureError.of(
            FailureKind.MODEL_MISSING, f"The model lacks {missing[0].name}.", "Download it again.", str(missing[0])
        )
    size = sum(path.stat().st_size for path in model.files())
    return f"{model.title}, {size / 1e9:.2f} GB."


def _wanted(model: ModelFolder) -> Iterator[Path]:
    yield from (model.transformer, model.transformer_config, *model.parts.values())
    yield from (net.folder for net in model.controlnets)
    yield from model.redux or ()
    if model.control_lora is not None:
        yield model.control_lora


def _picture(folder: Path, device: str) -> str:
    from .pipeline import create_production_pipeline

    pipeline = create_production_pipeline(_painter(folder), folder, device)
    began = time.perf_counter()
    pipeline.generate(pipeline.request("a red ball", width=64, height=64, steps=2))
    return f"64 x 64 pixels on {pipeline.model!r} in {time.perf_counter() - began:.1f} s, with loading."


def _painter(folder: Path) -> str:
    """The first model that paints from words alone; "" where none does."""
    for name in model_names(folder):
        # One that cannot be read has a finding of its own.
        with contextlib.suppress(FailureError):
            family = find_model(folder, name).family
            if "text_to_image" in family.tasks and not family.recipe:
                return name
    return ""
