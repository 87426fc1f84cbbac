"""Blender is killed in the middle of a job: its backend goes too, with its socket and its memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.staging import build_zip

GONE_SECONDS = 5.0


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc, which Linux has")
def test_the_backend_of_a_killed_blender_is_gone_within_seconds(
    backend_python: Path, models: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    environment = {
        **os.environ,
        "BLENDER_USER_RESOURCES": str(tmp_path / "profile"),
        "GRISAILLE_PYTHON": str(backend_python),
        "GRISAILLE_MODELS": str(models),
        "GRISAILLE_DATA": str(data),
    }
    archive = os.environ.get("GRISAILLE_ZIP") or build_zip(tmp_path / "dist")
    script = Path(__file__).parent / "doomed_blender.py"
    with subprocess.Popen(
        [sys.executable, str(script), str(archive)], env=environment, stdout=subprocess.PIPE, text=True
    ) as blender:
        assert blender.stdout is not None
        try:
            said = next((line for line in blender.stdout if line.startswith('{"backend"')), None)
            assert said, "Blender ended before its job had begun"
            backend = json.loads(said)["backend"]
            assert is_running(backend) and list((data / "run").iterdir())
        finally:
            blender.send_signal(signal.SIGKILL)
    end = time.monotonic() + GONE_SECONDS
    while is_running(backend) or list((data / "run").iterdir()):
        assert time.monotonic() < end, "the backend outlived Blender"
        time.sleep(0.02)
