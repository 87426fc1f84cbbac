"""The headless command, called as Blender calls it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import bpy
import pytest

from tests.addon.fakes import FakeLink, module, png
from tests.disks import small_disk

GOOD = ["generate", "--prompt", "a clay pot", "--size", "64x64", "--steps", "2", "--seed", "7"]


def run(*arguments: object) -> int:
    return module("addon.cli").main([str(argument) for argument in arguments])


def test_done_writes_the_picture_and_the_summary(fake_link: FakeLink, tmp_path: Path) -> None:
    out, summary = tmp_path / "out.png", tmp_path / "out.json"
    words = ["--controls", "depth,normal:0.5", "--camera", "Camera", "--sampler", "heun", "--schedule", "karras"]
    words += ["--negative-prompt", "fog", "--true-cfg", "2.5", "--stages", "details", "--preset", "exact"]
    status = run(*GOOD, *words, "--out", out, "--json", summary)
    assert status == 0
    assert out.read_bytes() == png(64, 64)
    told = json.loads(summary.read_text())
    assert (told["ok"], told["status"], told["picture"]) == (True, 0, str(out))
    assert told["request"]["seed"] == 7 and told["request"]["model"] == "tiny"
    assert (told["request"]["sampler"], told["request"]["schedule"]) == ("heun", "karras")
    assert [(stage["scale"], stage["steps"]) for stage in told["request"]["stages"]] == [(0.5, 2), (1.0, 2)]
    assert (told["request"]["negative_prompt"], told["request"]["true_cfg"]) == ("fog", 2.5)
    assert [(c["kind"], c["strength"]) for c in told["request"]["controls"]] == [("depth", 0.85), ("normal", 0.5)]
    assert fake_link.on_disk == set() and fake_link.is_closed
    assert len(bpy.context.scene.grisaille_history) == 0, "the scene is not changed"  # pyright: ignore


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "required"),
        (["paint"], "invalid choice"),
        (["generate", "--out", "OUT"], "--prompt"),
        ([*GOOD], "--out"),
        ([*GOOD, "--out", "OUT", "--size", "big"], "'big' is not a size like 1024x768"),
        ([*GOOD, "--out", "OUT", "--size", "0x64"], "0 x 64 pixels cannot be made"),
        ([*GOOD, "--out", "OUT", "--size", "20000x64"], "20000 x 64 pixels cannot be made"),
        ([*GOOD, "--out", "OUT", "--size", "70x64"], "The nearest size is 64 x 64"),
        ([*GOOD, "--out", "OUT", "--steps", "0"], "number of steps is 0"),
        ([*GOOD, "--out", "OUT", "--prompt", ""], "The prompt is empty"),
        ([*GOOD, "--out", "OUT", "--camera", "Nobody"], "Use one of: Camera"),
        ([*GOOD, "--out", "OUT", "--controls", "smell"], "Use one of depth, normal, line"),
        ([*GOOD, "--out", "OUT", "--preset", "wild"], "invalid choice: 'wild'"),
        ([*GOOD, "--out", "OUT", "--controls", "smell", "--preset", "exact"], "Use one of depth, normal, line"),
        ([*GOOD, "--out", "OUT", "--controls", "depth,normal,line,canny,grey"], "5 controls are on"),
        ([*GOOD, "--out", "OUT", "--seed", "many"], "invalid int value"),
        ([*GOOD, "--out", "OUT", "--pro", "x"], "unrecognized arguments"),
    ],
)
def test_called_wrongly(
    fake_link: FakeLink,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    out = tmp_path / "out.png"
    assert run(*[out if argument == "OUT" else argument for argument in arguments]) == 2
    told = capsys.readouterr().err
    assert sentence in told and "Traceback" not in told
    assert not out.exists() and fake_link.submitted == {}


def test_help_is_no_error(fake_link: FakeLink, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("generate", "--help") == 0
    assert "--controls" in capsys.readouterr().out


def test_a_failed_job_is_status_1_with_a_json(
    fake_link: FakeLink, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wire = module("backend.wire")
    fake_link.answer = wire.Failure(wire.FailureKind.OUT_OF_MEMORY, "The GPU is full.", "Choose a smaller size.")
    out, summary = tmp_path / "out.png", tmp_path / "out.json"
    assert run(*GOOD, "--out", out, "--json", summary) == 1
    told = json.loads(summary.read_text())
    assert told["failure"]["kind"] == "out_of_memory" and told["status"] == 1 and not told["ok"]
    assert "The GPU is full. Choose a smaller size." in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["out.json"]


def test_a_missing_backend_and_missing_models_are_status_1(
    fake_link: FakeLink, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.png"
    assert run(*GOOD, "--out", out, "--backend-python", tmp_path / "python") == 1
    assert "Set Backend Python" in capsys.readouterr().err
    assert run(*GOOD, "--out", out, "--model", "tiny", "--models", tmp_path / "nothing") == 1
    assert "Set Models Folder" in capsys.readouterr().err


def test_an_output_folder_that_is_not_there(
    fake_link: FakeLink, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*GOOD, "--out", tmp_path / "no" / "out.png") == 1
    assert "is not there. Make it" in capsys.readouterr().err
    assert fake_link.submitted == {}, "told before anything is done"


CHECK = """
import importlib, os, sys, types
for name in ("bare", "bare.addon", "bare.addon.results"):  # the extension without its __init__ files, which want bpy
    package = types.ModuleType(name)
    package.__path__ = [os.path.join({extension!r}, *name.split(".")[1:])]
    sys.modules[name] = package
