"""The one state of the add-on."""

from __future__ import annotations

import sys
from typing import Any

import bpy
import pytest

from tests.addon.fakes import PACKAGE, FakeLink, module
from tests.addon.test_operators import begin


def test_there_is_one_and_no_module_holds_it(fake_link: FakeLink) -> None:
    state = module("addon.state")
    assert state.get() is state.get() is vars(sys.modules[state.HOLDER])["state"]


def test_another_place_has_another_link_but_not_while_a_job_runs(
    fake_link: FakeLink, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, preferences = module("addon.state").get(), module("addon.preferences")
    begin()
    monkeypatch.setenv("GRISAILLE_DATA", str(tmp_path / "other"))
    assert state.connect(preferences.backend_place()) is fake_link
    state.jobs.clear()
    assert state.connect(preferences.backend_place()) is not fake_link and fake_link.is_closed


def test_the_link_is_closed_when_the_add_on_stays_off(fake_link: FakeLink, monkeypatch: pytest.MonkeyPatch) -> None:
    state = module("addon.state")
    timers: list[Any] = []
    monkeypatch.setattr(bpy.app.timers, "register", lambda function, **_: timers.append(function))
    bpy.ops.preferences.addon_disable(module=PACKAGE)
    assert len(timers) == 1 and timers[0]() == 1.0 and not fake_link.is_closed, "a reload takes a moment"
    state.get().release_at = 1e-9
    assert timers[0]() is None and fake_link.is_closed
    bpy.ops.preferences.addon_enable(module=PACKAGE)
    monkeypatch.undo()
    assert state.get().release_at == 0.0


def test_the_link_stays_when_the_add_on_is_back_in_time(fake_link: FakeLink, monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[Any] = []
    with monkeypatch.context() as patched:
        patched.setattr(bpy.app.timers, "register", lambda function, **_: timers.append(function))
        bpy.ops.preferences.addon_disable(module=PACKAGE)
    bpy.ops.preferences.addon_enable(module=PACKAGE)
    assert timers[0]() is None and not fake_link.is_closed


def test_a_state_of_the_old_module_moves_to_the_new_class(fake_link: FakeLink) -> None:
    state = module("addon.state")

    class OldState:
        """What an older version of the module would have left: fewer fields."""

    old: Any = OldState()
    old.link, old.session = fake_link, "kept"
    holder = vars(sys.modules[state.HOLDER])
    own, holder["state"] = holder["state"], old
    try:
        state.register()
        assert type(state.get()) is state.State
        assert (state.get().link, state.get().session, state.get().jobs) == (fake_link, "kept", {})
    finally:
        holder["state"] = own


def test_the_timer_is_quick_when_a_job_runs_and_slow_when_none_does(fake_link: FakeLink) -> None:
    arrivals = module("addon.results.arrivals")
    assert arrivals.tick() == arrivals.IDLE_SECONDS
    begin()
    assert arrivals.tick() == arrivals.BUSY_SECONDS < arrivals.IDLE_SECONDS
