"""Pictures on surfaces."""

from .projection import project, restore

__all__ = ["project", "restore"]
