"""The store of control maps: what is kept, what goes first, and what is said when maps are gone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from backend import Control, FailureError, GenerationRequest, create_production_pipeline, read_maps, read_request
from backend.outputs.map_store import ABANDONED_SECONDS, MapStore
from backend.production.provenance import map_digests
from backend.wire import ControlMaps
from tests.backend.samples import make_maps

ROOT = Path(__file__).resolve().parent.parent.parent
ARRAY = np.arange(1000, dtype=np.float32).reshape(20, 50)
SIZE = 4300
"""Bytes on disk of ARRAY, and a little more."""


def digest(number: int) -> str:
    return f"{number:064x}"


def used_at(store: MapStore, number: int, seconds: int) -> None:
    os.utime(store.folder / f"{digest(number)}.npz", (seconds, seconds))


def numbers(store: MapStore) -> list[int]:
    return sorted(int(path.stem, 16) for path in store.folder.glob("*.npz"))


def test_every_map_comes_back_as_it_was(tmp_path: Path) -> None:
    maps = make_maps(64, 48)
    assert maps.colour is not None and maps.line is not None
    maps = ControlMaps(**maps.arrays(), image=maps.colour, mask=maps.line, reference=maps.colour[:9, :5])
    digests = map_digests(maps, maps.arrays(), {})
    store = MapStore(tmp_path / "maps")
    store.put({digests[name]: array for name, array in maps.arrays().items()})
    found, gone = MapStore(tmp_path / "maps").get(digests)
    assert gone == [] and found.arrays().keys() == maps.arrays().keys()
    for name, array in maps.arrays().items():
        assert np.array_equal(found.arrays()[name], array) and found.arrays()[name].dtype == array.dtype


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    store = MapStore(tmp_path, bytes_max=3 * SIZE)
    for number in range(3):
        store.put({digest(number): ARRAY})
        used_at(store, number, 1000 + number)
    assert numbers(store) == [0, 1, 2]
    store.get({"depth": digest(0)})
    store.put({digest(1): ARRAY})
    store.put({digest(3): ARRAY})
    assert numbers(store) == [0, 1, 3], "reading and putting again are uses"


def test_what_was_just_put_stays_even_over_the_limit(tmp_path: Path) -> None:
    store = MapStore(tmp_path, bytes_max=SIZE)
    store.put({digest(9): ARRAY})
    used_at(store, 9, 1000)
    store.put({digest(number): ARRAY for number in range(3)})
    assert numbers(store) == [0, 1, 2]


def test_parts_that_a_killed_process_left_are_swept_and_others_are_not(tmp_path: Path) -> None:
    old, new, foreign = tmp_path / ".partial-1-a", tmp_path / ".partial-1-b", tmp_path / "notes.txt"
    for path in (old, new, foreign):
        path.write_bytes(b"x")
    os.utime(old, (1000, 1000))
    os.utime(foreign, (1000, 1000))
    assert ABANDONED_SECONDS > 60
    MapStore(tmp_path, bytes_max=0).put({digest(1): ARRAY})
    assert not old.exists() and new.exists() and foreign.exists()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "pickle"])
def test_a_damaged_map_counts_as_gone_and_can_be_put_again(tmp_path: Path, damage: str) -> None:
    store = MapStore(tmp_path)
    store.put({digest(1): ARRAY})
    path = tmp_path / f"{digest(1)}.npz"
    data = bytearray(path.read_bytes())
    match damage:
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case "flipped":
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        case "empty":
            path.write_bytes(b"")
        case _:
            np.savez(path, map=np.array([{"an": "object"}], dtype=object), allow_pickle=True)
    maps, gone = store.get({"depth": digest(1)})
    assert maps.depth is None and gone == ["depth"] and not path.exists()
    store.put({digest(1): ARRAY})
    assert store.get({"depth": digest(1)})[1] == []


@pytest.mark.parametrize("name", ["../../secret", "x" * 64, "a", digest(1).upper().replace("0", "A"), ""])
def test_what_is_no_digest_names_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(FailureError, match="not the digest of a map"):
        MapStore(tmp_path).get({"depth": name})


def test_two_processes_at_once_leave_whole_maps_within_the_limit(tmp_path: Path) -> None:
    code = f"""
import sys
import numpy as np
from pathlib import Path
from backend.outputs import MapStore
store = MapStore(Path({str(tmp_path)!r}), bytes_max={4 * SIZE})
for turn in range(150):
    number = (turn * int(sys.argv[1])) % 7
    store.put({{f"{{number:064x}}": np.full((20, 50), number, np.float32)}})
    other = (turn * 3) % 7
    maps, gone = store.get({{"depth": f"{{other:064x}}"}})
    assert gone or (maps.depth == other).all(), "a map of another digest, or a half"
"""
    children = [subprocess.Popen([sys.executable, "-c", code, step], cwd=ROOT) for step in ("1", "5")]
    assert [child.wait() for child in children] == [0, 0]
    files = [path for path in tmp_path.iterdir() if path.suffix == ".npz"]
    assert len(files) <= 5 and not list(tmp_path.glob(".partial-*")), (
        "the limit, and one put that the other did not see"
    )


def test_a_store_whose_processes_are_killed_holds_whole_maps_only(tmp_path: Path) -> None:
    code = f"""
import numpy as np
from pathlib import Path
from backend.outputs import MapStore
store, number = MapStore(Path({str(tmp_path)!r}), bytes_max=10**9), 0
while True:
    (store.folder / f"{{number % 40:064x}}.npz").unlink(missing_ok=True)
    store.put({{f"{{number % 40:064x}}": np.full((300, 300), number % 40, np.float32)}})
    if number == 0:
        print("ready", flush=True)
    number += 1
"""
    moments = np.random.default_rng(5).uniform(0.0, 0.2, 8)
    for moment in moments:
        with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None and child.stdout.readline()
            time.sleep(moment)
            child.kill()
        store = MapStore(tmp_path)
        for number in numbers(store):
            maps, gone = store.get({"depth": digest(number)})
            assert not gone and maps.depth is not None and (maps.depth == number).all()
        assert numbers(store), "at least the first was whole when the process said that it is ready"


def test_maps_that_are_gone_are_named(models_folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    pipeline = create_production_pipeline("random-weights", models_folder, "cpu", maps_folder=kept)
    request = GenerationRequest("a cube", 64, 64, steps=1, controls=(Control("depth"), Control("normal")))
    path = pipeline.generate(request, make_maps(64, 64)).save(tmp_path / "a.png")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.png", "kept"], "kept once, not beside as well"
    assert read_maps(path, kept).arrays().keys() == {"depth", "normal"}
    with pytest.raises(FailureError, match=r"are gone from .*grisaille-maps: depth, normal\. Name the folder"):
        read_maps(path)
    (kept / f"{read_request(path).digests['maps']['normal']}.npz").unlink()
    with pytest.raises(FailureError, match=r"kept: normal\."):
        read_maps(path, kept)
    assert read_maps(path, kept, without=["normal"]).arrays().keys() == {"depth"}


def test_a_store_that_cannot_be_written_costs_no_picture(models_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    pipeline = create_production_pipeline(
        "random-weights", models_folder, "cpu", maps_folder=tmp_path / "file" / "maps"
    )
    request = GenerationRequest("a cube", 64, 64, steps=1, controls=(Control("depth"),))
    assert pipeline.generate(request, make_maps(64, 64)).png
