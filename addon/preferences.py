"""Where the backend lives: its Python, the models, and what is kept on disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

from ..backend.wire import FailureError, FailureKind

if TYPE_CHECKING:
    from .link import BackendPlace

assert __package__ is not None
ROOT_PACKAGE = __package__.rpartition(".")[0]
"""The extension's own package, `bl_ext.<repository>.grisaille`."""
DEVICES = (
    ("auto", "Automatic", "The fastest device there is"),
    ("cuda", "CUDA", "An NVIDIA GPU"),
    ("mps", "Metal", "The GPU of an Apple computer"),
    ("cpu", "CPU", "No GPU; slow with full models"),
)

DRAWN_BELOW: list[Callable[[Any, bpy.types.Context], None]] = []
"""What `ui` adds to the preferences, which know nothing of it."""


class GrisaillePreferences(bpy.types.AddonPreferences):
    bl_idname = ROOT_PACKAGE

    backend_python: bpy.props.StringProperty(
        name="Backend Python",
        description="The Python program of the backend's own environment",
        subtype="FILE_PATH",
    )
    models_folder: bpy.props.StringProperty(
        name="Models Folder",
        description="The folder that holds one folder for each model",
        subtype="DIR_PATH",
    )
    data_folder: bpy.props.StringProperty(
        name="Data Folder",
        description="Where finished pictures wait until a saved file holds them, and where the logs are",
        subtype="DIR_PATH",
    )
    device: bpy.props.EnumProperty(name="Device", description="What the backend computes on", items=DEVICES)

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        for name, value in (
            ("backend_python", backend_python()),
            ("models_folder", models_folder()),
            ("data_folder", data_folder()),
        ):
            layout.prop(self, name)
            if not getattr(self, name):
                row = layout.row()
                row.active = False
                row.label(text=f"Not set: {value}", icon="BLANK1")
        layout.prop(self, "device")
        layout.operator("grisaille.log_folder_open", icon="FILE_FOLDER")
        for draw in DRAWN_BELOW:
            draw(layout, context)


def of_this_addon() -> GrisaillePreferences | None:
    """The preferences, or None while the add-on is not enabled."""
    addon = bpy.context.preferences.addons.get(ROOT_PACKAGE)
    return addon.preferences if addon else None  # pyright: ignore[reportReturnType]


def _chosen(name: str, variable: str) -> Path | None:
    preferences = of_this_addon()
    text = getattr(preferences, name) if preferences else ""
    text = bpy.path.abspath(text) if text else os.environ.get(variable, "")
    return Path(text) if text else None


def _user_folder() -> Path:
    return Path(bpy.utils.extension_path_user(ROOT_PACKAGE))


def backend_python() -> Path:
    """The backend's Python: the preference, else $GRISAILLE_PYTHON, else the environment in the user's folder."""
    program = Path("Scripts", "python.exe") if os.name == "nt" else Path("bin", "python")
    return _chosen("backend_python", "GRISAILLE_PYTHON") or _user_folder() / "backend" / program


def models_folder() -> Path:
    """The models: the preference, else $GRISAILLE_MODELS, else `models` in the user's folder."""
    return _chosen("models_folder", "GRISAILLE_MODELS") or _user_folder() / "models"


def data_folder() -> Path:
    """Results, logs and sockets: the preference, else $GRISAILLE_DATA, else `data` in the user's folder."""
    return _chosen("data_folder", "GRISAILLE_DATA") or _user_folder() / "data"


def backend_place(python: Path | None = None, models: Path | None = None) -> BackendPlace:
    """Where the backend is, with what is given in place of the preferences.

    Raises `FailureError` (backend_not_found, model_missing, not_writable), saying which setting to change.
    """
    from .link import BackendPlace

    python, chosen = python or backend_python(), models or _chosen("models_folder", "GRISAILLE_MODELS")
    if not os.access(python, os.X_OK) or python.is_dir():
        raise FailureError.of(
            FailureKind.BACKEND_NOT_FOUND,
            f"The backend's Python is not at {python}.",
            "Set Backend Python in the add-on's preferences, or the variable GRISAILLE_PYTHON.",
        )
    if chosen is not None and not chosen.is_dir():
        raise FailureError.of(
            FailureKind.MODEL_MISSING,
            f"The models folder {chosen} is not there.",
            "Set Models Folder in the add-on's preferences, or the variable GRISAILLE_MODELS.",
        )
    preferences = of_this_addon()
    device = preferences.device if preferences else "auto"
    return BackendPlace(python, chosen or models_folder(), _made(data_folder()), device)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FailureError.of(
            FailureKind.NOT_WRITABLE,
            f"The data folder {folder} cannot be made.",
            "Choose another Data Folder in the add-on's preferences.",
            str(error),
        ) from error
    return folder


def register() -> None:
    bpy.utils.register_class(GrisaillePreferences)


def unregister() -> None:
    bpy.utils.unregister_class(GrisaillePreferences)
