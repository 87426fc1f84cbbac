"""The presets of the controls."""

from __future__ import annotations

import pytest

from backend.wire import CONTROL_KINDS, Control
from backend.wire.presets import PRESETS, preset_control, with_preset


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_good_for_every_kind(preset: str) -> None:
    for kind in CONTROL_KINDS:
        preset_control(kind, preset).check()
    assert PRESETS[preset].title and PRESETS[preset].description


def test_they_go_from_strict_to_loose() -> None:
    for kind in CONTROL_KINDS:
        exact, balanced, loose = (preset_control(kind, name) for name in ("exact", "balanced", "loose"))
        assert exact.strength > balanced.strength > loose.strength
        assert exact.end > balanced.end > loose.end


def test_a_preset_keeps_which_controls_are_on() -> None:
    controls = (Control("line", 0.1, 0.2, 0.3), Control("depth"))
    changed = with_preset(controls, "loose")
    assert changed == (Control("line", 0.35, 0.0, 0.4), Control("depth", 0.5, 0.0, 0.45))
