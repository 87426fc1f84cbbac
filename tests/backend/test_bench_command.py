"""python -m backend bench, whole and at a tiny size."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.__main__ import main
from backend.bench import ours, runner
from backend.bench.parts import PARTS
from backend.bench.random_weights import SCALES, random_packed
from backend.bench.sizes import SIZES
from backend.bench.table import LINES, NOT_MEASURED, markdown, section, write_section
from backend.flux.dequantise import dequantise

pytestmark = [
    # diffusers' own, of the classes that it uses itself.
    pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated"),
    pytest.mark.filterwarnings("ignore:Guards may run slower"),
]
CAPPED = ("capped_8", "capped_12", "capped_16", "capped_24")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


def bench(scratch: Path, *words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["bench", "--size", "tiny", "--device", "cpu", "--scratch", str(scratch), *words])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def parts_of(scratch: Path) -> dict[str, dict[str, Any]]:
    return json.loads((scratch / "bench-tiny.json").read_text())["parts"]


def test_the_whole_benchmark_at_a_tiny_size(scratch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("# Benchmarks\n\nOurs.\n\n## On a graphics card\n\nold\n\n## Later\n\nstays\n")
    assert bench(scratch, "--write", str(page)) == 0
    parts = parts_of(scratch)
    assert [name for name, told in parts.items() if "values" not in told] == list(CAPPED)
    assert all("CUDA" in str(parts[name]["left_out"]) for name in CAPPED)
    table = capsys.readouterr().out
    assert table.count(NOT_MEASURED) == len(CAPPED)
    assert 0.0 < parts["eight_bit"]["values"]["error"] < 0.1
    text = page.read_text()
    assert text.startswith("# Benchmarks\n\nOurs.\n") and text.endswith("\n## Later\n\nstays\n")
    assert "old" not in text and table.strip() in text
    assert "- exact: unpacked, not to be compiled\n" in text, "by the plan for so small a model"
    assert "- packed: packed, not to be compiled (not by its plan)\n" in text
    assert f"torch {torch.__version__.split('+')[0]}" in text


def test_it_goes_on_where_it_was(scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(scratch, "--parts", "floors,write_q8_0") == 0
    state = scratch / "bench-tiny.json"
    kept = json.loads(state.read_text())
    kept["parts"]["floors"]["values"]["loop_main"] = 42.0
    kept["parts"].pop("write_q8_0")
    state.write_text(json.dumps(kept))
    capsys.readouterr()
    assert bench(scratch, "--parts", "floors,write_q8_0") == 0
    said = capsys.readouterr()
    assert "floors: done before" in said.err and "42 s" in said.out
    assert "write_q8_0 …" in said.err
    kept["machine"]["torch"] = "1.0"
    state.write_text(json.dumps(kept))
    assert bench(scratch, "--parts", "floors") == 0
    said = capsys.readouterr()
    assert "beginning anew" in said.err and "42 s" not in said.out


def test_the_most_telling_runs_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(tmp_path, "--parts", "write_parts,floors") == 0
    said = capsys.readouterr().err
    assert said.index("floors …") < said.index("write_parts …")
    main_ones = ["exact", "stock", "resident", "compiled", "eight_bit", "q4_k", "q6_k", "load", "capped_8", "small"]
    assert [name for name in PARTS if name in main_ones] == main_ones
    assert list(PARTS)[-2:] == ["cached", "fast"]


def without(scratch: Path, part: str) -> None:
    """As if the part had not run."""
    path = scratch / "bench-tiny.json"
    if not path.is_file():
        return
    state = json.loads(path.read_text())
    state["parts"].pop(part, None)
    path.write_text(json.dumps(state))


def test_what_is_near_is_compared_with_the_exact_loop_that_ran(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is not run again; where it was never run, it is."""
    without(scratch, "cached")
    assert bench(scratch, "--parts", "exact") == 0
    speeds: list[str] = []
    real = ours.run_loop
    monkeypatch.setattr(ours, "run_loop", lambda *given: speeds.append(given[2].speed) or real(*given))
    assert bench(scratch, "--parts", "cached") == 0
    first = parts_of(scratch)["cached"]["values"]
    without(scratch, "exact")
    without(scratch, "cached")
    assert bench(scratch, "--parts", "cached") == 0
    assert speeds == ["cached", "exact", "cached"]
    assert parts_of(scratch)["cached"]["values"]["error"] == first["error"]


