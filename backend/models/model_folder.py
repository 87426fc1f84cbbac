"""A model is a folder with a model.json that says which files it is made of."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from ..wire import CONTROL_KINDS, FailureError, FailureKind
from ..wire.model_names import DESCRIPTION, model_names, model_path
from ..wire.request import is_plain_name
from .settings import MODEL_VARIANTS, ModelVariant

FORMAT = 1
FOLDER_PARTS = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
REDUX_PARTS = ("image_encoder", "redux")
"""What a model needs to read reference pictures, beside the rest."""
TEXT_TOKENS_MAX = 512
CONTROLNET_WEIGHTS = ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")


@dataclass(frozen=True, slots=True)
class ControlKind:
    """How one net is asked for one kind: its union mode (None for a net that has no modes) and its picture.

    picture: the name of a recipe for the control picture, or a recipe as a table.
    """

    mode: int | None
    picture: str | dict[str, Any]


@dataclass(frozen=True, slots=True)
class ControlNetEntry:
    """A ControlNet's folder (config.json and safetensors or GGUF) and the kinds it was trained on.

    weights: one of CONTROLNET_WEIGHTS, to pack its weights in when it is loaded, or "" for as they are.
    """

    folder: Path
    kinds: dict[str, ControlKind]
    weights: str = ""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A described model; the paths lie within `path` but need not exist. defaults: steps and guidance.

    variant: its name in MODEL_VARIANTS. control_lora: what makes a Depth or Canny model of a dev transformer, or None.
    redux: the folders of the image encoder and of Redux, or None.
    """

    path: Path
    name: str
    title: str
    transformer: Path
    transformer_config: Path
    parts: dict[str, Path]
    controlnets: tuple[ControlNetEntry, ...]
    max_text_tokens: int
    defaults: dict[str, float]
    variant: str = "dev"
    control_lora: Path | None = None
    redux: tuple[Path, Path] | None = None

    @property
    def family(self) -> ModelVariant:
        return MODEL_VARIANTS[self.variant]

    @property
    def joined(self) -> dict[str, str]:
        """The kinds that the model itself takes, joined to its tokens, and how their pictures are drawn."""
        return {self.family.control: self.family.recipe} if self.family.recipe else {}

    def control(self, kind: str) -> tuple[ControlNetEntry, ControlKind] | None:
        """The first net that knows the kind."""
        for net in self.controlnets:
            if kind in net.kinds:
                return net, net.kinds[kind]
        return None

    def files(self) -> Iterator[Path]:
        """Every file that the model is loaded from, sorted, model.json first."""
        yield self.path / DESCRIPTION
        folders = [self.transformer_config.parent, *self.parts.values(), *(net.folder for net in self.controlnets)]
        folders += self.redux or ()
        listed = {path for folder in folders for path in _files_in(folder)}
        loose = (self.transformer, self.control_lora)
        listed.update(str(path) for path in loose if path is not None and path.is_file())
        yield from map(Path, sorted(listed))


