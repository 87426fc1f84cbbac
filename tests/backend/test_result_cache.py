"""Finished pictures on disk: found again to the byte, never half, never another's."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.lifeline import sweep
from backend.production import Production
from backend.production.result_cache import ENDING, NOTE, ResultCache, cache_key
from backend.production.weight_digests import WeightDigests
from backend.wire import Control, ControlMaps, FailureKind, GenerationRequest, GenerationResult, Progress
from backend.wire.disk import PARTIAL
from backend.wire.framing import array_digest
from tests.backend.samples import failed, made, make_maps, run, texts_of

ROOT = Path(__file__).resolve().parent.parent.parent
REQUEST = GenerationRequest(
    "a red cube, été", 64, 64, seed=5, steps=2, model="random-weights", controls=(Control("depth"),)
)
KEY = "0123456789abcdef" * 4
RESULT = GenerationResult(REQUEST, b"\x89PNG" + bytes(range(256)) * 40, {}, {"a": [1, {"b": None}]}, {"text": 0.5}, 7)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"**/*{ENDING}"))


def is_from_cache(result: GenerationResult) -> bool:
    return result.plan.get("from_cache", False)


@pytest.fixture(scope="module")
def kept(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GenerationResult]:
    """A cache folder with one picture in it, and that picture. Not to be written to."""
    folder = tmp_path_factory.mktemp("cache")
    return folder, made(run(Production(models_folder, "cpu", cache_folder=folder), REQUEST))


def test_what_is_put_is_got(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "cache")
    assert cache.get(KEY) is None
    cache.put(KEY, RESULT)
    assert cache.get(KEY) == RESULT
    assert cache.get(KEY[::-1]) is None
    assert ResultCache(tmp_path / "cache").get(KEY) == RESULT
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f"{KEY}{ENDING}"]


def test_a_second_run_brings_the_same_bytes_and_says_so(models_folder: Path, tmp_path: Path) -> None:
    production = Production(models_folder, "cpu", cache_folder=tmp_path)
    first = made(run(production, REQUEST))
    told: list[Progress] = []
    second = made(run(production, REQUEST, on_progress=told.append))
    assert not is_from_cache(first) and is_from_cache(second)
    assert second.png == first.png and second.request == first.request
    assert second.plan["note"] == NOTE and set(second.timings) == {"cache"}
    assert [(progress.stage, progress.note) for progress in told] == [("saving", NOTE)]
    assert json.loads(texts_of(second.png)["grisaille:plan"]) == first.plan


def test_another_process_finds_it_without_torch(models_folder: Path, kept: tuple[Path, GenerationResult]) -> None:
    code = f"""
import hashlib, sys
from pathlib import Path
from backend.production import Production
from tests.backend.samples import made, run
from tests.backend.test_result_cache import REQUEST
result = made(run(Production(Path({str(models_folder)!r}), "cpu", cache_folder=Path({str(kept[0])!r})), REQUEST))
assert "torch" not in sys.modules
print(hashlib.sha256(result.png).hexdigest())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == hashlib.sha256(kept[1].png).hexdigest()


def test_everything_that_decides_the_pixels_is_in_the_key() -> None:
    plan, maps, weights = {"device": "cpu"}, {"depth": "1" * 64}, {"transformer.gguf": "2" * 64}
    keys = [
        cache_key(REQUEST, plan, maps, weights),
        cache_key(replace(REQUEST, seed=6), plan, maps, weights),
        cache_key(REQUEST, {"device": "cuda"}, maps, weights),
        cache_key(REQUEST, plan, {"depth": "3" * 64}, weights),
        cache_key(REQUEST, plan, {"normal": "1" * 64}, weights),
        cache_key(REQUEST, plan, maps, {"transformer.gguf": "3" * 64}),
        cache_key(REQUEST, plan, maps, {**weights, "vae/config.json": "3" * 64}),
    ]
    assert len(set(keys)) == len(keys)
    assert cache_key(REQUEST, plan, maps, weights) == keys[0]


def test_other_maps_are_painted_anew(models_folder: Path, tmp_path: Path) -> None:
    production = Production(models_folder, "cpu", cache_folder=tmp_path)
    maps = make_maps(64, 64)
    first = made(run(production, REQUEST, maps))
    assert maps.depth is not None
    other = replace(maps, depth=maps.depth[::-1].copy())
    second = made(run(production, REQUEST, other))
    assert not is_from_cache(second) and second.png != first.png
    # What the Request does not use does not matter.
    assert is_from_cache(made(run(production, REQUEST, ControlMaps(depth=maps.depth))))


