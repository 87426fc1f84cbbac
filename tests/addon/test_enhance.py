"""What is done to finished pictures: in the panel, in scripts, for any image of the file, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np
import pytest

from tests.addon.fakes import FakeLink, module, ops, png, scene
from tests.addon.test_cli import run
from tests.addon.test_ui import Layout, drawn

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def networks(fake_link: FakeLink, tmp_path: Path) -> Path:
    """The models folder, with two files where networks are looked for."""
    folder = tmp_path / "models"
    (folder / "upscalers").mkdir()
    for name in ("RealESRGAN_x4plus.pth", "GFPGANv1.4.pth"):
        (folder / "upscalers" / name).write_bytes(b"weights")
    return folder


def image(name: str, values: np.ndarray, space: str = "sRGB", is_float: bool = False) -> bpy.types.Image:
    """An image of the file with these display values, (height, width, 3 or 4), row 0 at the top."""
    height, width, channels = values.shape
    made = bpy.data.images.new(name, width, height, alpha=channels == 4, float_buffer=is_float)
    made.colorspace_settings.name = space
    pixels = np.ones((height, width, 4), np.float32)
    pixels[..., :channels] = values
    made.pixels.foreach_set(pixels[::-1].ravel())
    return made


def submitted(link: FakeLink) -> tuple[Any, Any, dict[str, str]]:
    return list(link.submitted.values())[-1]


def colours(height: int = 5, width: int = 7, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels)).astype(np.float32) / 255.0


def directions(height: int = 6, width: int = 8) -> np.ndarray:
    found = np.random.default_rng(1).normal((0.0, 0.0, 1.0), 0.4, (height, width, 3))
    found /= np.linalg.norm(found, axis=2, keepdims=True)
    return (0.5 + 0.5 * found).astype(np.float32)


def test_the_panel_tells_where_networks_go_and_then_lists_them(fake_link: FakeLink, tmp_path: Path) -> None:
    assert "a folder upscalers in the models folder" in " ".join(drawn("enhance"))
    (tmp_path / "models" / "upscalers").mkdir()
    (tmp_path / "models" / "upscalers" / "4x-UltraSharp.pth").write_bytes(b"weights")
    chosen = scene().grisaille_enhancement
    chosen.network = "4x-UltraSharp"
    chosen.faces = True
    shown = drawn("enhance")
    wanted = {"scale", "network", "upscale_fidelity", "detail", "faces", "fidelity", "finish"}
    assert {f"prop:{name}" for name in wanted} <= set(shown)
    assert "upscalers" not in " ".join(shown)
    (tmp_path / "models" / "upscalers" / "4x-UltraSharp.pth").unlink()
    assert chosen.network == "4x-UltraSharp", "it is still named, and called missing"


def test_the_scale_is_one_or_at_least_one_and_a_half(fake_link: FakeLink) -> None:
    chosen = scene().grisaille_enhancement
    for wanted, got in ((1.1, 1.0), (1.3, 1.5), (1.0, 1.0), (2.5, 2.5), (20.0, 8.0)):
        chosen.scale = wanted
        assert chosen.scale == pytest.approx(got)


def test_generate_asks_for_what_the_panel_says_only_where_it_is_on(networks: Path, fake_link: FakeLink) -> None:
    chosen = scene().grisaille_enhancement
    chosen.scale, chosen.network, chosen.finish = 4.0, "RealESRGAN_x4plus", "film"
    chosen.upscale_fidelity = 0.25
    ops().generate(prompt="a pot", controls="none")
    assert submitted(fake_link)[0].enhancement is None
    chosen.use, chosen.faces, chosen.face_network, chosen.fidelity = True, True, "GFPGANv1.4", 0.7
    chosen.detail = 0.3
    ops().generate(prompt="a pot", controls="none")
    wanted = module("backend.wire").Enhancement(
        4.0,
        "RealESRGAN_x4plus",
        upscale_fidelity=0.25,
        faces=True,
        face_network="GFPGANv1.4",
        fidelity=0.7,
        finish="film",
        detail=0.3,
    )
    request = submitted(fake_link)[0]
    assert request.enhancement == wanted
    chosen.use, chosen.scale, chosen.faces, chosen.upscale_fidelity, chosen.detail = False, 1.0, False, 1.0, 0.0
    module("addon.settings").from_request(scene().grisaille, request)
    assert module("addon.enhance_settings").used(chosen) == wanted, "Use Its Settings brings all of it back"


def test_a_script_says_some_of_it(networks: Path, fake_link: FakeLink) -> None:
    ops().generate(prompt="a pot", controls="none", upscale=1.5, finish="crisp")
    assert submitted(fake_link)[0].enhancement == module("backend.wire").Enhancement(1.5, finish="crisp")
    with pytest.raises(RuntimeError, match=r"Choose 1 or 1\.5 to 8"):
        ops().generate(prompt="a pot", controls="none", upscale=1.2)
    scene().grisaille_enhancement.use = True
    ops().generate(prompt="a pot", controls="none", upscale=1.0)
    assert submitted(fake_link)[0].enhancement is None


@pytest.mark.parametrize("channels", [3, 4])
def test_an_image_goes_as_it_is_and_a_new_one_comes(fake_link: FakeLink, channels: int) -> None:
    values = colours(channels=channels)
    source = image("wall.png", values)
    source["grisaille_view"] = "{}"
    scene().grisaille_enhancement.scale = 4.0
    before = np.array(source.pixels[:])
    ops().enhance(image="wall.png")
    request, maps, _ = submitted(fake_link)
    assert (request.task, request.width, request.height, request.model) == ("enhance", 7, 5, "")
    assert request.enhancement == module("backend.wire").Enhancement(4.0) and request.bit_depth == 8
    assert maps.picture.dtype == np.uint8 and np.array_equal(maps.picture, np.rint(values * 255).astype(np.uint8))
    made = scene().grisaille_history[-1].image
    assert made.name == "wall.png x4" and made.colorspace_settings.name == "sRGB" and made["grisaille_view"] == "{}"
    assert np.array_equal(np.array(source.pixels[:]), before) and source.name == "wall.png"
    assert scene().grisaille_history[-1].prompt == "wall.png x4"


def test_detail_in_an_image_is_painted_from_the_scenes_words(fake_link: FakeLink) -> None:
    image("wall.png", colours())
    settings = scene().grisaille
    settings.prompt, settings.steps, settings.seed = "", 9, 4
    with pytest.raises(RuntimeError, match="Detail is painted from words"):
        ops().enhance(image="wall.png", detail=0.25)
    settings.prompt = "a brick wall"
    ops().enhance(image="wall.png", detail=0.25)
    request = submitted(fake_link)[0]
    assert (request.task, request.prompt, request.steps, request.seed) == ("enhance", "a brick wall", 9, 4)
    assert request.enhancement.detail == 0.25 and not request.controls and request.model
    ops().enhance(image="wall.png", detail=0.25, prompt="wet slate")
    assert submitted(fake_link)[0].prompt == "wet slate" and settings.prompt == "a brick wall"
    image("height", colours(), "Non-Color")
    scene().grisaille_enhancement.detail = 0.25
    ops().enhance(image="height")
    assert submitted(fake_link)[0].enhancement.detail == 0.0, "a map is numbers, not a picture"


def test_maps_are_numbers_and_normals_are_known_by_their_length(fake_link: FakeLink) -> None:
    chosen = scene().grisaille_enhancement
    chosen.faces, chosen.finish = True, "film"
    cases = {"normal": directions(), "data": colours(), "grey": np.full((4, 4, 3), 0.2, np.float32)}
    for name, values in cases.items():
        image(name, np.rint(values * 255) / 255, "Non-Color")
        ops().enhance(image=name)
        request = submitted(fake_link)[0]
        kind = "normal" if name == "normal" else "data"
        assert request.enhancement == module("backend.wire").Enhancement(2.0, data=kind), name
        assert scene().grisaille_history[-1].image.colorspace_settings.name == "Non-Color"
    ops().enhance(image="data", data="colour", faces=False)
    assert submitted(fake_link)[0].enhancement.data == "colour"


def test_floats_go_with_sixteen_bits(fake_link: FakeLink) -> None:
    heights = np.linspace(0.0, 1.0, 48, dtype=np.float32).reshape(4, 12, 1).repeat(3, 2)
    image("height", heights, "Non-Color", is_float=True)
    ops().enhance(image="height")
    request, maps, _ = submitted(fake_link)
    assert request.bit_depth == 16 and maps.picture.dtype == np.uint16
    assert np.array_equal(maps.picture, np.rint(heights * 65535).astype(np.uint16))
    image("light", np.full((4, 4, 3), 0.2140411, np.float32), "Linear Rec.709", is_float=True)
    ops().enhance(image="light")
    assert abs(int(submitted(fake_link)[1].picture[0, 0, 0]) - 32768) < 40, "light becomes display values"
    assert scene().grisaille_history[-1].image.colorspace_settings.name == "sRGB"


def test_what_cannot_be_enhanced_is_said(fake_link: FakeLink) -> None:
    with pytest.raises(RuntimeError, match="There is no image to enhance"):
        ops().enhance()
    with pytest.raises(RuntimeError, match="no image called 'gone'"):
        ops().enhance(image="gone")
    image("a", colours())
    scene().grisaille_enhancement.scale = 1.0
    with pytest.raises(RuntimeError, match="Nothing is to be done"):
        ops().enhance(image="a")
    assert fake_link.submitted == {}


def test_what_is_too_large_for_the_backends_door_is_said_before_its_pixels_are_read(
    networks: Path, fake_link: FakeLink, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a door for 100 kB in place of one for a quarter of a gigabyte."""
    monkeypatch.setattr(module("backend.wire.maps"), "PAYLOAD_MAX", 100_000)
    monkeypatch.setattr(module("addon.capture.image_pixels"), "read_pixels", lambda image: pytest.fail("it was read"))
    for is_float, side in ((False, 183), (True, 130)):
        huge = bpy.data.images.new(f"huge {side}", side, side, float_buffer=is_float)
        huge.colorspace_settings.name = "Non-Color"  # pyright: ignore[reportAttributeAccessIssue]
        said = rf"picture of {side} x {side} pixels is too large .*python -m backend enhance FILE"
        with pytest.raises(RuntimeError, match=said):
            ops().enhance(image=huge.name)
    path = tmp_path / "huge.png"
    path.write_bytes(png(200, 200))
    out = tmp_path / "out.png"
    assert module("addon.cli").main(["enhance", str(path), "--by", "2", "--out", str(out)]) == 2 and not out.exists()
    assert not fake_link.submitted


