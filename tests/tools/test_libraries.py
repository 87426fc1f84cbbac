"""The check of the system libraries that Blender needs."""

from __future__ import annotations

import sys

import pytest

from tools import libraries
from tools.console import ROOT, ToolError


@pytest.fixture(autouse=True)
def on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")


def test_missing_libraries_are_named_with_the_command_that_brings_them() -> None:
    with pytest.raises(ToolError) as raised:
        libraries.check_libraries(lambda library: library not in ("libXi.so.6", "libEGL.so.1"))
    assert "libXi.so.6, libEGL.so.1" in str(raised.value)
    assert str(raised.value).endswith("sudo apt install libxi6 libegl1")
    assert "\n" not in str(raised.value)


def test_nothing_is_said_when_all_are_there() -> None:
    libraries.check_libraries(lambda library: True)


def test_the_loader_is_really_asked() -> None:
    assert not libraries.can_load("libgrisaille-has-no-such-library.so.7")


def test_other_systems_need_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert libraries.missing_libraries(lambda library: False) == []


def test_the_readme_names_every_package() -> None:
    readme = (ROOT / "README.md").read_text()
    assert f"apt install {' '.join(libraries.LIBRARIES.values())}" in readme
