"""What a plan expects of networks that enhance pictures, against what lives at once, and who leaves for whom."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.enhance.networks import Network
from backend.enhance.upscale import TILES as UPSCALE_TILES
from backend.models import find_model
from backend.models.sizes import model_sizes
from backend.planning import Work, choose_model, make_plan, upscaler_needs
from backend.planning.estimate import STAGES
from backend.planning.networks import TILES
from backend.production import Production
from backend.production.network_part import NetworkPart
from backend.wire import ControlMaps, Enhancement, FailureError, FailureKind, GenerationRequest
from tests.backend.apart import apart
from tests.backend.enhance_samples import painted, write_compact
from tests.backend.live_bytes import LiveBytes
from tests.backend.plan_models import GB, card, cpu, model
from tests.backend.samples import failed, kept_model, made, pixels, run

NETWORKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "RealESRGAN_x4plus": (
        "ESRGAN.__arch.RRDB", "RRDBNet", {"in_nc": 3, "out_nc": 3, "num_filters": 64, "num_blocks": 3, "scale": 4}
    ),
    "realesr-general-x4v3": ("Compact", "Compact", {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 64, "upscale": 4}),
    "SwinIR-L_x4": (
        "SwinIR", "SwinIR",
        {"upscale": 4, "img_size": 64, "window_size": 8, "depths": [6], "embed_dim": 240, "num_heads": [8],
         "mlp_ratio": 2, "upsampler": "nearest+conv", "resi_connection": "3conv"},
    ),
    "Real_HAT_GAN_SRx4": (
        "HAT", "HAT",
        {"upscale": 4, "img_size": 64, "window_size": 16, "depths": [6], "embed_dim": 180, "num_heads": [6],
         "mlp_ratio": 2, "overlap_ratio": 0.5, "upsampler": "pixelshuffle"},
    ),
    "DAT_x4": (
        "DAT", "DAT",
        {"upscale": 4, "img_size": 64, "split_size": [8, 32], "depth": [6], "embed_dim": 180, "num_heads": [6],
         "expansion_factor": 4},
    ),
}  # fmt: skip
"""Published ones: how their files are called, and spandrel's class. Of blocks alike fewer than they have."""
FILES = {"realesr-general-x4v3": 4_900_000}
SIDE = 64


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("ignore:torch.meshgrid")
def test_a_tile_takes_what_was_expected(name: str) -> None:
    place, kind, options = NETWORKS[name]
    net = getattr(import_module(f"spandrel.architectures.{place}"), kind)(**options).eval()
    with torch.inference_mode(), LiveBytes() as memory:
        net(torch.zeros(1, 3, SIDE, SIDE))
    needs = upscaler_needs(name, FILES.get(name, 60_000_000), "cpu")
    expected = needs.beside * SIDE**2 / TILES["cpu"] ** 2
    assert memory.peak <= expected <= 1.25 * memory.peak


def test_tiles_are_as_large_as_they_are_planned_for() -> None:
    assert TILES == UPSCALE_TILES


def test_the_plan_knows_of_the_network_and_who_leaves_for_it() -> None:
    folder, sizes = model("q4", "Q4_K_S")
    request = GenerationRequest("a cube", 1024, 1024)
    needs = upscaler_needs("RealESRGAN_x4plus", 67_000_000, "cuda")
    work = replace(Work.of(request, folder, []), network=needs)
    wide, narrow = (make_plan(card(free), folder, sizes, work) for free in (24.0, 7.2))
    plain = make_plan(card(7.2), folder, sizes, Work.of(request, folder, []))
    assert plain.peaks.keys() == set(STAGES) and wide.peaks.keys() == {*STAGES, "enhancing"}
    assert wide.peaks["enhancing"] > needs.both + sizes.transformer * 0.7, "all that is there stays there"
    assert narrow.placement == plain.placement and narrow.fits, "the model leaves for the network, and stays as it was"
    assert narrow.peaks["enhancing"] <= narrow.machine.usable
    assert "leave while the picture is enhanced" in narrow.lines[1] and "enhanced" not in wide.lines[1]
    huge = replace(work, network=replace(needs, weights=round(30.0 * GB)))
    assert not make_plan(card(7.2), folder, sizes, huge).fits
    shared = make_plan(cpu(32.0), folder, sizes, work)
    assert shared.peaks["enhancing"] > needs.both + sizes.transformer * 0.7, "from shared memory nothing leaves"


@pytest.fixture
def folder(models_folder: Path, tmp_path: Path) -> Path:
    (tmp_path / "random-weights").symlink_to(models_folder / "random-weights", target_is_directory=True)
    write_compact(tmp_path / "upscalers" / "tiny-x2.safetensors", scale=2)
    return tmp_path


REQUEST = GenerationRequest(
    "a wall", 48, 48, steps=4, task="enhance", model="random-weights", enhancement=Enhancement(4.0, detail=0.5)
)


def enhance(production: Production, request: GenerationRequest = REQUEST) -> Any:
    return run(production, request, ControlMaps(picture=painted(48, 48)))


def test_network_and_model_make_room_for_each_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a card with room for the model alone: 2x, the network leaves, detail, the network comes, 2x."""
    there = pixels(made(enhance(Production(folder, "cpu"))).png)
    log: list[str] = []
    for name in ("come", "leave"):
        real = getattr(NetworkPart, name)

        def logged(self: NetworkPart, *args: Any, name: str = name, real: Any = real) -> None:
            log.append(name)
            real(self, *args)

        monkeypatch.setattr(NetworkPart, name, logged)
    sizes = model_sizes(find_model(folder, "random-weights"))
    room = sizes.transformer * 8
    production = Production(folder, "cpu")
    with apart(room):
        monkeypatch.setattr(NetworkPart, "size", lambda self: room)
        assert np.array_equal(pixels(made(enhance(production)).png), there)
        assert log == ["come", "leave", "come"]
        residency = kept_model(production).places.residency
        assert not residency.here(), "the model has left for the last doubling"
        log.clear()
        assert np.array_equal(pixels(made(enhance(production)).png), there), "and comes again"
    assert log == ["come", "leave", "come"] and "guest" not in residency


def test_where_memory_runs_out_all_the_same_the_model_leaves(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    production = Production(folder, "cpu")
    request = GenerationRequest("a wall", 64, 64, steps=1, model="random-weights", enhancement=Enhancement(2.0))
    there = pixels(made(run(production, request)).png)
    real = Network.__call__

    def call(self: Network, image: torch.Tensor) -> torch.Tensor:
        if production._keeper.loaded is not None:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(self, image)

    monkeypatch.setattr(Network, "__call__", call)
    result = made(run(production, request))
    assert np.array_equal(pixels(result.png), there) and "the model left for it" in result.plan["note"]

    def never(self: Network, image: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Network, "__call__", never)
    failure = failed(run(production, request))
    assert failure.kind == FailureKind.OUT_OF_MEMORY and "too little" in failure.message


def test_a_model_that_can_paint_detail_is_chosen_before_one_that_cannot() -> None:
    able, unable = model("q4", "Q4_K_S"), model("kontext", "Q8_0")
    unable = (replace(unable[0], variant="kontext-dev"), unable[1])
    request = GenerationRequest("a cube", task="edit", enhancement=Enhancement(2.0, detail=0.3))
    with pytest.raises(FailureError, match="cannot"):
        choose_model(request, [able, unable], card(24.0))
    enhancing = replace(request, task="enhance", width=3000, height=2000)
    assert choose_model(enhancing, [unable, able], card(24.0)).folder.name == "q4"
