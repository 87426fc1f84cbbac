"""python -m backend generate: pictures from files, and sentences where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from backend.__main__ import main
from backend.commands.generate import size, strengths
from backend.outputs import read_maps, read_request
from backend.outputs.exr import encode_exr, read_exr
from backend.outputs.map_files import read_colours, read_depth, read_grey, read_normal
from backend.outputs.png import bits_of, decode_png, encode_png
from backend.production.provenance import provenance
from backend.wire import Control, FailureError, GenerationRequest, LoRA
from backend.wire.few_steps import FEW_STEPS, HYBRIDS

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = ("--prompt", "a red cube", "--seed", "3", "--steps", "1")


def generate(models_folder: Path, *arguments: object) -> int:
    """The exit status."""
    options = ["generate", "--models", str(models_folder), "--device", "cpu", *map(str, arguments)]
    with pytest.raises(SystemExit) as stop:
        main(options)
    assert isinstance(stop.value.code, int)
    return stop.value.code


def write_maps(folder: Path) -> dict[str, Path]:
    """Files as Blender and others write them: 80 x 64 pixels."""
    y, x = np.mgrid[0:64, 0:80].astype(np.float32)
    depth = np.where(y < 16, np.float32(1e10), 4.0 + x / 80)
    normal = np.zeros((64, 80, 3), np.float32)
    normal[16:] = (0.6, 0.0, 0.8)
    depths = {"ViewLayer.Depth.Z": depth, "ViewLayer.Combined.R": x}
    normals = {f"ViewLayer.Normal.{axis}": normal[..., index] for index, axis in enumerate("XYZ")}
    files = {"depth": folder / "depth.exr", "normal": folder / "normal.exr", "line": folder / "line.png"}
    files["depth"].write_bytes(encode_exr(depths, {}))
    files["normal"].write_bytes(encode_exr(normals, {}))
    Image.fromarray(((x % 16 < 2) * 255).astype(np.uint8)).save(files["line"])
    return files


def test_maps_from_files_guide_a_picture_that_can_be_painted_again(
    models_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write_maps(tmp_path)
    options = [part for kind, path in files.items() for part in (f"--{kind}", path)]
    out = tmp_path / "out.png"
    strength = ("--control-strength", "depth:0.9,line:0.4")
    assert generate(models_folder, *SMALL, *options, *strength, "--out", out) == 0
    said = capsys.readouterr()
    assert said.out == "" and "denoising 1/1" in said.err
    assert f"{out} is written: seed 3, model sample (the best of 2 that fit" in said.err
    request = read_request(out).request
    assert (request.width, request.height, request.model, request.bit_depth) == (80, 64, "sample", 8)
    assert request.controls == (Control("depth", 0.9), Control("normal"), Control("line", 0.4))
    maps = read_maps(out)
    assert maps.depth is not None and np.isinf(maps.depth[:16]).all() and np.isfinite(maps.depth[16:]).all()

    again, other = tmp_path / "again.webp", tmp_path / "other.png"
    assert generate(models_folder, "--from", out, "--out", again) == 0
    assert np.array_equal(np.array(Image.open(again)), decode_png(out.read_bytes()))
    assert generate(models_folder, "--from", again, "--seed", "4", "--control-strength", "0.1", "--out", other) == 0
    changed = read_request(other).request
    assert changed.seed == 4 and [control.strength for control in changed.controls] == [0.1] * 3
    assert not np.array_equal(decode_png(other.read_bytes()), decode_png(out.read_bytes()))


def test_few_steps_and_styles_from_files(
    models_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hybrid by its name: its LoRA is found among the files, before a style's; what is given goes before both."""
    models = tmp_path / "models"
    shutil.copytree(models_folder / "random-weights", models / "random-weights")
    layer, chance = "transformer.transformer_blocks.0.attn.to_out.0", torch.Generator().manual_seed(1)
    sides = {"A": torch.randn(4, 128, generator=chance), "B": torch.randn(128, 4, generator=chance)}
    (models / "loras").mkdir()
    for name in ("ink", "FLUX.1-Turbo-Alpha"):
        save_file(
            {f"{layer}.lora_{key}.weight": side for key, side in sides.items()},
            models / "loras" / f"{name}.safetensors",
        )
    base = ("--prompt", "a cube", "--size", "64x64", "--seed", "3", "--model", "random-weights")
    out, styled = tmp_path / "out.png", tmp_path / "styled.png"
    hybrid = ("--few-steps", "turbo-alpha-8bit", "--lora", "ink:0.5")
    assert generate(models, *base, *hybrid, "--steps", "2", "--out", out) == 0
    result = read_request(out)
    assert result.request.loras == (LoRA("FLUX.1-Turbo-Alpha", 1.0), LoRA("ink", 0.5))
    assert (result.request.steps, result.request.speed, result.request.guidance) == (2, "eight_bit", 3.5)
    assert generate(models, *base, "--lora", "ink", "--steps", "1", "--out", styled) == 0
    assert read_request(styled).request.loras == (LoRA("ink"),)
    again = ("--from", styled, "--few-steps", "turbo-alpha", "--steps", "1", "--out", out)
    assert generate(models, *again) == 0
    request = read_request(out).request
    assert request.loras == (LoRA("FLUX.1-Turbo-Alpha"), LoRA("ink")) and request.speed == "exact"
    capsys.readouterr()
    assert generate(models, *base, "--few-steps", "hyper-8", "--out", out) == 1
    assert "Get it from ByteDance/Hyper-SD" in capsys.readouterr().err