def test_other_weights_are_painted_anew(own_models_folder: Path, tmp_path: Path) -> None:
    first = made(run(Production(own_models_folder, "cpu", cache_folder=tmp_path), REQUEST))
    path = own_models_folder / "random-weights" / "model.json"
    path.write_text(path.read_text() + "\n")
    second = made(run(Production(own_models_folder, "cpu", cache_folder=tmp_path), REQUEST))
    assert not is_from_cache(second) and len(entries(tmp_path)) == 2
    assert json.loads(texts_of(first.png)["grisaille:digests"]) != json.loads(texts_of(second.png)["grisaille:digests"])


def test_digests_that_came_with_the_maps_are_believed_and_are_the_same(
    models_folder: Path, kept: tuple[Path, GenerationResult]
) -> None:
    maps = make_maps(64, 64)
    digests = {name: array_digest(array) for name, array in maps.arrays().items()}
    callbacks: dict[str, Any] = {
        "on_progress": lambda told: None,
        "on_preview": lambda image: None,
        "is_cancelled": lambda: False,
    }
    production = Production(models_folder, "cpu", cache_folder=kept[0])
    assert is_from_cache(made(production.run(REQUEST, maps, digests=digests, **callbacks)))
    assert kept[1].png == made(production.run(REQUEST, maps, digests=digests, **callbacks)).png


def test_the_same_again_notices_what_has_changed_meanwhile(own_models_folder: Path, tmp_path: Path) -> None:
    maps = make_maps(64, 64)
    digests = {name: array_digest(array) for name, array in maps.arrays().items()}
    production = Production(own_models_folder, "cpu", cache_folder=tmp_path)

    def again() -> GenerationResult:
        return made(run(production, REQUEST, maps, digests=digests))

    first = again()
    assert [is_from_cache(again()) for _ in range(3)] == [True] * 3
    model = own_models_folder / "random-weights"
    (model / "vae" / "config.json").write_text((model / "vae" / "config.json").read_text() + "\n")
    assert not is_from_cache(again()), "a file of the model is another one"
    assert [is_from_cache(again()) for _ in range(3)] == [True] * 3
    (model / "vae" / "notes.txt").write_text("one file more")
    assert not is_from_cache(again()), "the model has one file more"
    assert is_from_cache(again())
    for path in entries(tmp_path):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    last = again()
    assert not is_from_cache(last) and last.png[-40:] == first.png[-40:], "a damaged picture is painted anew"


def test_bad_maps_are_refused_with_a_cache_too(models_folder: Path, kept: tuple[Path, GenerationResult]) -> None:
    production = Production(models_folder, "cpu", cache_folder=kept[0])
    for depth in (np.zeros((0, 64), np.float32), np.full((64, 64), np.nan, np.float32), np.ones((64, 64), np.int32)):
        failure = failed(run(production, REQUEST, ControlMaps(depth=depth)))  # type: ignore[arg-type]
        assert failure.kind == FailureKind.BAD_REQUEST and "depth map" in failure.message


def test_shown_controls_are_not_kept(models_folder: Path, tmp_path: Path) -> None:
    production = Production(models_folder, "cpu", cache_folder=tmp_path)
    result = made(run(production, replace(REQUEST, task="show_controls")))
    assert result.control_pngs and not entries(tmp_path)


def test_without_a_folder_nothing_is_kept(models_folder: Path, tmp_path: Path, production: Production) -> None:
    assert made(run(production, REQUEST)).png == made(run(production, REQUEST)).png
    assert not is_from_cache(made(run(production, REQUEST)))


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "other key", "longer"])
def test_a_damaged_entry_is_said_removed_and_made_anew(
    models_folder: Path,
    kept: tuple[Path, GenerationResult],
    tmp_path: Path,
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = Path(shutil.copytree(kept[0], tmp_path / "cache"))
    [path] = entries(folder)
    data = path.read_bytes()
    if damage == "other key":
        path.unlink()
        ResultCache(path.parent).put(KEY, replace(RESULT, png=b"another picture"))
        (path.parent / f"{KEY}{ENDING}").rename(path)
    else:
        flipped = data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]
        path.write_bytes({"cut": data[:-1], "empty": b"", "flipped": flipped, "longer": data + b"\0"}[damage])
    result = made(run(Production(models_folder, "cpu", cache_folder=folder), REQUEST))
    assert not is_from_cache(result) and result.png == kept[1].png
    assert "is damaged and is removed; the picture is made anew" in caplog.text
    assert ResultCache(path.parent).get(path.stem) is not None, "it was put there again, whole"