def in_the_image_editor(shown_image: bpy.types.Image | None = None) -> list[str]:
    """What the panel there shows; `drawn` leaves no image in an editor."""
    shown: list[str] = []
    panel: Any = bpy.types.GRISAILLE_PT_enhance_image  # pyright: ignore[reportAttributeAccessIssue]
    context = SimpleNamespace(
        scene=scene(), space_data=SimpleNamespace(image=shown_image), preferences=bpy.context.preferences, region=None
    )
    panel.draw(SimpleNamespace(layout=Layout(shown)), context)
    return shown


def test_the_size_that_comes_out_is_told(networks: Path) -> None:
    chosen = scene().grisaille_enhancement
    chosen.scale = 4.0
    assert "7680 x 4352 px" in drawn("enhance"), "1920 x 1080 becomes multiples of 16 first"
    wall = image("wall", colours(60, 80))
    assert "320 x 240 px" in in_the_image_editor(wall)
    chosen.scale = 1.0
    shown = in_the_image_editor(wall)
    assert not any(text.endswith(" px") for text in shown) and "stays as it is" in " ".join(shown)
    chosen.finish = "crisp"
    assert "stays as it is" not in " ".join(in_the_image_editor(wall))


def test_detail_asks_for_words_where_it_is(networks: Path) -> None:
    """The prompt is in another editor's panel."""
    assert "prop:prompt" not in in_the_image_editor()
    scene().grisaille_enhancement.detail = 0.3
    assert "prop:prompt" in in_the_image_editor()