files = importlib.import_module("bare.addon.results.files")
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for function in (lambda: files.check_writable({path!r}), lambda: files.write_whole({path!r}, b"x")):
    try:
        function()
    except Exception as error:
        print(error.failure.kind, error)
    else:
        print("no error")
"""


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no folder that its owner may not write to")
def test_an_output_folder_that_is_not_writable_without_roots_powers(fake_link: FakeLink) -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    locked = folder / "locked"
    locked.mkdir(mode=0o555)
    extension = str(Path(module("addon").__file__).parent.parent)
    source = CHECK.format(extension=extension, path=str(locked / "out.png"))
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False, cwd=folder)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["not_writable"] * 2, done.stderr
    assert all("cannot be written. Choose a file" in line for line in lines)
    assert list(locked.iterdir()) == []
    shutil.rmtree(folder)


def test_a_full_disk_leaves_nothing_half_written(fake_link: FakeLink, tmp_path: Path) -> None:
    files, wire = module("addon.results.files"), module("backend.wire")
    with small_disk(tmp_path / "disk", 1) as disk:
        out = disk / "out.png"
        out.write_bytes(b"the picture before")
        with pytest.raises(wire.FailureError, match="disk is full") as raised:
            files.write_whole(out, b"x" * 2**21)
        assert raised.value.failure.kind == "disk_full"
        assert out.read_bytes() == b"the picture before"
        assert [path.name for path in disk.iterdir()] == ["out.png"]


def test_a_blend_that_is_not_there_is_noticed(fake_link: FakeLink, tmp_path: Path) -> None:
    missing = module("addon.cli").missing_file
    called = ["blender", "-b", "scene.blend", "--command", "grisaille", "generate", "--out", "x.blend"]
    assert missing(called, "") == "scene.blend"
    assert missing(called, str(tmp_path / "other.blend")) == "scene.blend"
    assert missing(called, os.path.abspath("scene.blend")) == ""
    assert missing(["blender", "-b", "--command", "grisaille"], "") == ""
    assert missing(["blender", "-b", "scene.BLEND", "-t", "2", "--command", "grisaille"], "") == "scene.BLEND"


def test_a_blend_that_is_not_there_is_status_2(
    fake_link: FakeLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["blender", "-b", "no.blend", "--command", "grisaille", *GOOD])
    summary = tmp_path / "out.json"
    assert run(*GOOD, "--out", tmp_path / "out.png", "--json", summary) == 2
    assert "no.blend was not opened" in capsys.readouterr().err
    assert json.loads(summary.read_text())["status"] == 2 and fake_link.submitted == {}


def test_the_command_is_registered_with_blender(factory: Any) -> None:
    assert module("addon.state").get().command is not None
    handle = bpy.utils.register_cli_command("grisaille_probe", lambda arguments: 0)
    bpy.utils.unregister_cli_command(handle)