def test_the_cap_holds_and_what_was_used_last_stays(tmp_path: Path) -> None:
    one = replace(RESULT, png=bytes(10_000))
    cache = ResultCache(tmp_path, 45_000)
    keys = [f"{number:064x}" for number in range(6)]
    for age, key in enumerate(keys[:4]):
        cache.put(key, one)
        os.utime(tmp_path / f"{key}{ENDING}", (1_000_000 + age, 1_000_000 + age))
    assert cache.get(keys[0]) == one, "used, so the newest now"
    cache.put(keys[4], one)
    cache.put(keys[5], one)
    assert [cache.get(key) is not None for key in keys] == [True, False, False, True, True, True]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 45_000
    cache.put(KEY, replace(RESULT, png=bytes(50_000)))
    assert cache.get(KEY) is None and len(entries(tmp_path)) == 4, "what is larger than all may be is not kept"


def test_what_dead_writers_left_is_swept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    leftover, living = tmp_path / f"{PARTIAL}{dead.pid}-ab", tmp_path / f"{PARTIAL}{os.getpid()}-cd"
    for path in (leftover, living):
        path.write_bytes(b"half")
    ResultCache(tmp_path)
    assert not leftover.exists() and living.exists()
    sweep(tmp_path / "not there", PARTIAL)


def test_a_folder_that_cannot_be_written_costs_no_picture(
    models_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    result = made(run(Production(models_folder, "cpu", cache_folder=tmp_path / "file"), REQUEST))
    assert result.png and "cannot be written" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork to make writers with")
def test_two_processes_killed_two_hundred_times(tmp_path: Path) -> None:
    """Never a wrong or half picture: neither what the two see while they are killed, nor what is left."""
    from tests.backend.killed_cache import picture

    folder = tmp_path / "cache"
    command = [sys.executable, "-m", "tests.backend.killed_cache", str(folder)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    cache = ResultCache(folder)
    found = [(path, cache.get(path.stem)) for path in entries(folder)]
    assert len(found) > 5
    assert all(result is not None and result.png == picture(path.stem) for path, result in found)
    assert len(list(folder.iterdir())) == len(found), "nothing half is left"


def test_digests_of_weights_outlive_the_process(tmp_path: Path) -> None:
    file, place = tmp_path / "weights", tmp_path / "kept" / "weights.json"
    file.write_bytes(b"first")
    reads: list[int] = []
    first = WeightDigests(place).of([file], tmp_path, lambda: reads.append(1))
    again = WeightDigests(place)
    assert again.known([file], tmp_path) == first == again.of([file], tmp_path, lambda: reads.append(2))
    assert reads == [1]
    status = file.stat()
    file.write_bytes(b"other")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert WeightDigests(place).known([file], tmp_path) is None
    assert WeightDigests(place).of([file], tmp_path, lambda: None) != first


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": 1}', '{"format": 1, "table": {"WEIGHTS": [1, 2]}}', "\x00" * 100, "[" * 10_000],
)
def test_a_damaged_table_is_begun_anew(tmp_path: Path, text: str) -> None:
    file, place = tmp_path / "weights", tmp_path / "weights.json"
    file.write_bytes(b"first")
    wanted = WeightDigests().of([file], tmp_path, lambda: None)
    place.write_text(text.replace("WEIGHTS", str(file)))
    assert WeightDigests(place).known([file], tmp_path) is None
    assert WeightDigests(place).of([file], tmp_path, lambda: None) == wanted
    assert WeightDigests(place).known([file], tmp_path) == wanted


def test_two_processes_add_to_one_table(tmp_path: Path) -> None:
    place = tmp_path / "weights.json"
    files = [tmp_path / name for name in "ab"]
    for file in files:
        file.write_text(file.name)
    first, second = WeightDigests(place), WeightDigests(place)
    assert first.known(files, tmp_path) is None and second.known(files, tmp_path) is None
    first.of(files[:1], tmp_path, lambda: None)
    second.of(files[1:], tmp_path, lambda: None)
    assert WeightDigests(place).known(files, tmp_path) is not None
