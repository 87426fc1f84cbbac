"""Pictures as files: formats, what they remember, reading it back, and the maps that make them again."""

from .files import check_ending, save_picture
from .map_store import MapStore, read_maps
from .metadata import Remembered, read_request
from .painted import PaintedResult

__all__ = ["MapStore", "PaintedResult", "Remembered", "check_ending", "read_maps", "read_request", "save_picture"]
