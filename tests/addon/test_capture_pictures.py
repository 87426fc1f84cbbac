"""The arithmetic of a capture, without a scene: OpenEXR files, depth and normals from a draw, lines."""

from __future__ import annotations

import struct
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.addon import looking

PERSPECTIVE = (2.0, 0.0, 0.1, 0.0, 0.0, 2.0, -0.2, 0.0, 0.0, 0.0, -1.0002, -0.20002, 0.0, 0.0, -1.0, 0.0)
ORTHOGRAPHIC = (0.2, 0.0, 0.0, 0.05, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0, -0.02, -1.0, 0.0, 0.0, 0.0, 1.0)


def exr_file(channels: dict[str, np.ndarray], is_multipart: bool, bottom_first: bool = False) -> bytes:
    """An uncompressed scanline OpenEXR file, written by the format's description."""
    height, width = next(iter(channels.values())).shape
    parts = [{name: array} for name, array in channels.items()] if is_multipart else [channels]
    head = struct.pack("<iI", 20000630, 2 | 0x400 | (0x1000 if is_multipart else 0))
    for number, part in enumerate(parts):
        names = sorted(part)
        listed = b"".join(name.encode() + b"\0" + struct.pack("<iIii", 2, 0, 1, 1) for name in names) + b"\0"
        window = struct.pack("<4i", 0, 0, width - 1, height - 1)
        for key, kind, value in (
            ("channels", "chlist", listed),
            ("compression", "compression", b"\0"),
            ("dataWindow", "box2i", window),
            ("name", "string", f"part{number}".encode()),
        ):
            head += key.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value
        head += b"\0"
    head += b"\0" if is_multipart else b""
    at = len(head) + 8 * height * len(parts)
    tables, body = b"", b""
    for number, part in enumerate(parts):
        rows = {}
        for y in range(height - 1, -1, -1) if bottom_first else range(height):
            data = b"".join(part[name][y].astype("<f4").tobytes() for name in sorted(part))
            rows[y] = at + len(body)
            body += (struct.pack("<i", number) if is_multipart else b"") + struct.pack("<ii", y, len(data)) + data
        tables += b"".join(struct.pack("<Q", rows[y]) for y in range(height))
    return head + tables + body


def sample_channels() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    return {f"Layer.Normal.{axis}": random.normal(size=(5, 7)).astype(np.float32) for axis in "XYZ"}


@pytest.mark.parametrize("is_multipart", [False, True])
@pytest.mark.parametrize("bottom_first", [False, True])
def test_an_exr_file_gives_its_channels(
    is_multipart: bool, bottom_first: bool, grisaille: ModuleType, tmp_path: Path
) -> None:
    channels = sample_channels()
    path = tmp_path / "picture.exr"
    path.write_bytes(exr_file(channels, is_multipart, bottom_first))
    read = looking.module("addon.capture.exr").read_exr(path)
    assert set(read) == set(channels)
    assert all(np.array_equal(read[name], channels[name]) for name in channels)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 900), place=st.integers(0, 400), byte=st.integers(0, 255), is_multipart=st.booleans())
def test_a_damaged_exr_file_is_refused_or_read_but_never_crashes(
    cut: int, place: int, byte: int, is_multipart: bool, grisaille: ModuleType, tmp_path: Path
) -> None:
    data = bytearray(exr_file(sample_channels(), is_multipart))
    data[place % len(data)] = byte
    path = tmp_path / "picture.exr"
    path.write_bytes(data[: len(data) - cut % len(data)])
    try:
        read = looking.module("addon.capture.exr").read_exr(path)
    except ValueError:
        return
    assert all(array.dtype == np.float32 and array.ndim == 2 for array in read.values())


def window_depth(depth: np.ndarray, projection: tuple[float, ...]) -> np.ndarray:
    """What a graphics card stores for planar depths."""
    w = np.where(projection[14] == 0.0, 1.0, depth)
    return (((-projection[10] * depth + projection[11]) / w) * 0.5 + 0.5).astype(np.float32)


