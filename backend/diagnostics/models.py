"""Every file of every model: whether it is there, whole, and what its place asks for. No weight is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from ..failures import failure_of
from ..flux.model_parts import missing
from ..models import ModelFolder, find_model
from ..wire import Failure, FailureError, FailureKind
from .finding import Finding, gigabytes

FAULTS_TOLD = 3
"""In the sentence; the values name them all."""


def none_there(folder: Path) -> Finding:
    hint = "Choose the folder that holds your models, or put a model's folder there."
    return Finding("models", False, f"There is no model in {folder}.", hint)


def model(models_folder: Path, name: str) -> Finding:
    """Looks at all the files of one model. Raises `FailureError` where its description cannot be read."""
    found = find_model(models_folder, name)
    faults = [failure for look in _looks(found) if (failure := _fault(look)) is not None]
    files = list(found.files())
    size = sum(path.stat().st_size for path in files)
    values = {"variant": found.variant, "files": len(files), "bytes": size, "faults": [f.to_json() for f in faults]}
    subject = f"model {name}"
    if not faults:
        said = f"{found.title} ({found.variant}), {gigabytes(size)} in {len(files)} files, all whole."
        return Finding(subject, True, said, values=values)
    more = f" And {len(faults) - FAULTS_TOLD} more." if len(faults) > FAULTS_TOLD else ""
    said = " ".join(fault.message for fault in faults[:FAULTS_TOLD]) + more
    return Finding(subject, False, said, faults[0].hint, values=values)


def check_weights(path: Path) -> None:
    """Holds a file's header against its length: GGUF, safetensors, or an index with all that it names.

    Raises `FailureError`: model_missing, model_broken or model_unsupported.
    """
    from ..flux.gguf_file import read_gguf
    from ..flux.safetensors_file import INDEX_ENDING, read_index

    if path.name.endswith(".gguf"):
        read_gguf(path)
        return
    if not path.name.endswith(INDEX_ENDING):
        _names(path)
        return
    places = read_index(path)
    held = {shard: _names(path.parent / shard) for shard in sorted(set(places.values()))}
    lost = sorted(name for name, shard in places.items() if name not in held[shard])
    if lost:
        _broken(path, f"names {len(lost)} weights that its files do not hold, {lost[0]!r} among them")


def check_json(path: Path) -> None:
    """Raises `FailureError` (model_missing, model_broken) unless the file is a table in JSON."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing(path) from None
    except ValueError as error:
        _broken(path, "is damaged", str(error))
    if not isinstance(data, dict):
        _broken(path, "is not a table of fields")


def _looks(model: ModelFolder) -> Iterator[Callable[[], object]]:
    from ..flux.load_parts import load_shift

    yield lambda: check_weights(model.transformer)
    yield lambda: check_json(model.transformer_config)
    weighty = [model.parts[part] for part in ("vae", "text_encoder", "text_encoder_2")]
    for folder in (*weighty, *(net.folder for net in model.controlnets), *(model.redux or ())):
        yield lambda folder=folder: check_json(folder / "config.json")
        yield from (lambda path=path: check_weights(path) for path in _weight_files(folder))
    yield from (lambda net=net: _check_family(net.folder) for net in model.controlnets)
    yield lambda: _check_tokenizer(model, "tokenizer", "text_encoder")
    yield lambda: _check_tokenizer(model, "tokenizer_2", "text_encoder_2")
    yield lambda: load_shift(model.parts["scheduler"])
    if model.control_lora is not None:
        yield lambda path=model.control_lora: check_weights(path)


def _weight_files(folder: Path) -> list[Path]:
    """What a part's weights are loaded from; one that is not there where there is none."""
    for pattern in ("*.gguf", "*.safetensors.index.json", "*.safetensors"):
        if found := sorted(folder.glob(pattern)):
            return found
    return [folder / "model.safetensors"]


def _names(path: Path) -> set[str]:
    """The weights' names; the library compares the header with the file's length."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise missing(path)
    try:
        with safe_open(path, framework="numpy") as file:
            return set(file.keys())
    except (SafetensorError, OSError, ValueError) as error:
        _broken(path, "is cut off, or is not a safetensors file", str(error))


def _check_tokenizer(model: ModelFolder, part: str, encoder: str) -> None:
    from transformers import CLIPTokenizer, T5Tokenizer

    from ..flux.tokenizers import load_tokenizer

    try:
        words = json.loads((model.parts[encoder] / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # The encoder's config has a fault of its own.
    if part == "tokenizer":
        load_tokenizer(CLIPTokenizer, model.parts[part], int(words))
    else:
        load_tokenizer(T5Tokenizer, model.parts[part], int(words))


def _check_family(folder: Path) -> None:
    from ..flux.net_family import check_net_family

    check_net_family(folder)


def _fault(look: Callable[[], object]) -> Failure | None:
    try:
        look()
    except Exception as error:
        return failure_of(error)
    return None


def _broken(path: Path, what: str, detail: str = "") -> NoReturn:
    raise FailureError.of(
        FailureKind.MODEL_BROKEN,
        f"The model's file {path.parent.name}/{path.name} {what}.",
        "Download it again; the file is damaged or not what its name says.",
        f"{path} {detail}".strip(),
    )
