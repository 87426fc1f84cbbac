"""Batches and variations: each picture as if it were alone; from a file, resumed after being killed."""

from __future__ import annotations

import hashlib
import io
import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend import Failure, FailureError, GenerationRequest, GenerationResult, create_production_pipeline
from backend.outputs.map_numbers import read_map_files
from backend.outputs.map_store import BESIDE
from backend.pipeline import ProductionPipeline
from backend.production.batch_file import JOURNAL, Journal, Line, read_lines
from backend.wire import Control, FailureKind, Progress
from tests.backend.samples import make_maps, pixels

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = "random-weights"
LINES = 200


@pytest.fixture(scope="module")
def pipeline(models_folder: Path) -> ProductionPipeline:
    return create_production_pipeline(MODEL, models_folder, "cpu")


def request(prompt: str = "a red cube", **settings: Any) -> GenerationRequest:
    own: dict[str, Any] = {"steps": 1, "model": MODEL, **settings}
    return GenerationRequest(prompt, 64, 64, **own)


def test_each_picture_equals_its_single(pipeline: ProductionPipeline, models_folder: Path) -> None:
    requests = [
        request(),
        request("a blue ball", seed=4, controls=(Control("depth"),)),
        request(steps=2, controls=(Control("line"), Control("depth", 0.3))),
    ]
    maps = make_maps(64, 64)
    results = pipeline.generate_batch(requests, maps)
    for one, result in zip(requests, results, strict=True):
        assert isinstance(result, GenerationResult)
        alone = create_production_pipeline(MODEL, models_folder, "cpu").generate(one, maps)
        assert result.png == alone.png and result.request == one


