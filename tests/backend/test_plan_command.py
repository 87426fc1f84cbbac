"""python -m backend plan, and the two lines as a picture's progress tells them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from backend.__main__ import main
from backend.production import Production
from backend.production.stage_times import StageTimes
from backend.wire import GenerationRequest, Progress
from tests.backend.enhance_samples import write_compact
from tests.backend.samples import made, run


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["plan", *arguments])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_it_says_two_lines(capsys: pytest.CaptureFixture[str], models_folder: Path) -> None:
    code, out, err = called(capsys, "--models", str(models_folder), "--device", "cuda", "--memory", "7.2")
    first, second = out.splitlines()
    assert code == 0 and "unpacked: 0.3 of 7.2 GB free at the most, while the picture is decoded." in first
    assert second == "How long it takes is not known yet." and "the best of 2 that fit" in err


def test_all_of_it_as_json(capsys: pytest.CaptureFixture[str], models_folder: Path) -> None:
    options = ["--model", "random-weights", "--device", "cuda:1", "--memory", "0.5", "--host-memory", "16"]
    code, out, _ = called(capsys, "--models", str(models_folder), *options, "--size", "2048x1024", "--json")
    plan = json.loads(out)
    assert code == 0 and plan["folder"] == "random-weights" and plan["device"] == "cuda" and plan["fits"]
    assert plan["most"] == max(plan["peaks"].values()) <= plan["usable"] < plan["free"] == 500_000_000
    assert plan["seconds"] is None and plan["lines"] and plan["placement"]["vae_tile"] in (0, 1024, 768, 512, 384, 256)
    with_control = called(capsys, "--models", str(models_folder), *options, "--controls", "depth,line", "--json")
    without = called(capsys, "--models", str(models_folder), *options, "--json")
    peaks = [json.loads(one[1])["peaks"]["denoising"] for one in (with_control, without)]
    assert peaks[0] > peaks[1]


def test_it_counts_what_enhances_the_picture_and_8_bit_products(
    capsys: pytest.CaptureFixture[str], models_folder: Path, tmp_path: Path
) -> None:
    there = tmp_path / "models"
    shutil.copytree(models_folder, there)
    write_compact(there / "upscalers" / "small.safetensors")
    options = ["--models", str(there), "--model", "random-weights", "--device", "cuda", "--memory", "8", "--json"]
    plain, larger, fast = (
        json.loads(called(capsys, *options, *more)[1]) for more in ([], ["--by", "4"], ["--speed", "eight_bit"])
    )
    assert "enhancing" not in plain["peaks"] and larger["peaks"]["enhancing"] > 0
    assert plain["placement"]["transformer"] == "unpacked" and fast["placement"]["transformer"] == "packed"
    code, _, err = called(capsys, *options, "--by", "40")
    assert code == 2 and "1.5 to 8" in err


def test_what_does_not_fit_is_an_exit_status(capsys: pytest.CaptureFixture[str], models_folder: Path) -> None:
    code, out, _ = called(capsys, "--models", str(models_folder), "--device", "cuda", "--memory", "0.32")
    assert code == 1 and "it may not fit" in out
    code, _, err = called(capsys, "--device", "toaster", "--memory", "8")
    assert code == 2 and "Give --device cuda, mps or cpu" in err
    code, _, err = called(capsys, "--device", "cpu", "--size", "100x100")
    assert code == 2 and "multiple" in err
    code, _, err = called(capsys, "--device", "cpu", "--model", "missing")
    assert code == 1 and "no model called 'missing'" in err


@pytest.mark.parametrize("options", [("--device", "cuda", "--memory", "8"), ("--device", "cpu")])
def test_it_needs_no_torch_where_the_device_is_named(options: tuple[str, ...]) -> None:
    code = (
        "import sys\nfrom backend.__main__ import main\n"
        f"try: main(['plan', '--json', *{list(options)!r}])\n"
        "except SystemExit as ended: assert ended.code == 0, ended.code\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], capture_output=True)


def test_the_lines_come_before_the_model_and_know_the_time_once_it_ran(
    models_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[Progress] = []
    request = GenerationRequest("a cube", 64, 64, steps=1, model="random-weights")
    production = Production(models_folder, "cpu", cache_folder=tmp_path)
    result = made(run(production, request, on_progress=told.append))
    first = next(one for one in told if one.note)
    assert first.stage == "loading" and first.fraction == 0.0
    lines = first.note.splitlines()
    assert "GB free at the most" in lines[0] and lines[1] == "How long it takes is not known yet."
    assert "note" not in result.plan, "what is free on this machine is nothing that made the picture"
    assert result.plan["placement"]["transformer"] == "unpacked"
    told.clear()
    made(run(production, GenerationRequest("a ball", 64, 64, steps=2, model="random-weights"), on_progress=told.append))
    assert any("About 1 s." in one.note for one in told)
    options = ["--model", "random-weights", "--device", "cpu", "--size", "64x64", "--steps", "4"]
    _, out, _ = called(capsys, "--models", str(models_folder), *options, "--cache", str(tmp_path))
    assert out.splitlines()[1].startswith("About ") and StageTimes(tmp_path / "stages.json")
