"""Models on disk: what a model's folder holds, read from its model.json."""

from .model_folder import ControlKind, ControlNetEntry, ModelFolder, find_model, model_names

__all__ = ["ControlKind", "ControlNetEntry", "ModelFolder", "find_model", "model_names"]
