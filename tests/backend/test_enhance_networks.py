"""Networks from files: those that are read, and those that are refused in one sentence."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from backend.enhance.networks import Network, load_network
from backend.enhance.upscale import upscale
from backend.models.networks import find_network
from backend.wire import FailureError, FailureKind
from backend.wire.network_files import network_files
from tests.backend.enhance_samples import compact_weights, painted, small_network, write_compact


def refused(path: Path, kind: FailureKind) -> str:
    """What a user reads when the file is refused."""
    with pytest.raises(FailureError) as caught:
        load_network(path)
    failure = caught.value.failure
    assert failure.kind == kind, failure
    assert path.name in failure.message or path.stem in failure.message
    assert failure.message.endswith(".") and failure.hint.endswith(".") and "\n" not in failure.message
    return failure.message


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_a_compact_network_is_read(tmp_path: Path, ending: str) -> None:
    net = load_network(write_compact(tmp_path / f"4x-Sharp (v2){ending}"))
    assert (net.name, net.architecture, net.scale) == ("4x-Sharp (v2)", "RealESRGAN Compact", 4)
    assert (net.purpose, net.channels, net.is_half) == ("upscale", 3, False)
    assert net(torch.rand(1, 3, 20, 17)).shape == (1, 3, 80, 68)


def test_both_endings_give_the_same_picture(tmp_path: Path) -> None:
    nets = [load_network(write_compact(tmp_path / f"a{ending}")) for ending in (".safetensors", ".pth")]
    first, second = (upscale(painted(20, 20), 4, net) for net in nets)
    assert (first == second).all()


def test_old_pickles_without_an_archive_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save(compact_weights(), path, _use_new_zipfile_serialization=False)
    assert load_network(path).scale == 4


class Payload:
    """What an attacker pickles: opening it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("is_archive", [True, False])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, is_archive: bool) -> None:
    path, mark = tmp_path / "evil.pth", tmp_path / "it-ran"
    state = {"params": compact_weights(), "note": Payload(mark)}
    torch.save(state, path, _use_new_zipfile_serialization=is_archive)
    assert "holds more than weights" in refused(path, FailureKind.MODEL_UNSUPPORTED)
    assert not mark.exists()
    # The file does do harm where it is opened without care.
    torch.load(path, weights_only=False)
    assert mark.exists()