def test_where_the_time_of_a_step_goes(scratch: Path, tmp_path: Path) -> None:
    without(scratch, "exact")
    page = tmp_path / "page.md"
    assert bench(scratch, "--parts", "exact", "--profile", "--write", str(page)) == 0
    (profile,) = scratch.glob("profile-*.txt")
    told = profile.read_text()
    assert "Self CPU" in told and "scaled_dot_product" in told
    assert profile.name in page.read_text()


CHILD = """#!{python}
import json, pathlib, sys, time
answer = pathlib.Path(sys.argv[sys.argv.index("--answer") + 1])
answer.write_text(json.dumps({{"values": {{"loop_main": 7.0}}, "notes": ["as it is"]}}))
{ends}
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for Python is a script with a first line of Unix")
@pytest.mark.parametrize(
    ("ends", "why"),
    [("time.sleep(60)", "It did not fit in 3 seconds."), ("sys.exit(9)", "Its process ended with status 9.")],
)
def test_a_part_that_is_ended_keeps_what_it_had(
    ends: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    child = tmp_path / "child"
    child.write_text(CHILD.format(python=sys.executable, ends=ends))
    child.chmod(0o700)
    page = tmp_path / "page.md"
    with monkeypatch.context() as patch:
        patch.setattr(runner.sys, "executable", str(child))
        assert bench(tmp_path, "--parts", "floors", "--isolated", "--limit", "3", "--write", str(page)) == 0
    said = f"{why} These are the numbers that it had by then."
    assert said in capsys.readouterr().err
    assert parts_of(tmp_path)["floors"]["values"] == {"loop_main": 7.0}
    assert f"- floors: as it is; {said}" in page.read_text()
    assert bench(tmp_path, "--parts", "floors", "--limit", "3") == 0
    assert "done before" in capsys.readouterr().err
    assert bench(tmp_path, "--parts", "floors", "--limit", "100") == 0, "there is more time now"
    assert "cut_short" not in parts_of(tmp_path)["floors"]


def test_a_part_that_fails_costs_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(tmp_path, "--parts", "write_q8_0") == 0
    (tmp_path / "models" / "tiny-Q8_0" / "transformer.gguf").write_bytes(b"GGUF")
    assert bench(tmp_path, "--parts", "exact,floors") == 1
    parts = parts_of(tmp_path)
    assert "too short" in str(parts["exact"]["failed"]) and "values" in parts["floors"]
    shutil.rmtree(tmp_path / "models")
    assert bench(tmp_path, "--parts", "exact") == 0, "it is tried again"


def test_a_part_in_a_process_of_its_own(scratch: Path) -> None:
    assert bench(scratch, "--parts", "write_q4_k", "--isolated") == 0


def test_a_part_that_takes_too_long_says_so(tmp_path: Path) -> None:
    assert bench(tmp_path, "--parts", "floors", "--isolated", "--limit", "0.01") == 1
    assert parts_of(tmp_path)["floors"]["failed"] == "It did not fit in 0.01 seconds."


def test_a_part_that_there_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(tmp_path, "--parts", "floors,nothing") == 2
    assert "no part called 'nothing'" in capsys.readouterr().err


@pytest.mark.parametrize("name", SCALES)
def test_random_weights_are_sane(name: str) -> None:
    packed = random_packed(name, 64, 1024, 0.02, np.random.default_rng(1))
    values = dequantise(torch.from_numpy(packed), name)
    assert torch.isfinite(values).all()
    assert abs(float(values.mean())) < 0.0025  # four bits around 8 are half a step below 0
    assert 0.018 < float(values.std()) < 0.022


def test_the_real_size_is_flux_dev(tmp_path: Path) -> None:
    from backend.bench.scratch_models import transformer_shapes

    shapes = transformer_shapes(SIZES["real"])
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 11_901_408_320
    assert "double_blocks.18.img_attn.qkv.weight" in shapes and "single_blocks.37.linear1.weight" in shapes


def test_what_was_not_measured_says_so(tmp_path: Path) -> None:
    assert markdown({}).count(NOT_MEASURED) == len(LINES) + sum(callable(line.floor) for line in LINES)
    page = tmp_path / "new.md"
    write_section(page, section({}))
    assert "No graphics card has run it yet." in page.read_text()