def test_each_prompt_and_each_map_is_read_once(models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than a model keeps otherwise, in an order that would push each out before it comes again."""
    from backend.flux import model as flux
    from backend.flux.text import TextEncoders

    read: list[str] = []
    encode, tokens = TextEncoders.encode, flux.control_tokens

    def encode_counted(self: TextEncoders, prompt: str) -> Any:
        read.append(prompt)
        return encode(self, prompt)

    def tokens_counted(*arguments: Any) -> Any:
        read.append("map")
        return tokens(*arguments)

    monkeypatch.setattr(TextEncoders, "encode", encode_counted)
    monkeypatch.setattr(flux, "control_tokens", tokens_counted)
    prompts = [f"cube {number}" for number in range(flux.CONTROLS_KEPT + 2)]
    maps = [make_maps(64, 64) for _ in prompts]
    maps = [replace(one, depth=one.depth * np.float32(1 + at)) for at, one in enumerate(maps) if one.depth is not None]
    assert len({one.depth.tobytes() for one in maps if one.depth is not None}) == len(prompts) > flux.PROMPTS_KEPT
    requests = [request(prompt, seed=seed, controls=(Control("line"),)) for seed in range(2) for prompt in prompts]
    lines = [replace(one, line=np.roll(one.line, at, 1)) for at, one in enumerate(maps) if one.line is not None]
    pipeline = create_production_pipeline(MODEL, models_folder, "cpu")
    results = pipeline.generate_batch(requests, lines * 2)
    assert all(isinstance(result, GenerationResult) for result in results)
    assert read[: len(prompts)] == prompts, "all prompts, before the first control"
    assert sorted(read) == sorted([*prompts, *["map"] * len(prompts)])


def test_a_failure_takes_the_place_of_its_picture(pipeline: ProductionPipeline) -> None:
    results = pipeline.generate_batch([request(), request(""), request(controls=(Control("depth"),)), request(seed=2)])
    assert [isinstance(result, Failure) for result in results] == [False, True, True, False]
    with pytest.raises(FailureError, match="2 Requests and 1 maps"):
        pipeline.generate_batch([request(), request()], [make_maps(64, 64)])


def test_a_cancelled_batch_keeps_what_it_has(pipeline: ProductionPipeline) -> None:
    told: list[Progress] = []
    results = pipeline.generate_batch(
        [request(seed=seed) for seed in range(4)],
        on_progress=told.append,
        is_cancelled=lambda: bool(told) and told[-1].note.startswith("Picture 3"),
    )
    kinds = [result.kind if isinstance(result, Failure) else "made" for result in results]
    assert kinds == ["made", "made", FailureKind.CANCELLED, FailureKind.CANCELLED]
    fractions = [progress.fraction for progress in told]
    assert fractions == sorted(fractions) and 0.5 <= fractions[-1] < 0.75


def test_variations(pipeline: ProductionPipeline) -> None:
    seeds = pipeline.variations(request(seed=2**32 - 1), 3)
    assert [one.request.seed for one in seeds if isinstance(one, GenerationResult)] == [2**32 - 1, 0, 1]
    prompts = pipeline.variations(request(), prompts=["a cat", "a dog"])
    assert [one.request.prompt for one in prompts if isinstance(one, GenerationResult)] == ["a cat", "a dog"]
    assert len({one.png for one in [*seeds, *prompts] if isinstance(one, GenerationResult)}) == 5
    with pytest.raises(FailureError, match="0 pictures were asked for"):
        pipeline.variations(request(), 0)


def test_a_grid_shows_each_picture_in_its_place(pipeline: ProductionPipeline) -> None:
    results, sheet = pipeline.grid(request(), ("steps", [1, 500]), ("seed", [1, 2, 3]))
    assert [isinstance(result, Failure) for result in results] == [False] * 3 + [True] * 3
    picture = np.asarray(Image.open(io.BytesIO(sheet)))
    for at, result in enumerate(results[:3]):
        assert isinstance(result, GenerationResult)
        tile = Image.fromarray(pixels(result.png)).resize((320, 320), Image.Resampling.LANCZOS)
        left = 20 + 190 + at * 332
        assert np.array_equal(picture[54:374, left : left + 320], np.asarray(tile))
    assert (picture[386:, 210:] == picture[0, 0]).all(), "what failed is dark"
    assert (picture[54:374, :200] != picture[0, 0]).any() and (picture[:50, 210:] != picture[0, 0]).any(), "labels"
    for wrong in (("seed", [1]), ("no_such", [1])):
        with pytest.raises(FailureError, match=r"Rows and columns|no field"):
            pipeline.grid(request(), wrong, ("seed", [1, 2]))


def write_maps(folder: Path) -> None:
    maps = make_maps(64, 64)
    assert maps.depth is not None and maps.line is not None and maps.colour is not None
    np.save(folder / "depth.npy", maps.depth)
    np.savez(folder / "both.npz", depth=maps.depth, line=maps.line)
    Image.fromarray((maps.line * 255).astype(np.uint8)).save(folder / "line.png")
    Image.fromarray(maps.colour).save(folder / "colour.png")


def test_maps_are_read_from_files(tmp_path: Path) -> None:
    write_maps(tmp_path)
    wanted = make_maps(64, 64)
    files = {"depth": "depth.npy", "line": "line.png", "colour": "colour.png"}
    maps = read_map_files({name: tmp_path / file for name, file in files.items()})
    for name in files:
        assert np.array_equal(maps.arrays()[name], wanted.arrays()[name])
    assert np.array_equal(read_map_files({"line": tmp_path / "both.npz"}).arrays()["line"], wanted.arrays()["line"])
    Image.fromarray(np.full((64, 64), 65535, np.uint16)).save(tmp_path / "deep.png")
    assert (read_map_files({"mask": tmp_path / "deep.png"}).arrays()["mask"] == 1.0).all()


@pytest.mark.parametrize(
    ("name", "file", "said"),
    [
        ("depth", "none.npy", "is not there"),
        ("depth", "line.png", "line.png is no OpenEXR file"),
        ("depth", "pickled.npy", "cannot be read"),
        ("depth", "cut.npz", "cannot be read"),
        ("line", "text.png", "cannot be read"),
        ("normal", "both.npz", "holds no array called 'normal'"),
        ("heat", "depth.npy", "no map called 'heat'"),
    ],
)
def test_maps_that_cannot_be_read_are_named(tmp_path: Path, name: str, file: str, said: str) -> None:
    write_maps(tmp_path)
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "both.npz").read_bytes()[:100])
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(FailureError, match=said) as caught:
        read_map_files({name: tmp_path / file})
    assert caught.value.failure.kind == FailureKind.BAD_REQUEST and caught.value.failure.hint


def test_broken_lines_are_reported_by_their_numbers(tmp_path: Path) -> None:
    lines = [
        '{"prompt": "a cat"}',
        "",
        '{"prompt": "a cat"',
        '{"prompt": "a cat", "colour": 1}',
        '{"prompt": "a cat", "out": "../a.png"}',
        '{"prompt": "a cat", "out": "a.exe"}',
        '{"prompt": "a cat", "maps": ["a"]}',
        '{"prompt": "a cat", "prompt": "a dog"}',
        '{"prompt": "a cat", "out": "A.png"}',
        '{"prompt": "a dog", "out": "a.png"}',
        '{"prompt": "", "task": "show_controls"}',
        "[1]",
    ]
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())
    read = read_lines(path, MODEL, lambda one, given: one if "steps" in given else replace(one, steps=3))
    sound = [line for line in read if isinstance(line, Line)]
    assert [(line.number, line.out) for line in sound] == [(1, ""), (9, "A.png")]
    assert sound[0].request == GenerationRequest("a cat", model=MODEL, steps=3)
    failures = {line[0]: line[1] for line in read if not isinstance(line, Line)}
    assert list(failures) == [3, 4, 5, 6, 7, 8, 10, 11, 12]
    assert "Line 9 writes a.png too" in failures[10].message and "colour" in failures[4].message
    assert all(failure.message and failure.hint for failure in failures.values())


def test_the_journal_trusts_only_what_is_there_and_whole(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.put("1" * 64, "a.png", b"picture")
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"job": "222')
    again = Journal(tmp_path)
    again.put("3" * 64, "b.png", b"other")
    third = Journal(tmp_path)
    assert third.made("1" * 64, "") == third.made("1" * 64, "a.png") == "a.png"
    assert third.made("1" * 64, "b.png") is None and third.made("3" * 64, "") == "b.png"
    third.check_free("a.png")
    (tmp_path / "a.png").write_bytes(b"pictur")
    assert third.made("1" * 64, "") is None
    with pytest.raises(FailureError, match=r"a\.png is there already"):
        third.check_free("a.png")
    third.check_free("new.png")


def command(models: Path, jobs: Path, out: Path) -> list[str]:
    options = ["--out", str(out), "--models", str(models), "--model", MODEL, "--device", "cpu"]
    return [sys.executable, "-m", "backend", "batch", str(jobs), *options]


def two_hundred_lines(folder: Path) -> set[int]:
    """Writes jobs.jsonl and its maps; the numbers of the lines that are broken."""
    write_maps(folder)
    faults = {
        7: '{"prompt": "a cat"',
        31: '{"prompt": ""}',
        64: json.dumps({"prompt": "a cat", "width": 65, "height": 64}),
        90: json.dumps({"prompt": "a cat", "width": 64, "height": 64, "sampler": "none"}),
        118: json.dumps({"prompt": "a", "width": 64, "height": 64, "steps": 1, "maps": {"depth": "none.npy"}}),
        150: json.dumps(
            {"prompt": "a", "width": 128, "height": 64, "steps": 1, "controls": [{"kind": "depth"}]}
            | {"maps": {"depth": "depth.npy"}}
        ),
        199: json.dumps({"prompt": "a cat", "model": "none", "width": 64, "height": 64}),
    }
    lines = []
    for number in range(1, LINES + 1):
        line: dict[str, Any] = {"prompt": f"cube {number % 5}", "width": 64, "height": 64, "steps": 1, "seed": number}
        if number % 10 == 0:
            line |= {"controls": [{"kind": "depth"}], "maps": {"depth": "depth.npy"}, "out": f"line {number}.png"}
        lines.append(faults.get(number, json.dumps(line)))
    (folder / "jobs.jsonl").write_text("\n".join(lines) + "\n")
    return set(faults)


def stamps(out: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.glob("*.png")}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows ends processes in its own way")
def test_two_hundred_lines_killed_and_resumed(models_folder: Path, tmp_path: Path) -> None:
    """Nothing is missing, nothing is half, and nothing is made twice but the one in flight."""
    faults = two_hundred_lines(tmp_path)
    jobs, out, rng, kills = tmp_path / "jobs.jsonl", tmp_path / "out", random.Random(2), 3
    before: dict[str, tuple[int, int]] = {}
    for _ in range(kills):
        batch = subprocess.Popen(command(models_folder, jobs, out), cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert batch.stdout is not None
        for _ in range(rng.randrange(15, 50)):
            assert batch.stdout.readline().startswith("line ")
        time.sleep(rng.random() * 0.1)
        batch.kill()
        batch.communicate()
        after = stamps(out)
        assert before.items() <= after.items(), "what was there was not made again"
        assert len(after) < LINES - len(faults)
        before = after
    done = subprocess.run(command(models_folder, jobs, out), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert before.items() <= stamps(out).items()
    assert {int(line.split()[1]) for line in done.stderr.splitlines() if line.startswith("line ")} == faults
    assert f"; {len(faults)} lines failed." in done.stdout
    entries = [json.loads(line) for line in (out / JOURNAL).read_text().splitlines() if line]
    assert len(entries) <= LINES - len(faults) + kills, "made twice at most: what was in flight"
    assert len({entry["job"] for entry in entries}) == len(stamps(out)) == LINES - len(faults)
    digests = {entry["out"]: entry["sha256"] for entry in entries}
    assert all(hashlib.sha256((out / name).read_bytes()).hexdigest() == digests[name] for name in stamps(out))
    assert all(pixels((out / name).read_bytes()).shape == (64, 64, 3) for name in stamps(out))
    assert {path.name for path in out.iterdir()} == {*stamps(out), JOURNAL, BESIDE}
    pipeline = create_production_pipeline(MODEL, models_folder, "cpu")
    for number in (1, 10, 137):
        controls = (Control("depth"),) if number % 10 == 0 else ()
        one = request(f"cube {number % 5}", seed=number, controls=controls)
        [name] = [n for n in stamps(out) if n in (f"line {number}.png",) or n.startswith(f"{number:04}-")]
        assert pipeline.generate(one, make_maps(64, 64)).png == (out / name).read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to a whole console")
def test_ctrl_c_stops_within_a_step_with_a_sentence(models_folder: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": "a cat", "width": 64, "height": 64, "steps": steps}) for steps in (1, 200, 199)]
    (tmp_path / "jobs.jsonl").write_text("\n".join(lines))
    batch = subprocess.Popen(
        command(models_folder, tmp_path / "jobs.jsonl", tmp_path / "out"),
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert batch.stdout is not None and batch.stdout.readline().startswith("line 1: ")
    batch.send_signal(signal.SIGINT)
    _, said = batch.communicate()
    assert batch.returncode == 130
    assert "Stopped: 1 of 3 pictures are there, 1 of them new. Run the same command again to go on." in said
    assert len(stamps(tmp_path / "out")) == 1


def test_a_file_of_someone_else_is_not_written_over(models_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "jobs.jsonl").write_text(json.dumps({"prompt": "a", "width": 64, "height": 64, "out": "mine.png"}))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.png").write_bytes(b"precious")
    run = command(models_folder, tmp_path / "jobs.jsonl", tmp_path / "out")
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "line 1 failed: The file mine.png is there already" in done.stderr
    assert (tmp_path / "out" / "mine.png").read_bytes() == b"precious"


def test_called_wrongly(models_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "jobs.jsonl").write_text("")
    for jobs, out, model in (
        (tmp_path / "none.jsonl", tmp_path / "out", MODEL),
        (tmp_path / "jobs.jsonl", tmp_path / "file", MODEL),
        (tmp_path / "jobs.jsonl", tmp_path / "out", "none"),
    ):
        arguments = [*command(models_folder, jobs, out), "--model", model]
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr.count("\n") == 1, done.stderr
    nothing = command(models_folder, tmp_path / "jobs.jsonl", tmp_path / "out")
    done = subprocess.run(nothing, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "0 of 0 pictures are there" in done.stdout