def test_the_help_names_every_few_step_lora(capsys: pytest.CaptureFixture[str]) -> None:
    """It is written there, not put together: printing it imports nothing."""
    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    shown = "".join(capsys.readouterr().out.split())
    assert all(f'"{name}"' in shown for name in FEW_STEPS) and f'"{next(iter(HYBRIDS))}"' in shown


def test_an_exr_has_sixteen_bits_and_a_picture_can_be_started_from(models_folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.exr", tmp_path / "second.png"
    assert generate(models_folder, *SMALL, "--size", "64x64", "--out", first) == 0
    assert read_request(first).request.bit_depth == 16 and sorted(read_exr(first)[0]) == ["B", "G", "R"]
    mask = np.zeros((64, 64), np.uint8)
    mask[:32] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    sources = ("--image", first, "--mask", tmp_path / "mask.png")
    assert generate(models_folder, *SMALL, *sources, "--steps", "2", "--bit-depth", "16", "--out", second) == 0
    request = read_request(second).request
    assert (request.task, request.strength, request.width) == ("inpaint", 0.6, 64)
    assert bits_of(second.read_bytes()) == 16
    kept = decode_png(second.read_bytes())[32:]
    assert np.array_equal(kept, read_colours(first)[32:].astype(np.uint16) * 257)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((), 2, "There is no prompt. Give --prompt, or a picture with --from."),
        (("--prompt", " "), 2, "The prompt is empty."),
        (("--prompt", "x", "--out", "a.bmp"), 2, "cannot be saved as 'a.bmp'"),
        (("--prompt", "x", "--out", "nowhere/a.png"), 2, "There is no folder"),
        (("--prompt", "x", "--size", "70x64"), 2, "not multiples of 16"),
        (("--prompt", "x", "--sampler", "magic"), 2, "no sampler called 'magic'"),
        (("--prompt", "x", "--model", "other"), 1, "no model called 'other'"),
        (("--prompt", "x", "--model", "../other"), 2, "not the name of a model"),
        (("--prompt", "x", "--control-strength", "depth:0.5"), 2, "no depth control to be made stronger"),
        (("--prompt", "x", "--depth", "missing.exr"), 2, "The file missing.exr for the depth map is not there."),
        (("--prompt", "x", "--depth", "line.png"), 2, "The depth map line.png is no OpenEXR file."),
        (("--prompt", "x", "--depth", "normal.exr"), 2, "holds no depth: its channels are ViewLayer.Normal.X"),
        (("--prompt", "x", "--normal", "depth.exr"), 2, "holds no normals"),
        (("--prompt", "x", "--line", "text.png"), 2, "The picture text.png cannot be read."),
        (("--prompt", "x", "--size", "64x64", "--line", "line.png"), 2, "line map is float32 (64, 80)"),
        (("--prompt", "x", "--mask", "line.png"), 2, "a mask without a picture"),
        (("--prompt", "x", "--edit", "line.png"), 1, "cannot edit a picture by instruction"),
        (("--prompt", "x", "--edit", "line.png", "--image", "line.png"), 2, "Give --edit or --image."),
        (("--prompt", "x", "--reference", "line.png"), 1, "has no Redux"),
        (("--from", "line.png"), 2, "line.png does not say how it was made."),
        (("--from", "orphan.png"), 2, "grisaille-maps: depth. Name the folder"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...], status: int, said: str,
) -> None:  # fmt: skip
    write_maps(tmp_path)
    (tmp_path / "text.png").write_text("just some text")
    orphan = provenance(GenerationRequest("x", model="random-weights"), {"maps": {"depth": "0" * 64}}, {})
    (tmp_path / "orphan.png").write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8), orphan))
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    assert generate(models_folder, "--out", "a.png", *arguments) == status
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1] and lines[-1].startswith("grisaille: ") and "Traceback" not in str(lines)
    assert sorted(tmp_path.iterdir()) == before


