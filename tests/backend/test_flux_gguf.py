"""The GGUF reader, against gguf-py's writer and against files that lie."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.flux.gguf_file import OTHER_TYPE_NAMES, TENSOR_TYPES, read_gguf
from backend.wire import Failure, FailureError, FailureKind


def write(path: Path, tensors: dict[str, tuple[np.ndarray, GGMLQuantizationType]]) -> bytes:
    writer = GGUFWriter(path, "flux")
    writer.add_string("general.name", "été")
    writer.add_array("a.list.of.words", ["one", "two"])
    writer.add_array("a.list.of.numbers", [1, 2, 3])
    writer.add_float32("a.number", 0.5)
    writer.add_bool("a.switch", True)
    for name, (values, kind) in tensors.items():
        writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def sample(path: Path) -> bytes:
    rng = np.random.default_rng(0)
    return write(
        path,
        {
            "a.weight": (rng.standard_normal((6, 64), np.float32), GGMLQuantizationType.Q8_0),
            "b.weight": (rng.standard_normal((5, 7), np.float32), GGMLQuantizationType.F16),
            "b.bias": (rng.standard_normal(5, np.float32), GGMLQuantizationType.F32),
        },
    )


def refused(path: Path) -> Failure:
    with pytest.raises(FailureError) as caught:
        read_gguf(path)
    return caught.value.failure


def test_reads_what_gguf_py_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    sample(path)
    file = read_gguf(path)
    assert file.metadata["general.architecture"] == "flux"
    assert file.metadata["general.name"] == "été"
    assert file.metadata["a.number"] == 0.5
    assert file.metadata["a.switch"] is True
    reference = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert list(file.tensors) == list(reference)
    for name, tensor in file.tensors.items():
        assert tensor.shape == tuple(int(side) for side in reversed(reference[name].shape))
        assert tensor.type.name == reference[name].tensor_type.name
        assert tensor.packed.tobytes() == reference[name].data.tobytes()


def test_the_table_of_types_is_ggml_s() -> None:
    for number, kind in TENSOR_TYPES.items():
        reference = GGMLQuantizationType(number)
        assert (kind.name, (kind.block_size, kind.block_bytes)) == (reference.name, gguf.GGML_QUANT_SIZES[reference])
    assert all(GGMLQuantizationType(number).name == name for number, name in OTHER_TYPE_NAMES.items())


def test_version_2_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    data = bytearray(sample(path))
    data[4:8] = struct.pack("<I", 2)
    path.write_bytes(data)
    assert len(read_gguf(path).tensors) == 3


def test_missing(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.gguf").kind == FailureKind.MODEL_MISSING


@pytest.mark.parametrize("size", [0, 3, 23])
def test_too_short(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(sample(tmp_path / "b.gguf")[:size])
    assert refused(path).kind == FailureKind.MODEL_BROKEN


def test_wrong_magic(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGML" + sample(tmp_path / "b.gguf")[4:])
    failure = refused(path)
    assert failure.kind == FailureKind.MODEL_BROKEN
    assert "is not a GGUF file" in failure.message


@pytest.mark.parametrize("version", [0, 1, 4, 0x03000000])
def test_other_versions(tmp_path: Path, version: int) -> None:
    path = tmp_path / "a.gguf"
    data = bytearray(sample(path))
    data[4:8] = struct.pack("<I", version)
    path.write_bytes(data)
    assert refused(path).kind == FailureKind.MODEL_UNSUPPORTED


def test_truncated_anywhere(tmp_path: Path) -> None:
    data = sample(tmp_path / "whole.gguf")
    path = tmp_path / "a.gguf"
    last = read_gguf(tmp_path / "whole.gguf").tensors["b.bias"].packed.nbytes
    for size in (*range(24, len(data) - 64, 37), len(data) - 32 + last - 1):
        path.write_bytes(data[:size])
        assert refused(path).kind == FailureKind.MODEL_BROKEN, size


def table_file(path: Path, *rows: bytes, data: bytes = bytes(4096), count: int | None = None) -> None:
    header = b"GGUF" + struct.pack("<IQQ", 3, len(rows) if count is None else count, 0)
    table = header + b"".join(rows)
    path.write_bytes(table + bytes(-len(table) % 32) + data)


def row(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0, dimensions: int | None = None) -> bytes:
    """shape: in the file's order."""
    encoded = name.encode()
    sides = struct.pack(f"<{len(shape)}Q", *shape)
    count = len(shape) if dimensions is None else dimensions
    return (
        struct.pack("<Q", len(encoded)) + encoded + struct.pack("<I", count) + sides + struct.pack("<IQ", kind, offset)
    )


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([row("a", (32,)), row("a", (32,), offset=128)], FailureKind.MODEL_BROKEN),
        ([row("a", (0,))], FailureKind.MODEL_BROKEN),
        ([row("a", (2**63, 2))], FailureKind.MODEL_BROKEN),
        ([row("a", (2**32, 2**32))], FailureKind.MODEL_BROKEN),
        ([row("a", (33,), kind=8)], FailureKind.MODEL_BROKEN),
        ([row("a", (4,), dimensions=2**31)], FailureKind.MODEL_BROKEN),
        ([row("a", (), dimensions=0)], FailureKind.MODEL_BROKEN),
        ([row("a", (1, 1, 1, 1, 1))], FailureKind.MODEL_BROKEN),
        ([row("a", (32,), offset=2**62)], FailureKind.MODEL_BROKEN),
        ([row("a", (32,), offset=31)], FailureKind.MODEL_BROKEN),
        ([row("a", (32,)), row("b", (32,), offset=64)], FailureKind.MODEL_BROKEN),
        ([row("a", (32,), kind=999)], FailureKind.MODEL_BROKEN),
        ([row("a", (256,), kind=16)], FailureKind.MODEL_UNSUPPORTED),
        ([row("a", (1025,))], FailureKind.MODEL_BROKEN),
    ],
    ids=["twice", "empty", "overflow", "product", "half a block", "axes", "no axis", "five axes", "offset",
         "unaligned", "overlap", "unknown type", "unread type", "past the end"],
)  # fmt: skip
def test_impossible_tables(tmp_path: Path, rows: list[bytes], kind: FailureKind) -> None:
    path = tmp_path / "a.gguf"
    table_file(path, *rows)
    assert refused(path).kind == kind


def test_a_possible_table_is_read(tmp_path: Path) -> None:
    """So that the tables above are refused for what they are about."""
    path = tmp_path / "a.gguf"
    table_file(path, row("a", (32,)), row("b", (32, 2), offset=128))
    assert read_gguf(path).tensors["b"].shape == (2, 32)


def test_giant_counts_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    table_file(path, count=2**63)
    assert refused(path).kind == FailureKind.MODEL_BROKEN
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60) + bytes(64))
    assert refused(path).kind == FailureKind.MODEL_BROKEN
    key = struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, 8, 2**40)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + key + bytes(64))
    assert refused(path).kind == FailureKind.MODEL_BROKEN


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=6))
def test_changed_bytes_are_read_or_refused(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    """Whatever byte is changed: a file or a sentence, never another exception."""
    whole = tmp_path / "whole.gguf"
    data = bytearray(whole.read_bytes() if whole.exists() else sample(whole))
    for place, value in changes:
        data[place % len(data)] = value
    path = tmp_path / "a.gguf"
    path.write_bytes(data)
    try:
        for tensor in read_gguf(path).tensors.values():
            assert tensor.packed.nbytes <= len(data)
    except FailureError as error:
        assert error.failure.message.endswith(".")