def test_a_bare_pickle_is_not_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "bare.pth", tmp_path / "it-ran"
    path.write_bytes(pickle.dumps(Payload(mark), protocol=2))
    with pytest.raises(FailureError):
        load_network(path)
    assert not mark.exists()


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, ending: str, part: float) -> None:
    path = write_compact(tmp_path / f"cut{ending}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    assert "cut off or damaged" in refused(path, FailureKind.MODEL_BROKEN)


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_noise_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"noise{ending}"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    refused(path, FailureKind.MODEL_BROKEN)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    state = compact_weights()
    state["body.2.weight"] = torch.zeros(3, 3)
    save_file(state, tmp_path / "odd.safetensors")
    refused(tmp_path / "odd.safetensors", FailureKind.MODEL_BROKEN)


def test_another_model_is_refused(tmp_path: Path) -> None:
    save_file({"lora_A.weight": torch.zeros(4, 4), "lora_B.weight": torch.zeros(4, 4)}, tmp_path / "lora.safetensors")
    assert "is not a network" in refused(tmp_path / "lora.safetensors", FailureKind.MODEL_UNSUPPORTED)
    torch.save([1, 2, 3], tmp_path / "list.pth")
    refused(tmp_path / "list.pth", FailureKind.MODEL_UNSUPPORTED)


def test_another_ending_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    torch.save(compact_weights(), path)
    refused(path, FailureKind.MODEL_UNSUPPORTED)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    refused(tmp_path / "gone.safetensors", FailureKind.MODEL_MISSING)


@pytest.mark.parametrize(
    ("kind", "weight"),
    [
        ("CodeFormer", "idx_pred_layer.1.weight"),
        ("MAT", "model.synthesis.first_stage.conv_first.conv.resample_filter"),
        ("SRFormer", "layers.0.residual_group.blocks.0.attn.aligned_relative_position_index"),
    ],
)
def test_what_may_not_be_used_commercially_is_refused_by_name(tmp_path: Path, kind: str, weight: str) -> None:
    path = tmp_path / "net.pth"
    torch.save({"params_ema": {weight: torch.zeros(2, 2)}}, path)
    assert kind in refused(path, FailureKind.MODEL_UNSUPPORTED)


def test_a_network_for_filling_holes_is_refused(tmp_path: Path) -> None:
    """LaMa takes a mask, too; its class is known to spandrel."""
    state = {"model.model.1.bn_l.running_mean": torch.zeros(1), "generator.model.1.bn_l.running_mean": torch.zeros(1)}
    save_file(state, tmp_path / "lama.safetensors")
    with pytest.raises(FailureError):
        load_network(tmp_path / "lama.safetensors")


def overflowing(folder: Path) -> Network:
    """In float16 its middle is infinite; in float32 it is a picture like another."""
    state = compact_weights()
    for name in ("body.0.weight", "body.0.bias"):
        state[name] *= 3e5
    state["body.2.weight"] *= 1.0 / 3e5
    path = folder / "loud.safetensors"
    save_file(state, path)
    return load_network(path, half=True)


def test_what_half_precision_cannot_hold_is_computed_in_full(tmp_path: Path) -> None:
    net, image = overflowing(tmp_path), torch.rand(1, 3, 24, 24)
    assert net.is_half
    assert net._half is not None and not torch.isfinite(net._half(image.half())).all()
    exact = load_network(tmp_path / "loud.safetensors", half=False)(image)
    assert torch.equal(net(image), exact)


def test_half_precision_where_it_suffices(tmp_path: Path) -> None:
    path = write_compact(tmp_path / "a.safetensors")
    half, full, image = load_network(path, half=True), load_network(path), torch.rand(1, 3, 24, 24)
    difference = (half(image) - full(image)).abs().max()
    assert 0.0 < difference < 5e-3


def test_a_network_that_gives_no_numbers_is_refused(tmp_path: Path) -> None:
    state = compact_weights()
    state["body.0.weight"][0] = torch.nan
    save_file(state, tmp_path / "nan.safetensors")
    net = load_network(tmp_path / "nan.safetensors")
    with pytest.raises(FailureError) as caught:
        upscale(painted(20, 20), 4, net)
    assert caught.value.failure.kind == FailureKind.MODEL_BROKEN


def test_the_folder_says_which_there_are(tmp_path: Path) -> None:
    folder = tmp_path / "upscalers"
    assert network_files(tmp_path) == []
    write_compact(folder / "b.pth")
    first = write_compact(folder / "b.safetensors")
    write_compact(folder / "A net (4x).pth")
    (folder / "readme.txt").write_text("no network")
    found = network_files(tmp_path)
    assert [file.name for file in found] == ["A net (4x)", "b"]
    assert found[1].path == first and found[1].size == first.stat().st_size
    assert find_network(tmp_path, "b") == first


@pytest.mark.parametrize("name", ["gone", "../upscalers/b", "/etc/passwd", ""])
def test_a_network_that_is_not_there_is_said(tmp_path: Path, name: str) -> None:
    write_compact(tmp_path / "upscalers" / "b.pth")
    with pytest.raises(FailureError) as caught:
        find_network(tmp_path, name)
    assert caught.value.failure.kind == FailureKind.MODEL_MISSING
    assert "(b)" in caught.value.failure.hint


def test_a_network_moves_aside(tmp_path: Path) -> None:
    net = small_network(tmp_path)
    assert net.to("cpu") is net
    assert net.device == torch.device("cpu")
