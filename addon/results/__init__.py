"""Results in the scene: image datablocks, their history in the .blend, and where pictures are shown."""

from __future__ import annotations

from . import arrivals, history


def register() -> None:
    history.register()
    arrivals.register()


def unregister() -> None:
    arrivals.unregister()
    history.unregister()
