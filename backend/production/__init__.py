"""Request -> Result: the one entry to everything below the door."""

from .model_keeper import model_files
from .production import Production

__all__ = ["Production", "model_files"]
