"""Which model paints a Request that names none: a table of machines and models."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from backend.models import ControlKind, ControlNetEntry, ModelFolder, find_model
from backend.models.choose import ModelSizes, choose_model, needed_bytes
from backend.models.sizes import model_sizes
from backend.production import Production
from backend.wire import Control, FailureError, GenerationRequest
from tests.backend.samples import failed, made, run

GB = 1_000_000_000
NOWHERE = Path("nowhere")
NETS = {"union": ("depth", "canny"), "normals": ("normal",), "lines": ("line",)}
REQUEST = GenerationRequest("a cube", 64, 64, steps=1)
Models = list[tuple[ModelFolder, ModelSizes]]


def model(
    name: str, variant: str, transformer: float, packed: bool = False, nets: str = "", redux: bool = False
) -> tuple[ModelFolder, ModelSizes]:
    """A model of so many GB, with 5 GB of text encoders and nets of 4 GB each."""
    folder = NOWHERE / name
    entries = tuple(
        ControlNetEntry(folder / net, {kind: ControlKind(None, "depth_near_white") for kind in NETS[net]})
        for net in nets.split()
    )
    described = ModelFolder(
        folder, name, name, folder / "t", folder / "c.json", {}, entries, 512, {}, variant,
        redux=(folder, folder) if redux else None,
    )  # fmt: skip
    sizes = ModelSizes(
        round(transformer * GB),
        round(min(5.0, transformer) * GB),
        {entry.folder: 4 * GB for entry in entries},
        round(transformer * GB) if packed else 0,
    )
    return described, sizes


ALL: Models = [
    model("dev-full", "dev", 23.8, nets="union"),
    model("dev-q8", "dev", 12.7, packed=True),
    model("dev-q4", "dev", 6.8, packed=True),
    model("schnell", "schnell", 23.8),
    model("sample", "dev", 0.02, nets="union normals lines"),
    model("fill", "fill-dev", 12.7, packed=True),
    model("kontext", "kontext-dev", 12.7, packed=True),
    model("depth", "depth-dev", 12.7, packed=True),
    model("redux", "redux-dev", 12.7, packed=True, redux=True),
]
WHOLE_DEPTH = (Control("depth", 1.0),)


@pytest.mark.parametrize(
    ("device", "memory", "changes", "wanted"),
    [
        ("cuda", 48, {}, "dev-full"),
        ("cuda", 24, {}, "dev-q8"),
        ("cuda", 16, {}, "dev-q4"),
        ("cuda", 8, {}, "sample"),
        ("cpu", 64, {}, "dev-q8"),
        ("cpu", 16, {}, "sample"),
        ("mps", 0, {}, "dev-full"),
        ("cuda", 48, {"task": "inpaint", "strength": 0.5}, "fill"),
        ("cuda", 16, {"task": "inpaint", "strength": 0.5}, "dev-q4"),
        ("cuda", 24, {"task": "edit"}, "kontext"),
        ("cuda", 4, {"task": "edit"}, "kontext"),
        ("cuda", 48, {"reference_strength": 1.0}, "redux"),
        ("cuda", 48, {"controls": (Control("canny"),)}, "dev-full"),
        ("cuda", 32, {"controls": (Control("canny"),)}, "sample"),
        ("cuda", 48, {"controls": (Control("normal"),)}, "sample"),
        ("cuda", 48, {"controls": (Control("line"),)}, "dev-full"),
        ("cuda", 24, {"controls": WHOLE_DEPTH}, "depth"),
        ("cuda", 24, {"controls": (Control("depth", 0.5),)}, "sample"),
    ],
)
def test_the_best_for_a_machine_and_a_request(device: str, memory: int, changes: dict, wanted: str) -> None:
    request = replace(REQUEST, **changes)
    chosen = choose_model(request, ALL, device, memory * GB)
    assert chosen.folder.name == wanted and chosen.reason
    assert choose_model(request, ALL[::-1], device, memory * GB) == chosen, "the order on disk does not matter"


def test_the_reason_says_what_was_weighed() -> None:
    assert choose_model(REQUEST, ALL, "cuda", 24 * GB).reason == (
        "the best of 5 that fit, out of 7: 17.7 GB of 24.0 GB of memory on cuda"
    )
    assert (
        choose_model(replace(REQUEST, task="edit"), ALL, "cuda", 4 * GB).reason == "the only one here that can do this"
    )
    assert "none fits 4.0 GB of memory on cuda" in choose_model(REQUEST, ALL[:3], "cuda", 4 * GB).reason
    assert choose_model(REQUEST, ALL[:3], "cuda", 4 * GB).folder.name == "dev-q4"


def test_what_none_can_do_is_said() -> None:
    with pytest.raises(FailureError, match=r"'dev-full' .* cannot edit a picture by instruction"):
        choose_model(replace(REQUEST, task="edit"), ALL[:3], "cuda", 48 * GB)
    with pytest.raises(FailureError, match="no ControlNet for pose maps"):
        choose_model(replace(REQUEST, controls=(Control("pose"),)), ALL, "cuda", 48 * GB)
    with pytest.raises(FailureError, match="no model yet"):
        choose_model(REQUEST, [], "cuda", 48 * GB)


def test_what_a_model_takes() -> None:
    folder, sizes = ALL[0]
    assert needed_bytes(folder, sizes, ["depth", "canny"], "cuda") == round(32.8 * GB), "one net for both"
    assert needed_bytes(folder, sizes, [], "cuda") == round(28.8 * GB)
    assert needed_bytes(folder, sizes, [], "cpu") == round(57.6 * GB)
    assert needed_bytes(*ALL[1], [], "cpu") == round(22.7 * GB), "what is packed stays so"


def test_the_sizes_are_those_of_the_files(models_folder: Path) -> None:
    folder = find_model(models_folder, "random-weights")
    sizes = model_sizes(folder)
    assert sizes.transformer == sizes.packed == (folder.path / "transformer.gguf").stat().st_size
    weights = [path for path in folder.path.rglob("*") if path.suffix in (".safetensors", ".gguf")]
    assert sizes.transformer + sizes.others + sum(sizes.nets.values()) == sum(path.stat().st_size for path in weights)
    assert all(sizes.nets.values()) and sizes.nets.keys() == {net.folder for net in folder.controlnets}


def test_the_result_names_the_model_that_ran(own_models_folder: Path) -> None:
    """Beside one with random weights there is always the sample model, which is the larger of the two."""
    first = made(run(Production(own_models_folder, "cpu"), REQUEST))
    assert first.request == replace(REQUEST, model="sample")
    assert "the best of 2 that fit" in first.plan["model_choice"]
    named = made(run(Production(own_models_folder, "cpu"), replace(REQUEST, model="sample")))
    assert "model_choice" not in named.plan and named.request == first.request
    shutil.copytree(own_models_folder / "random-weights", own_models_folder / "broken")
    (own_models_folder / "broken" / "model.json").write_text("{")
    shutil.copytree(own_models_folder / "random-weights", own_models_folder / "a-shell")
    (own_models_folder / "a-shell" / "transformer.gguf").unlink()
    shutil.copytree(own_models_folder / "random-weights", own_models_folder / "for-edits")
    description = own_models_folder / "for-edits" / "model.json"
    description.write_text(json.dumps({**json.loads(description.read_text()), "variant": "kontext-dev"}))
    several = made(run(Production(own_models_folder, "cpu"), REQUEST))
    assert several.request.model == "sample" and "the best of 3 that fit" in several.plan["model_choice"]


def test_no_model_gets_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.wire.model_names.shipped_models", lambda: tmp_path / "shipped")
    assert "There is no model in" in failed(run(Production(tmp_path, "cpu"), REQUEST)).message
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "model.json").write_text("{")
    assert "'bad' cannot be read" in failed(run(Production(tmp_path, "cpu"), REQUEST)).message
