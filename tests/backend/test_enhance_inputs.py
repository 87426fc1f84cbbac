"""What pictures may be like: every mode and size of a file, damaged ones, and ones that are far too large."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from backend.enhance.networks import Network
from backend.enhance.opening import open_picture, read_picture
from backend.enhance.upscale import upscale
from backend.outputs.png import encode_png
from backend.wire import FailureError, FailureKind
from tests.backend.enhance_samples import painted, small_network


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return small_network(tmp_path_factory.mktemp("net"))


def saved(image: Image.Image, path: Path, **options: Any) -> np.ndarray:
    image.save(path, **options)
    return open_picture(path)


def refused(path: Path) -> str:
    with pytest.raises(FailureError) as caught:
        open_picture(path)
    assert caught.value.failure.kind == FailureKind.BAD_REQUEST
    return caught.value.failure.message


def test_grey(tmp_path: Path, net: Network) -> None:
    grey = painted(20, 24)[..., 0]
    found = saved(Image.fromarray(grey), tmp_path / "a.png")
    assert (found == grey).all() and upscale(found, 4, net).shape == (80, 96)


def test_grey_of_16_bits(tmp_path: Path, net: Network) -> None:
    grey = (painted(20, 24)[..., 0].astype(np.uint16) << 8) + 7
    found = saved(Image.fromarray(grey), tmp_path / "a.png")
    assert found.dtype == np.uint16 and (found == grey).all()
    assert upscale(found, 4, net).dtype == np.uint16


def test_colours_of_16_bits(tmp_path: Path, net: Network) -> None:
    """Pillow alone would read 8 of them."""
    picture = painted(20, 24).astype(np.uint16) * 256 + 13
    (tmp_path / "a.png").write_bytes(encode_png(picture, {}))
    found = open_picture(tmp_path / "a.png")
    assert found.dtype == np.uint16 and (found == picture).all()
    large = upscale(found, 4, net)
    assert large.dtype == np.uint16 and len(np.unique(large % 256)) > 200


def test_one_bit(tmp_path: Path, net: Network) -> None:
    found = saved(Image.fromarray(painted(20, 24)[..., 0] > 100), tmp_path / "a.png")
    assert set(np.unique(found)) == {0, 255} and upscale(found, 2, net).shape == (40, 48)


def test_a_palette(tmp_path: Path, net: Network) -> None:
    image = Image.fromarray(painted(20, 24)).quantize(16)
    found = saved(image, tmp_path / "a.png")
    assert (found == np.asarray(image.convert("RGB"))).all() and upscale(found, 4, net).shape == (80, 96, 3)


def test_a_palette_with_a_hole(tmp_path: Path, net: Network) -> None:
    image = Image.new("P", (24, 20), 1)
    image.putpalette([0, 0, 0, 200, 30, 30, 30, 200, 30])
    image.paste(2, (4, 4, 12, 12))
    found = saved(image, tmp_path / "a.png", transparency=2)
    assert found.shape == (20, 24, 4)
    assert (found[5, 5, 3], found[0, 0, 3]) == (0, 255)
    large = upscale(found, 4, net)
    assert (large[24:40, 24:40, 3] == 0).all() and (large[:8, :, 3] == 255).all()


def test_cmyk(tmp_path: Path, net: Network) -> None:
    image = Image.new("CMYK", (24, 20), (0, 255, 255, 0))
    found = saved(image, tmp_path / "a.tif")
    assert found.shape == (20, 24, 3) and found[3, 3, 0] > 200 and found[3, 3, 1:].max() < 60
    assert upscale(found, 1.5, net).shape == (30, 36, 3)
    assert saved(image, tmp_path / "a.jpg").shape == (20, 24, 3)


def test_colours_follow_their_profile_and_data_does_not(tmp_path: Path) -> None:
    """A profile whose red and blue are exchanged shows that it was asked."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", profile[128:132])[0]
    table = {bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * count, 12)}
    red, blue = table[b"rXYZ"], table[b"bXYZ"]
    places = slice(red + 4, red + 12), slice(blue + 4, blue + 12)
    profile[places[0]], profile[places[1]] = profile[places[1]], profile[places[0]]
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8), (255, 0, 0)).save(path, icc_profile=bytes(profile))
    assert open_picture(path)[0, 0].tolist()[2] > 250
    assert open_picture(path, is_data=True)[0, 0].tolist() == [255, 0, 0]


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert saved(Image.new("RGB", (30, 20)), tmp_path / "a.jpg", exif=exif).shape == (30, 20, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 3), (17, 16)])
@pytest.mark.parametrize("tileable", [False, True])
def test_odd_sizes(net: Network, size: tuple[int, int], tileable: bool) -> None:
    picture = np.full((*size, 4), 200, np.uint8)
    for factor in (1.5, 4):
        found = upscale(picture, factor, net, tile=128, tileable=tileable)
        assert found.shape == (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)), 4)
        assert (found[..., 3] == 200).all()


