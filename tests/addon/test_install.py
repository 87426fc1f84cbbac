"""The zip installs and enables as an extension."""

from types import ModuleType


def test_install_from_disk_enables_the_extension(factory: ModuleType) -> None:
    import bpy

    assert factory.__name__ in bpy.context.preferences.addons