def _files_in(folder: Path) -> list[str]:
    """The paths of the files in a folder; none where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if entry.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def find_model(models_folder: Path, name: str) -> ModelFolder:
    """Reads the description of the model `name`, in `models_folder` or shipped with the add-on.

    Raises `FailureError`: model_missing, model_broken or model_unsupported.
    """
    if not is_plain_name(name):
        raise FailureError.of(
            FailureKind.BAD_REQUEST, f"{name!r} is not the name of a model.", "Choose a model from the list."
        )
    folder = model_path(models_folder, name) or models_folder / name
    try:
        data = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        there = ", ".join(model_names(models_folder)) or "none is there yet"
        raise FailureError.of(
            FailureKind.MODEL_MISSING,
            f"There is no model called {name!r}.",
            f"Choose one of those in the models folder ({there}), or download it.",
            str(folder),
        ) from None
    except ValueError as error:
        _broken(folder, "cannot be read", str(error))
    return _Description(folder, data).read()


class _Description:
    """Reads a model.json field by field, refusing by name what is not as it should be."""

    def __init__(self, folder: Path, data: object) -> None:
        self.folder = folder
        if not isinstance(data, dict):
            _broken(folder, "is not a table of fields")
        self.data: dict[str, Any] = data

    def read(self) -> ModelFolder:
        if self.data.get("format") != FORMAT:
            raise FailureError.of(
                FailureKind.MODEL_UNSUPPORTED,
                f"The model {self.folder.name!r} is described in a form that this version does not know.",
                "Update Grisaille, or download the model again.",
                f"{self.folder / DESCRIPTION}: format {self.data.get('format')!r}",
            )
        transformer = self.table(self.data, "transformer")
        variant = self.variant(self.place(transformer, "config"))
        redux = [self.place(self.data, part) for part in REDUX_PARTS if part in self.data]
        if len(redux) == 1:
            _broken(self.folder, f"names one of {' and '.join(REDUX_PARTS)} without the other")
        return ModelFolder(
            path=self.folder,
            name=self.folder.name,
            title=self.text(self.data, "title"),
            transformer=self.place(transformer, "file"),
            transformer_config=self.place(transformer, "config"),
            parts={part: self.place(self.data, part) for part in FOLDER_PARTS},
            controlnets=tuple(self.controlnet(item) for item in self.items(self.data, "controlnets")),
            max_text_tokens=self.whole(self.data, "max_text_tokens", 1, TEXT_TOKENS_MAX),
            defaults={**_defaults_of(variant), **self.defaults()},
            variant=variant,
            control_lora=self.place(self.data, "control_lora") if "control_lora" in self.data else None,
            redux=(redux[0], redux[1]) if redux else None,
        )

    def variant(self, config: Path) -> str:
        """As the description says, else as the channels tell that the transformer takes."""
        if "variant" in self.data:
            name = self.text(self.data, "variant")
            if name not in MODEL_VARIANTS:
                _broken(self.folder, f"names a variant {name!r} that there is not")
            if "control_lora" in self.data and not MODEL_VARIANTS[name].recipe:
                _broken(self.folder, f"names a control LoRA, which makes no {name} model")
            return name
        channels = 128 if "control_lora" in self.data else channels_in(config)
        able = [name for name, variant in MODEL_VARIANTS.items() if variant.in_channels == channels]
        if channels is None or "dev" in able or not able:
            return "dev"
        if len(able) > 1:
            _broken(self.folder, f"does not say which variant it is, {' or '.join(able)}")
        return able[0]

    def controlnet(self, item: object) -> ControlNetEntry:
        if not isinstance(item, dict):
            _broken(self.folder, "lists a ControlNet that is not a table")
        kinds = {kind: self.kind(kind, value) for kind, value in self.table(item, "kinds").items()}
        weights = item.get("weights", "")
        if weights not in ("", *CONTROLNET_WEIGHTS):
            _broken(self.folder, f"packs a ControlNet as {weights!r}, not as one of {', '.join(CONTROLNET_WEIGHTS)}")
        return ControlNetEntry(self.place(item, "folder"), kinds, weights)

    def kind(self, name: str, value: object) -> ControlKind:
        if name not in CONTROL_KINDS or not isinstance(value, dict):
            _broken(self.folder, f"lists an unknown control {name!r}")
        mode = None if value.get("mode") is None else self.whole(value, "mode", 0, 1000)
        picture = value.get("picture")
        if not isinstance(picture, str | dict):
            _broken(self.folder, f"does not say what picture the {name} control takes")
        return ControlKind(mode, picture)

    def defaults(self) -> dict[str, float]:
        values = self.table(self.data, "defaults") if "defaults" in self.data else {}
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values.values()):
            _broken(self.folder, "holds a default that is not a number")
        return dict(values)

    def place(self, table: dict[str, Any], field: str) -> Path:
        """A path within the model's folder; never out of it."""
        text = self.text(table, field)
        parts = PurePosixPath(text).parts
        if not parts or text.startswith("/") or any(part == ".." or "\\" in part or ":" in part for part in parts):
            _broken(self.folder, f"points out of its folder in {field!r}")
        return self.folder.joinpath(*parts)

    def text(self, table: dict[str, Any], field: str) -> str:
        if not isinstance(table.get(field), str):
            _broken(self.folder, f"lacks the text {field!r}")
        return table[field]

    def table(self, table: dict[str, Any], field: str) -> dict[str, Any]:
        if not isinstance(table.get(field), dict):
            _broken(self.folder, f"lacks the table {field!r}")
        return table[field]

    def items(self, table: dict[str, Any], field: str) -> list[Any]:
        if not isinstance(table.get(field), list):
            _broken(self.folder, f"lacks the list {field!r}")
        return table[field]

    def whole(self, table: dict[str, Any], field: str, low: int, high: int) -> int:
        value = table.get(field)
        if type(value) is not int or not low <= value <= high:
            _broken(self.folder, f"lacks the whole number {field!r} from {low} to {high}")
        return value


def channels_in(config: Path) -> int | None:
    """What the transformer's config.json says it takes; None where that cannot be read, which loading will tell."""
    try:
        found = json.loads(config.read_text(encoding="utf-8"))["in_channels"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if type(found) is int else None


def _defaults_of(variant: str) -> dict[str, float]:
    return {"steps": MODEL_VARIANTS[variant].steps, "guidance": MODEL_VARIANTS[variant].guidance}


def _broken(folder: Path, what: str, detail: str = "") -> NoReturn:
    raise FailureError.of(
        FailureKind.MODEL_BROKEN,
        f"The description of the model {folder.name!r} {what}.",
        "Download the model again.",
        f"{folder / DESCRIPTION} {detail}".strip(),
    )
