"""From the scene to `ControlMaps`: what a 3D view shows (viewport truth) and what a camera renders (render truth)."""

from __future__ import annotations

from .capture import Capture, capture_camera, capture_viewport
from .view import View, view_of_camera, view_of_viewport

__all__ = ["Capture", "View", "capture_camera", "capture_viewport", "view_of_camera", "view_of_viewport"]