def test_a_map_that_was_given_need_not_be_in_the_store(models_folder: Path, tmp_path: Path) -> None:
    files = write_maps(tmp_path)
    out = tmp_path / "out.png"
    assert generate(models_folder, *SMALL, "--depth", files["depth"], "--out", out) == 0
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    out.rename(moved / "out.png")
    again = moved / "again.png"
    assert generate(models_folder, "--from", moved / "out.png", "--depth", files["depth"], "--out", again) == 0
    assert np.array_equal(decode_png(again.read_bytes()), decode_png((moved / "out.png").read_bytes()))
    folder = tmp_path / "grisaille-maps"
    assert generate(models_folder, "--from", again, "--maps-folder", folder, "--out", tmp_path / "third.png") == 0


@pytest.mark.parametrize("arguments", [("--size", "big"), ("--steps", "few"), ("--bit-depth", "12"), ("--what", "x")])
def test_options_that_make_no_sense_are_status_2(
    models_folder: Path, tmp_path: Path, arguments: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(models_folder, *SMALL, "--out", tmp_path / "a.png", *arguments) == 2
    assert arguments[1] in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_texts_of_options() -> None:
    assert size("1024X768") == (1024, 768)
    assert strengths("0.8") == {"": 0.8} and strengths("depth:0.8, line:0.4") == {"depth": 0.8, "line": 0.4}
    for text in ("", "depth", "depth:", "x:y"):
        with pytest.raises(ArgumentTypeError):
            strengths(text)
    with pytest.raises(ArgumentTypeError):
        size("64")


def test_the_help_loads_nothing_heavy() -> None:
    code = """
import sys
from backend.__main__ import main
for arguments in (["--help"], ["generate", "--help"]):
    try:
        main(arguments)
    except SystemExit as stop:
        assert stop.code == 0
loaded = [name for name in ("torch", "numpy", "PIL", "dataclasses", "logging", "socket") if name in sys.modules]
assert not loaded, loaded
"""
    # Measuring coverage loads some of them itself.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, env=plain)
    assert "generate" in done.stdout and "--from" in done.stdout


def test_the_command_in_a_process_of_its_own(models_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jpg"
    command = [sys.executable, "-m", "backend", "generate", *SMALL, "--size", "64x64", "--out", str(out)]
    command += ["--models", str(models_folder), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0 and done.stdout == "", done.stderr
    assert read_request(out).request.prompt == "a red cube"


def test_what_map_files_may_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    depth = np.array([[1.0, 2.0], [1e10, np.inf]], np.float32)
    for name in ("Z", "V", "R", "Depth.Z", "ViewLayer.Depth.Z", "View Layer.Depth.V"):
        path.write_bytes(encode_exr({name: depth, "A": np.zeros_like(depth)}, {}))
        assert read_depth(path).tolist() == [[1.0, 2.0], [np.inf, np.inf]], name
    normal = np.array([[(0.6, 0.0, 0.8), (0.0, 0.0, 0.0)]], np.float32)
    coded = (normal * 0.5 + 0.5) * 255.0
    Image.fromarray(coded.round().astype(np.uint8)).save(tmp_path / "n.png")
    assert np.abs(read_normal(tmp_path / "n.png") - normal).max() < 0.01
    assert (read_normal(tmp_path / "n.png")[0, 1] == 0.0).all()
    Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)).save(tmp_path / "deep.png")
    assert np.abs(read_grey(tmp_path / "deep.png") - np.array([[0.0, 0.5, 1.0]])).max() < 1e-4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data[:60], "it ends too soon, or is damaged"),
        (lambda data: data[: len(data) // 2], "it ends too soon, or is damaged"),
        (lambda data: data[:5] + b"\2" + data[6:], "tiled, deep"),
        (lambda data: data.replace(b"compression\0compression\0\1\0\0\0\3", b"compression\0compression\0\1\0\0\0\4"),
         "compressed as PIZ: save it with ZIP"),
        (lambda data: data.replace(b"dataWindow", b"dataWindox"), "its head has no dataWindow"),
    ],
)  # fmt: skip
def test_exr_files_that_are_not_read_are_named(tmp_path: Path, change: Callable[[bytes], bytes], said: str) -> None:
    path = tmp_path / "a.exr"
    path.write_bytes(change(encode_exr({"Z": np.random.default_rng(0).random((40, 30), np.float32)}, {})))
    with pytest.raises(FailureError) as caught:
        read_depth(path)
    assert said in caught.value.failure.message
