"""Diagnose, in real Blender, with the backend's own Python; and with one that is no backend."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
import pytest

from tests.addon.fakes import forget_all, module, ops
from tests.addon.test_ui import Layout

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = Path("Scripts", "python.exe") if os.name == "nt" else Path("bin", "python")
BACKEND_PYTHON = os.environ.get("GRISAILLE_PYTHON") or str(ROOT / ".venv" / PROGRAM)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def backend(factory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The backend's own Python, with a models folder in which one model is broken; returns the data folder."""
    models = tmp_path / "models"
    (models / "bad").mkdir(parents=True)
    (models / "bad" / "model.json").write_text("{")
    monkeypatch.setenv("GRISAILLE_PYTHON", BACKEND_PYTHON)
    monkeypatch.setenv("GRISAILLE_MODELS", str(models))
    monkeypatch.setenv("GRISAILLE_DATA", str(tmp_path / "data"))
    module("addon.state").get().close()
    forget_all()
    return tmp_path / "data"


def drawn() -> list[str]:
    """What the preferences show below their settings."""
    shown: list[str] = []
    module("addon.ui.diagnosis").draw(Layout(shown), SimpleNamespace(region=None, preferences=bpy.context.preferences))
    return shown


def test_the_path_that_does_not_block_shows_its_lines(backend: Path) -> None:
    """As from a button, which Blender does not press in background."""
    state, diagnose = module("addon.state").get(), module("addon.operators.diagnose")
    assert drawn() == ["op:grisaille.diagnose"]
    diagnose.begin(quick=True)
    assert state.diagnosis is not None and state.diagnosis.outcome is None, "Blender goes on at once"
    assert "op:grisaille.diagnosis_cancel" in drawn() and "op:grisaille.diagnose" not in drawn()
    with pytest.raises(RuntimeError, match="is being made already"):
        ops().diagnose()
    while diagnose.look() is not None:  # in background, timers do not run
        time.sleep(0.05)
    assert state.diagnosis is None and not state.diagnosed.works
    found = {line.subject: line for line in state.diagnosed.lines}
    assert found["socket"].state == "works" and found["run bad"].state == "skipped"
    assert found["model bad"].state == "fails" and found["model bad"].hint == "Download the model again."
    shown = " ".join(drawn())
    assert "The description of the model 'bad'" in shown and "op:grisaille.diagnosis_copy" in shown


def test_from_a_script_it_waits_and_the_report_can_be_copied(backend: Path) -> None:
    state = module("addon.state").get()
    assert ops().diagnose(quick=True) == {"FINISHED"}
    report = state.diagnosed.report
    assert "model bad" in report and str(backend) not in report and "<models>" in report
    assert ops().diagnosis_copy() == {"FINISHED"}
    # Blender has no clipboard of the system's in background, but keeps what was put there where it has one.
    assert bpy.context.window_manager.clipboard in (report, "")


def test_a_python_that_is_no_backend_is_named(backend: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blender's own, in which there is no torch."""
    monkeypatch.setenv("GRISAILLE_PYTHON", sys.executable)
    assert ops().diagnose(quick=True) == {"FINISHED"}
    found = {line.subject: line for line in module("addon.state").get().diagnosed.lines}
    assert found["libraries"].state == "fails" and "torch" in found["libraries"].said
    monkeypatch.setenv("GRISAILLE_PYTHON", str(backend / "nothing"))
    with pytest.raises(RuntimeError, match="Set Backend Python"):
        ops().diagnose()
    assert "backend's Python is not at" in " ".join(drawn())


def test_a_diagnosis_can_be_stopped(backend: Path) -> None:
    state = module("addon.state").get()
    running = module("addon.operators.diagnose").begin(quick=False)
    assert ops().diagnosis_cancel() == {"FINISHED"}
    assert running.wait().kind == "backend_died"
    assert module("addon.operators.diagnose").look() is None and state.diagnosis is None
    assert "stopped before its end" in " ".join(drawn())
    assert ops().diagnosis_cancel() == {"CANCELLED"}


def test_the_command_line(backend: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = module("addon.cli").main
    told, report = tmp_path / "told.json", tmp_path / "report.md"
    assert main(["diagnose", "--quick", "--json", str(told), "--report", str(report)]) == 1
    assert "grisaille: FAIL model bad: The description of the model 'bad' cannot be read." in capsys.readouterr().out
    found = json.loads(told.read_text())
    assert not found["works"] and {"subject", "state", "said", "hint"} == set(found["lines"][0])
    assert report.read_text().startswith("# Grisaille") and str(tmp_path) not in report.read_text()
    assert main(["diagnose", "--backend-python", str(tmp_path / "nothing")]) == 1
    assert "Set Backend Python" in capsys.readouterr().err
