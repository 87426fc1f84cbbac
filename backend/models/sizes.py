"""How much of a disk a model's parts take."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .choose import ModelSizes
from .model_folder import ModelFolder

WEIGHTS = (".safetensors", ".gguf")


def model_sizes(folder: ModelFolder) -> ModelSizes:
    """What a model's weights take on disk; files that are not there count as nothing."""
    is_in_shards = folder.transformer.suffix == ".json"
    transformer = weights_in(folder.transformer.parent) if is_in_shards else [folder.transformer]
    others = [path for part in folder.parts.values() for path in weights_in(part)]
    others += [path for part in folder.redux or () for path in weights_in(part)]
    others += [folder.control_lora] if folder.control_lora is not None else []
    return ModelSizes(
        transformer=_bytes(transformer),
        others=_bytes(others),
        nets={net.folder: _bytes(weights_in(net.folder)) for net in folder.controlnets},
        packed=_bytes(path for path in (*transformer, *others) if path.suffix == ".gguf"),
    )


def weights_in(folder: Path) -> list[Path]:
    """The files of weights in a folder, or in what is a file the file itself."""
    if folder.is_file():
        return [folder]
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in WEIGHTS)
    except OSError:
        return []


def _bytes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())
