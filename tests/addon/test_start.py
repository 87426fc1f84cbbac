"""What a picture starts from: images of the file, on their way to the backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from tests.addon.fakes import FakeLink, module, ops, png, scene

SIZE = {"width": 64, "height": 64, "steps": 2, "prompt": "a clay pot", "controls": "none"}


def image(name: str, values: np.ndarray, is_float: bool = False) -> Any:
    """An image of (height, width, 3) values, the top row first."""
    height, width = values.shape[:2]
    found = bpy.data.images.new(name, width, height, float_buffer=is_float)
    pixels = np.ones((height, width, 4), np.float32)
    pixels[..., :3] = values
    found.pixels.foreach_set(pixels[::-1].ravel())
    return found


def halves(width: int, height: int) -> np.ndarray:
    """Black above white."""
    values = np.zeros((height, width, 3), np.float32)
    values[height // 2 :] = 1.0
    return values


def sent(fake_link: FakeLink) -> tuple[Any, Any]:
    request, maps, _ = fake_link.submitted[scene().grisaille_history[-1].job_id]
    return request, maps


def test_a_script_starts_from_an_image(fake_link: FakeLink) -> None:
    image("photo", halves(64, 64) * np.array([1.0, 0.5, 0.0], np.float32))
    ops().generate(image="photo", **SIZE)
    request, maps = sent(fake_link)
    assert (request.task, request.strength) == ("image_to_image", 0.6) and maps.mask is None
    assert maps.image.shape == (64, 64, 3) and maps.image.dtype == np.uint8
    assert maps.image[0, 0].tolist() == [0, 0, 0]
    assert np.abs(maps.image[-1, 0].astype(int) - [255, 128, 0]).max() <= 1


def test_a_mask_says_what_may_change(fake_link: FakeLink) -> None:
    image("photo", halves(32, 32))
    image("mask", halves(128, 128))
    ops().generate(image="photo", mask="mask", strength=0.8, **SIZE)
    request, maps = sent(fake_link)
    assert (request.task, request.strength) == ("inpaint", 0.8)
    assert maps.mask.shape == (64, 64) and maps.mask.dtype == np.float32
    assert (maps.mask[:31] == 0.0).all() and (maps.mask[33:] == 1.0).all()


def test_the_panel_starts_from_a_picture(fake_link: FakeLink) -> None:
    chosen = scene().grisaille
    chosen.start, chosen.start_image, chosen.strength = "image_to_image", image("photo", halves(64, 64)), 0.25
    ops().generate(**SIZE)
    request, _ = sent(fake_link)
    assert (request.task, request.strength) == ("image_to_image", 0.25)
    settings = module("addon.settings")
    chosen.start, chosen.strength = "text_to_image", 0.9
    settings.from_request(chosen, request)
    assert chosen.start == "image_to_image" and round(chosen.strength, 4) == 0.25


def test_a_script_edits_an_image(fake_link: FakeLink) -> None:
    image("photo", halves(64, 64))
    ops().generate(edit="photo", **SIZE)
    request, maps = sent(fake_link)
    assert (request.task, request.strength) == ("edit", 1.0) and maps.mask is None
    assert maps.image.shape == (64, 64, 3) and maps.image[0, 0].tolist() == [0, 0, 0]
    scene().grisaille.start, scene().grisaille.strength = "edit", 0.3
    ops().generate(image="photo", **SIZE)
    request, _ = sent(fake_link)
    assert (request.task, request.strength) == ("edit", 1.0), "the scene says what is done with a picture"


def test_a_reference_keeps_its_shape(fake_link: FakeLink) -> None:
    image("style", halves(30, 20) * np.array([1.0, 0.5, 0.0], np.float32))
    ops().generate(reference="style", **SIZE)
    request, maps = sent(fake_link)
    assert (request.task, request.reference_strength) == ("text_to_image", 1.0) and maps.image is None
    assert maps.reference.shape == (20, 30, 3) and maps.reference.dtype == np.uint8
    assert maps.reference[0, 0].tolist() == [0, 0, 0]
    assert np.abs(maps.reference[-1, 0].astype(int) - [255, 128, 0]).max() <= 1
    image("wide", halves(1536, 4))
    ops().generate(reference="wide", reference_strength=0.4, **SIZE)
    request, maps = sent(fake_link)
    assert request.reference_strength == 0.4 and maps.reference.shape == (3, 1024, 3)


def test_the_panel_takes_a_reference(fake_link: FakeLink) -> None:
    chosen = scene().grisaille
    chosen.reference_image, chosen.reference_strength = image("style", halves(64, 64)), 0.5
    ops().generate(**SIZE)
    request, maps = sent(fake_link)
    assert request.reference_strength == 0.5 and maps.reference is not None
    settings = module("addon.settings")
    chosen.reference_strength = 1.0
    settings.from_request(chosen, request)
    assert chosen.reference_strength == 0.5 and chosen.reference_image.name == "style"
    ops().generate(reference_strength=0.0, **SIZE)
    request, maps = sent(fake_link)
    assert request.reference_strength == 0.0 and maps.reference is None
    settings.from_request(chosen, request)
    assert chosen.reference_image is None, "the picture was made without one"


def test_showing_controls_needs_no_picture(fake_link: FakeLink) -> None:
    chosen = scene().grisaille
    chosen.start, chosen.prompt = "inpaint", "moss"
    chosen.size_mode, chosen.width, chosen.height = "CUSTOM", 64, 64
    assert ops().show_controls() == {"FINISHED"}


@pytest.mark.parametrize(
    ("start", "given", "sentence"),
    [
        ("image_to_image", {}, "no picture to start from"),
        ("text_to_image", {"image": "nothing"}, "no image called 'nothing'"),
        ("text_to_image", {"image": "Render Result"}, "has no pixels to start from. Save it"),
        ("inpaint", {"image": "photo"}, "no mask"),
        ("text_to_image", {"mask": "photo"}, "no picture to start from"),
        ("text_to_image", {"strength": 0.5}, "needs a picture to start from"),
        ("text_to_image", {"image": "photo", "strength": 0.0}, "Strength is 0"),
        ("edit", {}, "no picture to start from"),
        ("text_to_image", {"edit": "photo", "image": "photo"}, "a picture to edit and one to start from"),
        ("text_to_image", {"edit": "photo", "strength": 0.5}, "has no strength"),
        ("text_to_image", {"reference": "nothing"}, "no image called 'nothing'"),
        ("text_to_image", {"reference_strength": 0.5}, "no reference picture"),
        ("text_to_image", {"reference": "photo", "reference_strength": 3.0}, "reference's strength is 3"),
        ("text_to_image", {"image": "gone"}, "has no pixels to start from. Check that its file"),
    ],
)
def test_what_is_missing_is_said(fake_link: FakeLink, start: str, given: dict[str, Any], sentence: str) -> None:
    image("photo", halves(64, 64))
    if "Render Result" not in bpy.data.images:
        bpy.data.images.new("Render Result", 1, 1).source = "VIEWER"
    gone = bpy.data.images.new("gone", 1, 1)
    gone.source, gone.filepath = "FILE", "//nowhere.png"
    scene().grisaille.start = start
    with pytest.raises(RuntimeError, match=sentence):
        ops().generate(**given, **SIZE)
    assert fake_link.submitted == {}


def test_light_becomes_display_values(fake_link: FakeLink) -> None:
    values = np.full((8, 8, 3), 0.214, np.float32)
    light = module("addon.capture.image_pixels").read_pixels(image("light", values, is_float=True))
    assert np.allclose(light[..., :3], 0.5, atol=0.002), "a middle grey"
    plain = module("addon.capture.image_pixels").read_pixels(image("plain", values))
    assert np.allclose(plain[..., :3], 0.214, atol=0.004)


@pytest.mark.parametrize(("columns", "rows"), [(200, 100), (100, 200), (30, 20), (64, 64)])
def test_a_picture_is_cropped_around_its_centre_to_the_size(fake_link: FakeLink, columns: int, rows: int) -> None:
    fitted = module("addon.capture.image_pixels").fitted
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32) + 0.5
    made = fitted(np.stack([x - columns / 2, y - rows / 2], 2), 64, 64)
    assert made.shape == (64, 64, 2)
    scale = min(columns, rows) / 64
    wanted = (np.arange(64) + 0.5 - 32) * scale
    inner = slice(3, -3)
    assert np.allclose(made[:, :, 0], wanted, atol=1.01 * scale)
    assert np.allclose(made[inner, inner, 0], wanted[inner], atol=0.08)
    assert np.allclose(made[inner, inner, 1], wanted[inner, None], atol=0.08)


def test_the_command_line_starts_from_files(fake_link: FakeLink, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(png(64, 64, (10, 20, 30)))
    (tmp_path / "mask.png").write_bytes(png(64, 64, (255, 255, 255)))
    words = ["generate", "--prompt", "moss", "--size", "64x64", "--controls", "none", "--out", tmp_path / "out.png"]
    words += ["--image", tmp_path / "photo.png", "--mask", tmp_path / "mask.png", "--strength", "0.4"]
    main = module("addon.cli").main
    assert main([str(word) for word in words]) == 0
    request, maps, _ = next(iter(fake_link.submitted.values()))
    assert (request.task, request.strength) == ("inpaint", 0.4)
    assert (maps.image == [10, 20, 30]).all() and (maps.mask == 1.0).all()
    words[words.index("--image") + 1] = tmp_path / "other.png"
    assert main([str(word) for word in words]) == 2


def test_the_command_line_edits_and_refers(fake_link: FakeLink, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(png(64, 64, (10, 20, 30)))
    (tmp_path / "style.png").write_bytes(png(48, 32, (40, 50, 60)))
    words = ["generate", "--prompt", "moss", "--size", "64x64", "--controls", "none", "--out", tmp_path / "out.png"]
    words += ["--edit", tmp_path / "photo.png", "--reference", tmp_path / "style.png", "--reference-strength", "0.4"]
    assert module("addon.cli").main([str(word) for word in words]) == 0
    request, maps, _ = next(iter(fake_link.submitted.values()))
    assert (request.task, request.strength, request.reference_strength) == ("edit", 1.0, 0.4)
    assert (maps.image == [10, 20, 30]).all()
    assert maps.reference.shape == (32, 48, 3) and (maps.reference == [40, 50, 60]).all()