def test_what_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"not a picture at all")
    assert "is not a picture" in refused(path)
    path.write_bytes(b"")
    refused(path)
    assert "cannot be read" in refused(tmp_path / "gone.png")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_damaged_files(tmp_path: Path, form: str, part: float) -> None:
    buffer = io.BytesIO()
    Image.fromarray(painted(64, 64)).save(buffer, form)
    data = buffer.getvalue()
    (tmp_path / "a").write_bytes(data[: int(len(data) * part)])
    assert refused(tmp_path / "a").endswith(".")


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_damaged_files_of_16_bits(tmp_path: Path, part: float) -> None:
    data = encode_png(painted(64, 64).astype(np.uint16) * 257, {})
    (tmp_path / "a.png").write_bytes(data[: int(len(data) * part)])
    refused(tmp_path / "a.png")


def bomb(side: int, bits: int) -> bytes:
    """A small file that says it has side x side pixels, grey."""
    head = struct.pack(">IIBBBBB", side, side, bits, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + side * bits // 8) * 64), 9)
    chunks = [(b"IHDR", head), (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


@pytest.mark.parametrize("side", [11_000, 20_000, 2_000_000_000])
@pytest.mark.parametrize("bits", [8, 16])
def test_what_is_far_too_large_is_refused_unread(tmp_path: Path, side: int, bits: int) -> None:
    small = (
        bomb(side, bits)
        if side < 100_000
        else bomb(1000, bits).replace(struct.pack(">I", 1000), struct.pack(">I", side))
    )
    (tmp_path / "a.png").write_bytes(small)
    assert len(small) < 100_000
    refused(tmp_path / "a.png")


def test_a_result_that_would_be_too_large(net: Network) -> None:
    picture = np.broadcast_to(np.uint8(0), (20_000, 20_000, 3))
    with pytest.raises(FailureError) as caught:
        upscale(picture, 1.5, net)
    assert "30000 x 30000" in caught.value.failure.message


@pytest.mark.parametrize(
    ("picture", "factor"),
    [
        (np.zeros((4, 4, 5), np.uint8), 2.0),
        (np.zeros((0, 4, 3), np.uint8), 2.0),
        (np.zeros((4, 4, 3), np.int32), 2.0),
        (np.full((4, 4, 3), np.nan, np.float32), 2.0),
        (np.full((4, 4, 3), np.inf, np.float32), 2.0),
        (np.zeros((4, 4, 3), np.uint8), 1.2),
        (np.zeros((4, 4, 3), np.uint8), 9.0),
        (np.zeros((4, 4, 3), np.uint8), float("nan")),
    ],
)
def test_what_cannot_be_enlarged_is_said(net: Network, picture: np.ndarray, factor: float) -> None:
    with pytest.raises(FailureError) as caught:
        upscale(picture, factor, net)
    assert caught.value.failure.kind == FailureKind.BAD_REQUEST


def test_bytes_are_read_as_files_are() -> None:
    buffer = io.BytesIO()
    Image.fromarray(painted(5, 6)).save(buffer, "PNG")
    assert (read_picture(buffer.getvalue(), "it") == painted(5, 6)).all()
