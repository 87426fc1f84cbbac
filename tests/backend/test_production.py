"""Production.run from end to end, on the random model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backend.production import Production
from backend.production.provenance import version
from backend.wire import Control, ControlMaps, FailureKind, GenerationRequest, Progress
from tests.backend.samples import failed, kept_model, made, make_maps, pixels, run, texts_of

REQUEST = GenerationRequest(
    "a red cube, été",
    128,
    96,
    seed=5,
    steps=3,
    model="random-weights",
    controls=(Control("depth"), Control("line", 0.5, 0.0, 0.5)),
)


def test_makes_a_picture(production: Production) -> None:
    result = made(run(production, REQUEST))
    picture = pixels(result.png)
    assert picture.shape == (96, 128, 3) and picture.dtype == np.uint8
    assert picture.std() > 10
    assert result.request == REQUEST
    assert set(result.timings) == {"loading", "text", "control", "denoising", "decoding", "saving"}
    assert all(seconds >= 0 for seconds in result.timings.values())
    assert result.peak_memory > 10_000_000
    assert result.plan["device"] == "cpu" and result.plan["dtype"] == "float32"
    assert result.plan["linears"]["Q8_0"] > 0


def test_the_same_request_makes_the_same_bytes(production: Production, models_folder: Path) -> None:
    first = made(run(production, REQUEST)).png
    made(run(production, replace(REQUEST, prompt="something else", seed=9)))
    assert made(run(production, REQUEST)).png == first
    assert made(run(Production(models_folder, "cpu"), REQUEST)).png == first


def test_everything_in_the_request_matters(production: Production) -> None:
    requests = [
        REQUEST,
        replace(REQUEST, seed=6),
        replace(REQUEST, prompt="a blue ball"),
        replace(REQUEST, steps=4),
        replace(REQUEST, guidance=7.0),
        replace(REQUEST, controls=()),
        replace(REQUEST, controls=(Control("depth"),)),
        replace(REQUEST, controls=(Control("depth", 0.2),)),
        replace(REQUEST, controls=(Control("depth", 0.7, 0.5, 1.0),)),
        replace(REQUEST, controls=(Control("normal"),)),
    ]
    pictures = {pixels(made(run(production, request)).png).tobytes() for request in requests}
    assert len(pictures) == len(requests)


def test_a_control_without_strength_changes_nothing(production: Production) -> None:
    alone = made(run(production, replace(REQUEST, controls=())))
    silent = made(run(production, replace(REQUEST, controls=(Control("depth", 0.0),))))
    assert np.array_equal(pixels(alone.png), pixels(silent.png))


def test_the_picture_remembers_how_it_was_made(production: Production) -> None:
    result = made(run(production, REQUEST))
    texts = texts_of(result.png)
    assert texts["Software"] == f"Grisaille {version()}"
    assert texts["Description"] == REQUEST.prompt
    assert GenerationRequest.from_json(json.loads(texts["grisaille:request"])) == REQUEST
    assert json.loads(texts["grisaille:plan"]) == result.plan
    digests = json.loads(texts["grisaille:digests"])
    assert digests["request"] == REQUEST.digest()
    assert set(digests["maps"]) == {"depth", "line"}
    assert "transformer.gguf" in digests["weights"]
    assert all(len(digest) == 64 for digest in (*digests["maps"].values(), *digests["weights"].values()))
    assert str(Path.home()) not in str(texts)


def test_other_maps_have_other_digests(production: Production) -> None:
    def map_digests(maps: ControlMaps) -> dict[str, str]:
        return json.loads(texts_of(made(run(production, REQUEST, maps)).png)["grisaille:digests"])["maps"]

    maps = make_maps(128, 96)
    assert maps.depth is not None
    other = map_digests(replace(maps, depth=maps.depth * np.float32(2)))
    assert other["depth"] != map_digests(maps)["depth"] and other["line"] == map_digests(maps)["line"]


def test_progress_grows_and_never_reaches_one(production: Production) -> None:
    told: list[Progress] = []
    made(run(production, REQUEST, on_progress=told.append))
    fractions = [progress.fraction for progress in told]
    assert fractions == sorted(fractions)
    assert fractions[0] >= 0 and fractions[-1] < 1
    stages = list(dict.fromkeys(progress.stage for progress in told))
    assert stages == ["loading", "text", "control", "denoising", "decoding", "saving"]
    steps = [(progress.step, progress.steps) for progress in told if progress.stage == "denoising"]
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(("size", "wanted"), [((128, 96), (12, 16)), ((1040, 64), (7, 128))])
def test_previews_are_small_and_one_a_step(
    production: Production, size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    shown: list[np.ndarray] = []
    made(run(production, replace(REQUEST, width=size[0], height=size[1]), on_preview=shown.append))
    assert [preview.shape for preview in shown] == [(*wanted, 3)] * 3
    assert all(preview.dtype == np.uint8 and preview.std() > 0 for preview in shown)


@pytest.mark.parametrize("stage", ["loading", "text", "control", "decoding", "saving"])
def test_cancel_before_each_stage(models_folder: Path, production: Production, stage: str) -> None:
    told: list[str] = []
    engine = Production(models_folder, "cpu") if stage == "loading" else production
    result = run(
        engine,
        REQUEST,
        on_progress=lambda progress: told.append(progress.stage),
        is_cancelled=lambda: told[-1:] == [stage] if stage == "loading" else _next_is(told, stage),
    )
    assert failed(result).kind == FailureKind.CANCELLED
    assert stage == "loading" or stage not in told
    assert made(run(production, REQUEST)).png


def _next_is(told: list[str], stage: str) -> bool:
    order = ["loading", "text", "control", "denoising", "decoding", "saving"]
    return told[-1:] == [order[order.index(stage) - 1]]


def test_cancel_between_steps(production: Production) -> None:
    told: list[Progress] = []
    result = run(
        production,
        replace(REQUEST, steps=50),
        on_progress=told.append,
        is_cancelled=lambda: bool(told) and (told[-1].stage, told[-1].step) == ("denoising", 2),
    )
    assert failed(result).kind == FailureKind.CANCELLED
    assert (told[-1].stage, told[-1].step) == ("denoising", 2)


def test_show_controls_loads_no_weights(own_models_folder: Path) -> None:
    """It works even where the weights are not there, in a process that then has no torch."""
    for path in own_models_folder.rglob("*"):
        if path.suffix in (".safetensors", ".gguf"):
            path.unlink()
    code = f"""
