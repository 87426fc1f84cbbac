"""From armatures to the joints of people: which bone is what, where it is, and whether it is seen."""

from __future__ import annotations

from .people import People, find_people, is_rendered
from .sight import pose_map

__all__ = ["People", "find_people", "is_rendered", "pose_map"]
