"""Models on disk: what a model's folder holds, read from its model.json."""

from ..wire.model_names import model_names
from .control_choice import ControlChoice, choose_nets
from .families import check_family, detail_task
from .loras import FoundLora, find_loras
from .model_folder import ControlKind, ControlNetEntry, ModelFolder, find_model

__all__ = [
    "ControlChoice",
    "ControlKind",
    "ControlNetEntry",
    "FoundLora",
    "ModelFolder",
    "check_family",
    "choose_nets",
    "detail_task",
    "find_loras",
    "find_model",
    "model_names",
]