import sys
from pathlib import Path
from backend.production import Production
from backend.wire import Control, GenerationRequest
from tests.backend.samples import made, run
from backend.models import find_model
from backend.flux.control_pictures import control_picture
from tests.backend.samples import make_maps
import io
import numpy as np
from PIL import Image
kinds = ("depth", "normal", "line", "pose")
request = GenerationRequest("", 128, 96, task="show_controls", model="random-weights",
                            controls=tuple(Control(kind) for kind in kinds))
folder = Path({str(own_models_folder)!r})
result = made(run(Production(folder), request))
assert result.png == b"" and set(result.control_pngs) == set(kinds)
for kind in kinds:
    recipe = find_model(folder, "random-weights").control(kind)[1].picture
    wanted = control_picture(make_maps(128, 96), kind, recipe, (128, 96))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(result.control_pngs[kind]))), wanted)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, backend.production; print([m for m in ('torch', 'numpy', 'PIL', 'diffusers') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "[]"


def test_no_network(models_folder: Path) -> None:
    """With sockets forbidden, a fresh process loads and paints."""
    code = f"""
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("the network was used")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
from pathlib import Path
from backend.production import Production
from backend.wire import GenerationRequest
from tests.backend.samples import made, run
made(run(Production(Path({str(models_folder)!r}), "cpu"),
         GenerationRequest("x", 64, 64, steps=1, model="random-weights")))
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, env=environment)


def test_keeps_the_model_until_a_file_changes(own_models_folder: Path) -> None:
    engine = Production(own_models_folder, "cpu")
    before = made(run(engine, REQUEST))
    kept = kept_model(engine)
    made(run(engine, replace(REQUEST, seed=8)))
    assert kept_model(engine) is kept

    from tools.random_model import write_random_model

    write_random_model(own_models_folder, seed=1)
    after = made(run(engine, REQUEST))
    assert kept_model(engine) is not kept
    assert not np.array_equal(pixels(after.png), pixels(before.png))


def test_names_of_models(
    models_folder: Path, own_models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = tmp_path / "shipped"
    monkeypatch.setattr("backend.wire.model_names.shipped_models", lambda: shipped)
    assert Production(models_folder).model_names() == ["random-weights"]
    shutil.copytree(models_folder / "random-weights", shipped / "sample")
    assert Production(models_folder).model_names() == ["random-weights", "sample"]
    shutil.copytree(own_models_folder / "random-weights", own_models_folder / "another")
    (own_models_folder / "not a model").mkdir()
    (own_models_folder / "file").write_text("")
    assert Production(own_models_folder).model_names() == ["another", "random-weights", "sample"]
    assert Production(tmp_path / "nowhere").model_names() == ["sample"]
