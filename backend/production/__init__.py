"""Request -> Result: the one entry to everything below the door."""

from .production import Production, model_files

__all__ = ["Production", "model_files"]
