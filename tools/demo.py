"""From nothing to a picture: environments, extension, Blender, backend, contact sheet."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from tools import libraries, staging
from tools.console import ROOT, ToolError, run_quietly, say, show_progress
from tools.environments import BACKEND, BLENDERS, Environment, can_be_made, missing_line, prepare

DEMO = ROOT / "demo"
WORK = ROOT / "build" / "demo"
SAMPLE = ROOT / "samples" / "still_life.blend"
MODEL = ROOT / "backend" / "sample" / "model" / "sample"
SHEET = "contact_sheet.png"
PROGRESS = "grisaille-progress "
"""What a line begins with that Blender's side prints for the bar: a fraction and a text follow."""


def run(prompt: str, size: str, steps: int) -> int:
    """Runs the demo; returns 0 when the sheet is there. Raises `ToolError` with what went wrong and what to do."""
    width, height = parse_size(size)
    libraries.check_libraries()
    blender = choose_blender()
    prepared = prepare([BACKEND, blender])
    python, blender_python = prepared.python(BACKEND), prepared.python(blender)
    started = time.monotonic()
    for folder in (WORK, DEMO):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    archive = staging.build_zip()
    staging.validate(archive, blender_python)
    say(f"Built {archive.relative_to(ROOT)}, accepted by the validator of {blender.purpose}.")
    order = {
        "archive": str(archive),
        "scene": str(SAMPLE),
        "python": str(python),
        "data": str(WORK / "data"),
        "model": MODEL.name,
        "prompt": prompt,
        "width": width,
        "height": height,
        "steps": steps,
        "controls": str(WORK),
        "picture": str(DEMO / "picture.png"),
        "saved": str(DEMO / SAMPLE.name),
        "render": str(WORK / "render.png"),
    }
    _run_blender(blender_python, order)
    show_progress(0.97, "contact sheet")
    title = json.loads((MODEL / "model.json").read_text(encoding="utf-8"))["title"]
    command = [python, "-m", "tools.contact_sheet", DEMO / SHEET, "--title", title, "--prompt", prompt]
    tiles = [WORK / "depth.png", WORK / "normal.png", WORK / "line.png", DEMO / "picture.png", WORK / "render.png"]
    _run([*command, *tiles], "The contact sheet could not be made")
    show_progress(1.0, f"done in {time.monotonic() - started:.0f} s")
    say(f"The saved scene, the picture and the contact sheet are in demo/. {title}.")
    say(f"The contact sheet: {DEMO / SHEET}")
    return 0


def parse_size(text: str) -> tuple[int, int]:
    """Width and height in pixels of "512x512". Raises `ToolError` for anything else; the add-on judges the numbers."""
    match = re.fullmatch(r"(\d+)[xX](\d+)", text)
    if match is None:
        raise ToolError(f"{text!r} is not a size: write it as 512x512.")
    return int(match[1]), int(match[2])


def choose_blender() -> Environment:
    """The newest Blender that can stand on this machine; says so when it is not the newest there is."""
    for blender in BLENDERS:
        if can_be_made(blender):
            return blender
        say(missing_line(blender))
    wanted = " or ".join(python for blender in BLENDERS for python in blender.pythons)
    raise ToolError(f"The demo needs Python {wanted} for Blender: install one of them.")


def _run_blender(python: Path, order: dict[str, object]) -> None:
    """Runs Blender's side, draws its progress, and keeps what else it says in demo/blender.log."""
    path = WORK / "order.json"
    path.write_text(json.dumps(order), encoding="utf-8")
    environ = {**os.environ, "BLENDER_USER_RESOURCES": str(WORK / "profile"), "PYTHONUNBUFFERED": "1"}
    environ["PYTHONPATH"] = str(ROOT)
    log = DEMO / "blender.log"
    with log.open("w", encoding="utf-8") as lines:
        process = subprocess.Popen(
            [str(python), "-m", "tools.demo_in_blender", str(path)],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.write(line)
                if line.startswith(PROGRESS):
                    fraction, _, text = line.removeprefix(PROGRESS).partition(" ")
                    show_progress(float(fraction), text.strip())
            code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if code != 0:
        last = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()][-1:]
        raise ToolError(f"The demo failed in Blender: {''.join(last)} All of it is in {log.relative_to(ROOT)}.")


def _run(command: list[str | Path], fault: str) -> None:
    done = run_quietly(command, {**os.environ, "PYTHONPATH": str(ROOT)})
    if done.returncode != 0:
        raise ToolError(f"{fault}: {(done.stderr or done.stdout).strip().splitlines()[-1:] or done.returncode}")
