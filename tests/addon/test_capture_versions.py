"""Render truth does not depend on the Blender version: the other one, in a process of its own, sees the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import bpy
import numpy as np
import pytest

from tests.addon import looking, scenes
from tests.addon.conftest import ROOT

NAMES = ("still_life", "shifted", "orthographic", "collection_instances", "modifiers", "sharp_and_smooth")
SCRIPT = """
import importlib, sys
folder, answer, names = sys.argv[1], sys.argv[2], sys.argv[3:]
import bpy
import numpy as np
from tools.staging import stage
from pathlib import Path
bpy.ops.wm.read_factory_settings()
stage(Path(folder) / "grisaille")
sys.path.insert(0, folder)
capture = importlib.import_module("grisaille.addon.capture")
from tests.addon import scenes
maps = {}
for name in names:
    kind = scenes.COINCIDING[name]
    kind.build()
    seen = capture.capture_camera(bpy.context, kind.width, kind.height, ("depth", "normal", "line")).maps
    maps.update({f"{name}.{key}": array for key, array in seen.arrays().items()})
np.savez_compressed(answer, **maps)
"""


def other_python() -> Path:
    """The Python of the environment with the other Blender."""
    mine = "4.5" if bpy.app.version < (5, 0) else "5.2"
    other = "5.2" if mine == "4.5" else "4.5"
    for place in ("bin/python", "Scripts/python.exe"):
        path = ROOT / f".venv-{other}" / place
        if path.exists():
            return path
    pytest.skip(f"there is no .venv-{other} with the other Blender: `python3 build.py test` makes it")


def test_the_other_blender_renders_the_same_maps(grisaille: ModuleType, tmp_path: Path) -> None:
    python, answer = other_python(), tmp_path / "other.npz"
    environment = {**os.environ, "BLENDER_USER_RESOURCES": str(tmp_path / "profile"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [python, "-c", SCRIPT, tmp_path, answer, *NAMES],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert Path(sys.executable) != python
    theirs = np.load(answer)
    for name in NAMES:
        kind = scenes.COINCIDING[name]
        kind.build()
        ours = looking.rendered(kind.width, kind.height)
        other = SimpleNamespace(**{key: theirs[f"{name}.{key}"] for key in looking.ALL})
        apart = looking.apart(ours, other)
        assert apart.silhouette_iou >= 0.999, (name, apart)
        assert apart.depth_within_percent >= 0.999, (name, apart)
        assert apart.normal_median <= 0.5 and apart.normal_within_10 >= 0.98, (name, apart)
        assert apart.lines_in_common >= 0.97, (name, apart)
