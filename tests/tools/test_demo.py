"""The demo's own parts: what it is asked, which Blender it takes, and the sheet it leaves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tools import demo
from tools.console import ROOT, ToolError
from tools.contact_sheet import GAP, HEADER, LABELS, MARGIN, TILE, make_sheet
from tools.environments import BLENDER_4_5, BLENDER_5_2, Environment

COLOURS = ((250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250))


def test_a_size_is_two_numbers() -> None:
    assert demo.parse_size("640x480") == (640, 480)
    for wrong in ("640", "axb", "640x480x3", "-1x5", ""):
        with pytest.raises(ToolError, match="512x512"):
            demo.parse_size(wrong)


def test_the_newest_blender_is_taken_that_can_stand_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    possible: set[Environment] = {BLENDER_5_2, BLENDER_4_5}
    monkeypatch.setattr(demo, "can_be_made", lambda blender: blender in possible)
    assert demo.choose_blender() is BLENDER_5_2
    possible.remove(BLENDER_5_2)
    assert demo.choose_blender() is BLENDER_4_5
    assert "3.13" in capsys.readouterr().out
    possible.clear()
    with pytest.raises(ToolError, match=r"3\.13 or 3\.11"):
        demo.choose_blender()


def test_the_sheet_shows_every_picture_in_its_place() -> None:
    sheet = make_sheet([Image.new("RGB", (64, 32), colour) for colour in COLOURS], "A model", "a prompt")
    assert sheet.width == 2 * MARGIN + len(LABELS) * TILE + (len(LABELS) - 1) * GAP
    for index, colour in enumerate(COLOURS):
        left = MARGIN + index * (TILE + GAP)
        assert sheet.getpixel((left + TILE // 2, HEADER + TILE // 4)) == colour


def test_the_sheet_says_what_painted_it() -> None:
    pictures = [Image.new("RGB", (8, 8))] * len(LABELS)
    header = (0, 0, 99999, HEADER)
    titled, untitled = (make_sheet(pictures, title, "").crop(header).tobytes() for title in ("Random weights", ""))
    assert titled != untitled


def test_the_sheet_is_written_whole_from_files(tmp_path: Path) -> None:
    pictures = []
    for label, colour in zip(LABELS, COLOURS, strict=True):
        pictures.append(tmp_path / f"{label}.png")
        Image.new("RGB", (16, 16), colour).save(pictures[-1])
    sheet = tmp_path / "sheet.png"
    command = [sys.executable, "-m", "tools.contact_sheet", str(sheet), *map(str, pictures), "--title", "Noise"]
    subprocess.run(command, check=True, cwd=ROOT)
    with Image.open(sheet) as made:
        assert made.width > len(LABELS) * TILE
    assert not list(tmp_path.glob("*.part*"))


def test_the_sample_scene_is_small_and_compressed() -> None:
    content = demo.SAMPLE.read_bytes()
    assert len(content) < 300_000
    assert content.startswith(b"\x28\xb5\x2f\xfd"), "a Zstandard frame, which Blender writes when it compresses"
