"""blender -b scene.blend --command grisaille generate, by the `blender` program and by the bpy wheel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
import pytest

from tests.addon.conftest import ROOT
from tests.addon.fakes import module
from tests.end_to_end.test_spine import png_size
from tools.staging import build_zip

SMALL = ("--prompt", "a clay pot", "--size", "128x96", "--seed", "7", "--steps", "2", "--controls", "depth,normal")


def test_the_command_writes_a_picture_and_a_summary(ready: Any, tmp_path: Path) -> None:
    out, summary = tmp_path / "out.png", tmp_path / "out.json"
    arguments = ["generate", *SMALL, "--camera", "Camera", "--out", str(out), "--json", str(summary)]
    assert module("addon.cli").main(arguments) == 0
    assert png_size(out.read_bytes()) == (128, 96)
    told = json.loads(summary.read_text())
    assert told["ok"] and told["request"]["seed"] == 7 and told["timings"] and told["plan"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "out.png"]
    assert ready.link is None, "the backend is ended with the command"
    assert "torch" not in sys.modules


def test_a_failing_engine_is_status_1_and_leaves_no_picture(ready: Any, models: Path, tmp_path: Path) -> None:
    broken = models / "broken"
    shutil.copytree(models / "random-weights", broken)
    (broken / "transformer.gguf").write_bytes(b"not a model")
    out, summary = tmp_path / "out.png", tmp_path / "out.json"
    try:
        arguments = ["generate", *SMALL, "--model", "broken", "--out", str(out), "--json", str(summary)]
        assert module("addon.cli").main(arguments) == 1
    finally:
        shutil.rmtree(broken)
    assert json.loads(summary.read_text())["failure"]["kind"] in ("model_broken", "model_unsupported")
    assert not out.exists()


@pytest.fixture(scope="module")
def blender(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the `blender` program, with the built zip installed in a profile of its own."""
    program = os.environ.get("BLENDER") or shutil.which("blender")
    if not program:
        pytest.skip("there is no `blender` program: put one on PATH, or name it in the variable BLENDER")
    folder = tmp_path_factory.mktemp("blender")
    environ = {**os.environ, "BLENDER_USER_RESOURCES": str(folder / "profile")}

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [program, *map(str, arguments)]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, cwd=ROOT)

    archive = os.environ.get("GRISAILLE_ZIP") or build_zip(folder)
    installed = run("--command", "extension", "install-file", "--repo", "user_default", "--enable", archive)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    return run


def test_blender_runs_the_command(
    blender: Callable[..., Any], backend_python: Path, models: Path, tmp_path: Path, factory: object
) -> None:
    scene, out, summary = tmp_path / "scene.blend", tmp_path / "out.png", tmp_path / "out.json"
    bpy.ops.wm.save_as_mainfile(filepath=str(scene))
    backend = ("--backend-python", backend_python, "--models", models)
    arguments = ("generate", *SMALL, "--camera", "Camera", "--out", out, "--json", summary, *backend)
    done = blender("-b", scene, "--command", "grisaille", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert png_size(out.read_bytes()) == (128, 96) and json.loads(summary.read_text())["ok"]


@pytest.mark.parametrize("arguments", [("--size", "big"), ("--steps", "0"), ("--camera", "Nobody")])
def test_blender_is_told_2_when_called_wrongly(
    blender: Callable[..., Any], tmp_path: Path, arguments: tuple[str, str]
) -> None:
    out = tmp_path / "out.png"
    done = blender("-b", "--command", "grisaille", "generate", *SMALL, "--out", out, *arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr and not out.exists()


def test_blender_is_told_2_when_the_file_is_not_there(blender: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    missing = tmp_path / "missing.blend"
    done = blender("-b", missing, "--command", "grisaille", "generate", *SMALL, "--out", out)
    assert done.returncode == 2 and "was not opened" in done.stderr and not out.exists()
