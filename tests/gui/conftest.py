"""A real Blender window, on the screen that is there or on a virtual one, with the built zip installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tools.staging import build_zip

ROOT = Path(__file__).resolve().parent.parent.parent
DRIVERS = Path(__file__).resolve().parent / "drivers"


@dataclass(frozen=True)
class BlenderWindow:
    """Runs driver scripts inside a windowed Blender, each in a process and a profile of its own."""

    program: str
    display: str
    archive: Path
    models: Path
    folder: Path

    def run(self, driver: str, timeout: float = 900, **options: Any) -> dict[str, Any]:
        """What the driver wrote: it gets `options` and where to write as a JSON file after `--`."""
        run_folder = self.folder / f"{driver}-{time.monotonic_ns()}"
        run_folder.mkdir()
        answer = run_folder / "answer.json"
        settings = {
            "answer": str(answer),
            "archive": str(self.archive),
            "python": sys.executable,
            "models": str(self.models),
            "folder": str(run_folder),
            **options,
        }
        (run_folder / "settings.json").write_text(json.dumps(settings))
        environment = {**os.environ, "DISPLAY": self.display, "BLENDER_USER_RESOURCES": str(run_folder / "profile")}
        command = [self.program, "--window-geometry", "0", "0", "1280", "800", "--python-exit-code", "3"]
        command += ["--python", str(DRIVERS / f"{driver}.py"), "--", str(run_folder / "settings.json")]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=timeout, cwd=run_folder, check=False
        )
        assert answer.exists(), f"Blender left no answer (exit {done.returncode}):\n{done.stdout}\n{done.stderr}"
        return json.loads(answer.read_text())


@pytest.fixture(scope="session")
def blender_window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlenderWindow]:
    program = os.environ.get("BLENDER") or shutil.which("blender")
    if program is None:
        pytest.skip("no Blender program: set BLENDER to one of 4.5 or later, or put it on PATH")
    folder = tmp_path_factory.mktemp("window")
    models = folder / "models"
    subprocess.run([sys.executable, "-m", "tools.random_model", str(models)], cwd=ROOT, check=True)
    archive = build_zip(folder / "dist")
    if os.environ.get("DISPLAY"):
        yield BlenderWindow(program, os.environ["DISPLAY"], archive, models, folder)
        return
    if shutil.which("Xvfb") is None:
        pytest.skip("no screen: set DISPLAY, or install Xvfb (Debian: apt install xvfb)")
    display = _free_display()
    screen = subprocess.Popen(
        ["Xvfb", display, "-screen", "0", "1280x800x24", "+extension", "GLX"], stderr=subprocess.DEVNULL
    )
    try:
        _wait_for_display(display)
        yield BlenderWindow(program, display, archive, models, folder)
    finally:
        screen.terminate()
        screen.wait()


def _free_display() -> str:
    number = 90
    while Path(f"/tmp/.X11-unix/X{number}").exists() or Path(f"/tmp/.X{number}-lock").exists():
        number += 1
    return f":{number}"


def _wait_for_display(display: str) -> None:
    socket = Path(f"/tmp/.X11-unix/X{display[1:]}")
    deadline = time.monotonic() + 10
    while not socket.exists():
        assert time.monotonic() < deadline, f"Xvfb did not open {display}"
        time.sleep(0.05)
