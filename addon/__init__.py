"""Grisaille in Blender: registers the rooms, nothing else."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

MODULES: tuple[str, ...] = (
    "state",
    "preferences",
    "enhance_settings",
    "settings",
    "results",
    "operators",
    "ui",
    "cli",
)
"""Names of the modules that have register() and unregister(), in the order of registration."""


def _modules() -> list[ModuleType]:
    # Imported on register, not above: `addon.link` and others are used and tested without Blender.
    return [import_module(f".{name}", __package__) for name in MODULES]


def register() -> None:
    for module in _modules():
        module.register()


def unregister() -> None:
    for module in reversed(_modules()):
        module.unregister()
