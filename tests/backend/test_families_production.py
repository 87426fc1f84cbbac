"""FLUX.1's families through Production: what each paints, and what each says that it cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.models import find_model
from backend.pipeline import create_production_pipeline
from backend.production import Production
from backend.wire import Control, ControlMaps, FailureError, GenerationRequest
from tests.backend.samples import failed, made, make_maps, pixels, run, texts_of

REQUEST = GenerationRequest("a red cube", 64, 64, seed=2, steps=2, model="random-weights")
DEPTH = Control("depth", 1.0)
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
MASK = np.zeros((64, 64), np.float32)
MASK[:, 32:] = 1.0
MAPS = replace(make_maps(64, 64), image=IMAGE, mask=MASK)


@pytest.fixture(scope="module")
def families(families_folder: Path) -> Production:
    return Production(families_folder, "cpu")


def digests(png: bytes) -> dict[str, Any]:
    return json.loads(texts_of(png)["grisaille:digests"])


def test_depth(families: Production) -> None:
    request = replace(REQUEST, model="random-depth-dev", controls=(DEPTH,))
    result = made(run(families, request, MAPS))
    assert set(digests(result.png)["maps"]) == {"depth"}
    assert MAPS.depth is not None
    other = made(run(families, request, replace(MAPS, depth=MAPS.depth[:, ::-1].copy())))
    assert (pixels(result.png) != pixels(other.png)).mean() > 0.5
    shown = made(run(families, replace(request, task="show_controls", controls=(Control("depth"),)), MAPS))
    assert set(shown.control_pngs) == {"depth"}


@pytest.mark.parametrize("task", ["image_to_image", "inpaint"])
def test_depth_from_a_picture(families: Production, task: str) -> None:
    request = replace(REQUEST, model="random-depth-dev", controls=(DEPTH,), task=task, strength=0.5)
    picture = pixels(made(run(families, request, MAPS)).png)
    assert (picture[:, :32] == IMAGE[:, :32]).all() == (task == "inpaint")


def test_fill_keeps_the_artists_pixels(families: Production) -> None:
    request = replace(REQUEST, model="random-fill-dev", task="inpaint")
    result = made(run(families, request, MAPS))
    picture = pixels(result.png)
    assert (picture[:, :32] == IMAGE[:, :32]).all() and (picture[:, 32:] != IMAGE[:, 32:]).mean() > 0.5
    assert set(digests(result.png)["maps"]) == {"image", "mask"}
    around = replace(MAPS, image=np.where(MASK[..., None] == 1.0, IMAGE, 255 - IMAGE))
    assert (pixels(made(run(families, request, around)).png)[:, 32:] != picture[:, 32:]).mean() > 0.5, "it looks around"
    hidden = replace(MAPS, image=np.where(MASK[..., None] == 1.0, 255 - IMAGE, IMAGE))
    assert (pixels(made(run(families, request, hidden)).png) == picture).all(), "what is painted over is not looked at"


def test_kontext_looks_at_the_picture(families: Production) -> None:
    request = replace(REQUEST, model="random-kontext-dev", task="edit")
    result = made(run(families, request, MAPS))
    assert set(digests(result.png)["maps"]) == {"image"}
    other = made(run(families, request, replace(MAPS, image=255 - IMAGE)))
    assert (pixels(result.png) != pixels(other.png)).mean() > 0.5
    assert made(run(families, replace(request, task="text_to_image"))).png


REFERENCE = np.random.default_rng(1).integers(0, 256, (40, 70, 3)).astype(np.uint8)
WITH_REFERENCE = replace(MAPS, reference=REFERENCE)


def test_redux(families: Production) -> None:
    request = replace(REQUEST, model="random-redux-dev", reference_strength=1.0)
    result = made(run(families, request, WITH_REFERENCE))
    assert set(digests(result.png)["maps"]) == {"reference"}
    other = made(run(families, request, replace(MAPS, reference=255 - REFERENCE)))
    assert (pixels(result.png) != pixels(other.png)).mean() > 0.3
    without = made(run(families, replace(request, reference_strength=0.0), WITH_REFERENCE))
    assert (pixels(result.png) != pixels(without.png)).mean() > 0.3
    assert digests(without.png)["maps"] == {}, "at 0 the reference is not there"


def test_redux_with_all_else(families: Production) -> None:
    request = replace(
        REQUEST,
        model="random-redux-dev",
        task="inpaint",
        controls=(Control("line", 0.5),),
        negative_prompt="fog",
        true_cfg=2.0,
        reference_strength=0.7,
    )
    result = made(run(families, request, WITH_REFERENCE))
    assert set(digests(result.png)["maps"]) == {"line", "image", "mask", "reference"}


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ("image_encoder/config.json", "model_missing"),
        ("image_encoder/model.safetensors", "model_missing"),
        ("redux/config.json", "model_missing"),
        ("redux/diffusion_pytorch_model.safetensors", "model_missing"),
    ],
)
def test_parts_of_redux_missing_and_truncated(families_folder: Path, tmp_path: Path, part: str, kind: str) -> None:
    folder = one_model(families_folder, tmp_path, "random-redux-dev")
    path = folder / "random-redux-dev" / part
    whole = path.read_bytes()
    engine = Production(folder, "cpu")
    request = replace(REQUEST, steps=1, model="random-redux-dev", reference_strength=1.0)
    path.unlink()
    failure = failed(run(engine, request, WITH_REFERENCE))
    assert failure.kind == kind and part.partition("/")[0] in failure.message
    path.write_bytes(whole[: len(whole) * 2 // 3])
    assert failed(run(engine, request, WITH_REFERENCE)).kind == "model_broken"
    path.write_bytes(whole)
    assert made(run(engine, request, WITH_REFERENCE)).png


def test_redux_of_another_model(families_folder: Path, tmp_path: Path) -> None:
    from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder

    folder = one_model(families_folder, tmp_path, "random-redux-dev")
    ReduxImageEncoder(redux_dim=32, txt_in_features=48).save_pretrained(folder / "random-redux-dev" / "redux")
    request = replace(REQUEST, model="random-redux-dev", reference_strength=1.0)
    failure = failed(run(Production(folder, "cpu"), request, WITH_REFERENCE))
    assert failure.kind == "model_unsupported" and "32 into 48" in failure.message


@pytest.mark.parametrize(
    ("changes", "given", "kind", "said"),
    [
        ({"model": "random-weights"}, REFERENCE, "model_unsupported", "has no Redux"),
        ({}, None, "bad_request", "lacks a reference picture"),
        ({}, REFERENCE.astype(np.float32), "bad_request", "float32 (40, 70, 3) where uint8"),
        ({}, REFERENCE[..., 0], "bad_request", "uint8 (40, 70) where uint8"),
        ({}, np.zeros((1, 5000, 3), np.uint8), "bad_request", "(1, 5000, 3)"),
        ({}, np.zeros((0, 5, 3), np.uint8), "bad_request", "(0, 5, 3)"),
        ({"reference_strength": 2.5}, REFERENCE, "bad_request", "reference's strength is 2.5"),
        ({"reference_strength": float("nan")}, REFERENCE, "bad_request", "reference's strength is nan"),
    ],
)
def test_references_that_are_wrong(
    families: Production, changes: dict[str, Any], given: np.ndarray | None, kind: str, said: str
) -> None:
    request = replace(REQUEST, **{"model": "random-redux-dev", "reference_strength": 1.0, **changes})
    failure = failed(run(families, request, replace(MAPS, reference=given)))
    assert failure.kind == kind and said in failure.message and failure.hint.endswith(".")


@pytest.mark.parametrize("variant", ["depth-dev", "fill-dev", "kontext-dev"])
def test_a_controlnet_beside(families: Production, variant: str) -> None:
    task = {"depth-dev": "text_to_image", "fill-dev": "inpaint", "kontext-dev": "edit"}[variant]
    own = (DEPTH,) if variant == "depth-dev" else ()
    request = replace(REQUEST, model=f"random-{variant}", task=task, controls=own)
    plain = made(run(families, request, MAPS))
    steered = made(run(families, replace(request, controls=(*own, Control("line", 0.8))), MAPS))
    assert (pixels(plain.png) != pixels(steered.png)).mean() > 0.3


@pytest.mark.parametrize(
    ("variant", "changes", "kind", "said"),
    [
        ("kontext-dev", {"task": "inpaint"}, "model_unsupported", "cannot change a part of a picture"),
        ("kontext-dev", {"task": "image_to_image"}, "model_unsupported", "cannot start from a picture"),
        ("fill-dev", {}, "model_unsupported", "cannot paint from noise"),
        ("fill-dev", {"task": "edit"}, "model_unsupported", "cannot edit a picture by instruction"),
        ("depth-dev", {"task": "edit", "controls": (DEPTH,)}, "model_unsupported", "cannot edit"),
        ("depth-dev", {}, "bad_request", "depth control is off"),
        ("depth-dev", {"controls": (Control("depth", 0.7),)}, "bad_request", "whole and in all steps"),
        ("depth-dev", {"controls": (Control("depth", 1.0, 0.0, 0.5),)}, "bad_request", "whole and in all steps"),
        ("kontext-dev", {"task": "edit", "strength": 0.5}, "bad_request", "has no strength"),
    ],
)
def test_what_a_family_cannot_do(
    families: Production, variant: str, changes: dict[str, Any], kind: str, said: str
) -> None:
    told: list[str] = []
    request = replace(REQUEST, model=f"random-{variant}", **changes)
    failure = failed(run(families, request, MAPS, lambda progress: told.append(progress.stage)))
    assert failure.kind == kind and said in failure.message
    assert failure.message.endswith(".") and failure.hint.endswith(".")
    assert told == [], "said before anything is loaded"


def test_an_edit_on_a_dev_model(production: Production) -> None:
    failure = failed(run(production, replace(REQUEST, task="edit"), MAPS))
    assert failure.kind == "model_unsupported" and "(dev) cannot edit" in failure.message
    assert "kontext-dev" in failure.hint


def test_a_picture_to_edit_that_is_not_there(families: Production) -> None:
    failure = failed(run(families, replace(REQUEST, model="random-kontext-dev", task="edit"), ControlMaps()))
    assert failure.kind == "bad_request" and "lacks a picture" in failure.message


def change(folder: Path, name: str, do: Callable[[dict[str, Any]], object]) -> None:
    path = folder / name / "model.json"
    data = json.loads(path.read_text())
    do(data)
    path.write_text(json.dumps(data))


def one_model(families_folder: Path, tmp_path: Path, name: str) -> Path:
    """A models folder with a copy of one model, to change."""
    shutil.copytree(families_folder / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(("name", "variant"), [("fill-dev", "fill-dev"), ("kontext-dev", "dev")])
def test_a_variant_is_recognised_by_its_channels(
    families_folder: Path, tmp_path: Path, name: str, variant: str
) -> None:
    """Kontext's transformer is dev's by its shape."""
    folder = one_model(families_folder, tmp_path, f"random-{name}")
    change(folder, f"random-{name}", lambda data: data.pop("variant"))
    assert find_model(folder, f"random-{name}").variant == variant


@pytest.mark.parametrize(
    ("do", "said"),
    [
        (lambda data: data.pop("variant"), "does not say which variant it is, depth-dev or canny-dev"),
        (lambda data: data.update(variant="turbo"), "names a variant 'turbo'"),
        (lambda data: data.update(variant=3), "lacks the text 'variant'"),
        (lambda data: data.update(image_encoder="image_encoder"), "names one of image_encoder and redux"),
        (lambda data: data.update(variant="kontext-dev"), "takes 64 channels, but this one takes 128"),
    ],
)
def test_a_variant_that_is_wrong(families_folder: Path, tmp_path: Path, do: Any, said: str) -> None:
    folder = one_model(families_folder, tmp_path, "random-depth-dev")
    change(folder, "random-depth-dev", do)
    request = replace(REQUEST, model="random-depth-dev")
    failure = failed(run(Production(folder, "cpu"), request, MAPS))
    assert failure.kind == "model_broken" and said in failure.message and failure.hint


def test_defaults_are_the_variants_unless_the_model_says_otherwise(families_folder: Path, tmp_path: Path) -> None:
    folder = one_model(families_folder, tmp_path, "random-fill-dev")
    change(folder, "random-fill-dev", lambda data: data.update(defaults={"steps": 7}))
    request = create_production_pipeline("random-fill-dev", folder).request("a hat")
    assert (request.steps, request.guidance) == (7, 30.0)
    change(folder, "random-fill-dev", lambda data: data.pop("defaults"))
    request = create_production_pipeline("random-fill-dev", folder).request("a hat")
    assert (request.steps, request.guidance) == (50, 30.0)


def test_a_script_is_told_the_same(families_folder: Path) -> None:
    pipeline = create_production_pipeline("random-fill-dev", families_folder, "cpu")
    with pytest.raises(FailureError, match="cannot paint from noise"):
        pipeline.generate(pipeline.request("a hat", width=64, height=64))