def test_the_image_editor_has_a_panel_and_a_menu_entry(networks: Path) -> None:
    assert {"prop:scale", "prop:network", "op:grisaille.enhance"} <= set(in_the_image_editor())
    entries = bpy.types.IMAGE_MT_image._dyn_ui_initialize()  # pyright: ignore[reportAttributeAccessIssue]
    assert any(entry.__name__ == "draw_in_image_menu" for entry in entries)


def test_the_command_line_enhances_a_file(fake_link: FakeLink, tmp_path: Path) -> None:
    source, out, summary = tmp_path / "in.png", tmp_path / "out.png", tmp_path / "out.json"
    source.write_bytes(png(20, 10))
    assert run("enhance", source, "--out", out, "--by", "3", "--finish", "ink", "--json", summary) == 0
    told = json.loads(summary.read_text())["request"]
    assert (told["task"], told["width"], told["height"]) == ("enhance", 20, 10)
    assert (told["enhancement"]["scale"], told["enhancement"]["finish"]) == (3.0, "ink")
    assert out.is_file() and fake_link.on_disk == set()
    assert run("enhance", tmp_path / "gone.png", "--out", out) == 2
    assert run("enhance", source, "--out", out, "--by", "9") == 2


def test_the_command_line_enhances_what_it_paints(fake_link: FakeLink, tmp_path: Path) -> None:
    out, summary = tmp_path / "out.png", tmp_path / "out.json"
    words = ["generate", "--prompt", "a pot", "--size", "64x64", "--by", "2", "--faces", "--controls", "none"]
    assert run(*words, "--out", out, "--json", summary) == 0
    told = json.loads(summary.read_text())["request"]["enhancement"]
    assert (told["scale"], told["faces"], told["fidelity"]) == (2.0, True, 0.5)