@pytest.mark.parametrize("projection", [PERSPECTIVE, ORTHOGRAPHIC])
def test_planar_depth_undoes_the_projection(projection: tuple[float, ...], grisaille: ModuleType) -> None:
    depth = np.linspace(0.5, 40.0, 64).reshape(8, 8)
    stored = window_depth(depth, projection)
    stored[0, 0] = 1.0
    ours = looking.module("addon.capture.decode").planar_depth(stored, projection)
    assert ours.dtype == np.float32 and np.isinf(ours[0, 0])
    assert np.allclose(ours.ravel()[1:], depth.ravel()[1:], rtol=1e-3)


def plane(normal: tuple[float, float, float], projection: tuple[float, ...], size: int = 64) -> np.ndarray:
    """Planar depths of a plane through the point 10 units before the viewer."""
    x, y = (np.arange(size) + 0.5) / size * 2 - 1, 1 - (np.arange(size) + 0.5) / size * 2
    x, y = np.meshgrid(x, y)
    a, b, c = normal
    if projection[14] == 0.0:
        return (10.0 + (a * (x - projection[3]) / projection[0] + b * (y - projection[7]) / projection[5]) / c).astype(
            np.float32
        )
    x, y = (x + projection[2]) / projection[0], (y + projection[6]) / projection[5]
    return (-10.0 * c / (a * x + b * y - c)).astype(np.float32)


@pytest.mark.parametrize("projection", [PERSPECTIVE, ORTHOGRAPHIC])
@pytest.mark.parametrize("normal", [(0.0, 0.0, 1.0), (0.6, 0.0, 0.8), (-0.3, 0.4, 0.866), (0.0, -0.8, 0.6)])
def test_the_normals_of_a_plane_are_found_from_its_depth(
    normal: tuple[float, float, float], projection: tuple[float, ...], grisaille: ModuleType
) -> None:
    found = looking.module("addon.capture.decode").normals_of_depth(plane(normal, projection), projection)
    assert np.abs(found - np.array(normal) / np.linalg.norm(normal)).max() < 0.01


@pytest.mark.parametrize("projection", [PERSPECTIVE, ORTHOGRAPHIC])
@pytest.mark.parametrize("steepness", [0.0, 2.0, 20.0, 60.0])
def test_a_plane_has_no_lines_however_grazing(
    steepness: float, projection: tuple[float, ...], grisaille: ModuleType
) -> None:
    normal = np.array((0.0, steepness, 1.0)) / np.hypot(steepness, 1.0)
    depth = plane(tuple(normal), projection)
    depth = np.where((depth > 0.05) & (depth < 1e4), depth, np.float32(np.inf)).astype(np.float32)
    normals = np.broadcast_to(normal.astype(np.float32), (*depth.shape, 3)) * np.isfinite(depth)[..., None]
    line = looking.module("backend.wire.lines").lines_from_maps(depth, normals.astype(np.float32), projection)
    # The sky may begin somewhere: only its border is a line.
    inside = ~looking.grown(np.isinf(depth))
    assert inside.sum() > 500
    assert not line[inside].any()


@pytest.mark.parametrize("projection", [PERSPECTIVE, ORTHOGRAPHIC])
def test_a_box_before_a_wall_has_a_thin_outline_on_its_own_side(
    projection: tuple[float, ...], grisaille: ModuleType
) -> None:
    depth = np.full((64, 64), 10.0, np.float32)
    depth[20:44, 16:48] = 8.0
    normals = np.zeros((64, 64, 3), np.float32)
    normals[..., 2] = 1.0
    line = looking.module("backend.wire.lines").lines_from_maps(depth, normals, projection)
    outline = np.zeros((64, 64), bool)
    outline[20:44, 16:48] = True
    outline[21:43, 17:47] = False
    assert np.array_equal(line > 0.5, outline)


def test_a_fold_between_two_faces_is_a_line_and_a_bend_is_none(grisaille: ModuleType) -> None:
    depth = np.full((64, 64), 10.0, np.float32)
    tilt = np.radians(np.concatenate([np.linspace(0.0, 60.0, 32), np.full(32, -30.0)]))
    normals = np.zeros((64, 64, 3), np.float32)
    normals[..., 0], normals[..., 2] = np.sin(tilt), np.cos(tilt)
    line = looking.module("backend.wire.lines").lines_from_maps(depth, normals, PERSPECTIVE)
    assert (line[:, 31] == 1.0).all()
    assert not np.delete(line, 31, axis=1).any()
