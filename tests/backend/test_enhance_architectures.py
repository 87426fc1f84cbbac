"""The networks that a user may bring besides Real-ESRGAN and GFPGAN: spandrel's classes, small, with random weights.

Random weights of windows and attention make far larger differences between tiles than trained ones do, so what holds
here holds there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from spandrel.architectures.DAT import DAT
from spandrel.architectures.ESRGAN import ESRGAN
from spandrel.architectures.HAT import HAT
from spandrel.architectures.RestoreFormer import RestoreFormer
from spandrel.architectures.SCUNet import SCUNet
from spandrel.architectures.SwinIR import SwinIR
from torch import nn

from backend.enhance.align import FACE_SIDE, TEMPLATE
from backend.enhance.detect_faces import Face
from backend.enhance.faces import restore_faces
from backend.enhance.networks import Network, load_network
from backend.enhance.upscale import upscale
from backend.wire import FailureError, FailureKind
from tests.backend.enhance_samples import painted

# HAT's constructor in spandrel calls torch.meshgrid as older versions had it; DAT's makes layers of no size.
pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning"),
    pytest.mark.filterwarnings("ignore:Initializing zero-element tensors:UserWarning"),
]
SWIN = {"img_size": 48, "patch_size": 1, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2], "mlp_ratio": 2.0}
HAT_SIDES = {"img_size": 64, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 2), "mlp_ratio": 2.0, "num_feat": 16}
DAT_SIDES = {"img_size": 64, "embed_dim": 16, "split_size": [8, 32], "expansion_factor": 2.0}
MAKERS: dict[str, Callable[[], nn.Module]] = {
    "ESRGAN x2": lambda: ESRGAN(in_nc=12, num_filters=16, num_blocks=1, shuffle_factor=2),
    "SwinIR x4": lambda: SwinIR(**SWIN, window_size=8, upscale=4, upsampler="nearest+conv"),
    "SwinIR x2": lambda: SwinIR(**SWIN, window_size=8, upscale=2, upsampler="pixelshuffledirect"),
    "SwinIR unshuffled": lambda: SwinIR(**SWIN, window_size=8, upscale=4, start_unshuffle=2, upsampler="nearest+conv"),
    "SwinIR grey": lambda: SwinIR(**{**SWIN, "img_size": 42}, in_chans=1, window_size=7, img_range=255.0),
    "HAT": lambda: HAT(**HAT_SIDES, window_size=16, compress_ratio=3, squeeze_factor=8, upscale=4),
    "DAT": lambda: DAT(**DAT_SIDES, depth=[4, 2], num_heads=[2, 2], upscale=2),
    "DAT light": lambda: DAT(
        **DAT_SIDES, depth=[4], num_heads=[2], upscale=4, resi_connection="3conv", upsampler="pixelshuffledirect"
    ),
    "SCUNet": lambda: SCUNet(config=[1] * 7),
    "RestoreFormer": lambda: RestoreFormer(
        n_embed=16, embed_dim=32, ch=32, ch_mult=(1,) * 6, num_res_blocks=1, z_channels=32
    ),
}
"""As their authors set them, with fewer and narrower layers; windows and what is around them are the real ones."""
WINDOWS = {
    "ESRGAN x2": 4, "SwinIR x4": 8, "SwinIR x2": 8, "SwinIR unshuffled": 16, "SwinIR grey": 7, "HAT": 16, "SCUNet": 64,
}  # fmt: skip
"""Those that see of a picture what is near, and HAT, whose one look at all of it counts for a hundredth. Real-ESRGAN's
x2 folds 2 x 2 pixels into one."""
HALF = ("ESRGAN x2", "SCUNet")
"""Those that may compute in float16."""
GLOBAL = {"DAT": 32, "DAT light": 32}
"""Those that weigh their channels by the whole of what they get."""
UPSCALERS = [name for name in (*WINDOWS, *GLOBAL) if name not in ("SwinIR grey", "SCUNet")]


@pytest.fixture(scope="module")
def made() -> dict[str, nn.Module]:
    found = {}
    for index, (name, make) in enumerate(MAKERS.items()):
        torch.manual_seed(index)
        found[name] = make().eval()
    return found


@pytest.fixture(scope="module")
def folder(made: dict[str, nn.Module], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each as its authors publish it, in a .pth under params_ema, and as safetensors."""
    folder = tmp_path_factory.mktemp("upscalers")
    for name, model in made.items():
        state = {key: value.clone() for key, value in model.state_dict().items()}
        if name == "SwinIR unshuffled":  # its authors' files have the layer as the second of two
            state = {key.replace("conv_first.", "conv_first.1."): value for key, value in state.items()}
        save_file(state, folder / f"{name}.safetensors")
        torch.save({"params_ema": state}, folder / f"{name}.pth")
    return folder


@pytest.fixture
def load(folder: Path) -> Callable[..., Network]:
    return lambda name, ending=".safetensors", **options: load_network(folder / f"{name}{ending}", **options)


def by_class(model: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """What the class itself makes of it, without spandrel's reading of files and without ours."""
    with torch.inference_mode():
        if isinstance(model, RestoreFormer):
            return ((model(image * 2.0 - 1.0)[0] + 1.0) / 2.0).clamp(0.0, 1.0)
        return model(image).clamp(0.0, 1.0)


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", MAKERS)
def test_the_file_is_the_network_that_was_saved(
    made: dict[str, nn.Module], load: Callable[..., Network], name: str, ending: str
) -> None:
    net = load(name, ending)
    assert net.architecture == name.split()[0]
    assert net.purpose == {"RestoreFormer": "face", "SwinIR grey": "restore", "SCUNet": "restore"}.get(name, "upscale")
    side = FACE_SIDE if net.purpose == "face" else 64
    torch.manual_seed(9)
    image = torch.rand(1, net.channels, side, side)
    wanted = by_class(made[name], image)
    assert wanted.std() > 0.01 and wanted.shape[2] == side * net.scale
    # Sums differ in the last bits by how memory lies, and RestoreFormer rounds to the nearest of its words.
    assert (net(image) - wanted).abs().max() < 1e-3


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in HALF])
def test_no_other_computes_in_half_precision(load: Callable[..., Network], name: str) -> None:
    """Attention of theirs overflows float16: spandrel says so, and asking for it changes nothing."""
    net = load(name, half=True)
    assert not net.is_half and {value.dtype for value in net._full.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", HALF)
def test_some_may_and_stay_near(load: Callable[..., Network], name: str) -> None:
    half, full, image = load(name, half=True), load(name), torch.rand(1, 3, 64, 64)
    assert half.is_half and 0.0 < (half(image) - full(image)).abs().max() < 0.02


def whole(net: Network, picture: np.ndarray) -> np.ndarray:
    return net(torch.from_numpy(picture).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()


def picture_for(net: Network) -> np.ndarray:
    """Of odd sides, which no window divides; so long that tiles are needed."""
    picture = painted(53, 301).astype(np.float32) / 255.0
    return np.ascontiguousarray(picture[..., : net.channels])


@pytest.mark.parametrize("name", WINDOWS)
def test_tiled_is_as_untiled_where_tiles_begin_with_a_window(load: Callable[..., Network], name: str) -> None:
    net = load(name)
    assert net.align == WINDOWS[name]
    picture = picture_for(net)
    wanted = whole(net, picture)
    assert np.abs(upscale(picture, float(net.scale), net, fidelity=0.0, tile=192, overlap=128) - wanted).max() < 1e-3
    net.align = 1
    assert np.abs(upscale(picture, float(net.scale), net, fidelity=0.0, tile=187, overlap=123) - wanted).max() > 2e-3


@pytest.mark.parametrize("name", GLOBAL)
def test_what_sees_all_of_a_picture_comes_near(load: Callable[..., Network], name: str) -> None:
    """Tiles that do not begin with a window are further off."""
    net = load(name)
    assert net.align == GLOBAL[name]
    picture = picture_for(net)
    wanted = whole(net, picture)
    off = [
        np.abs(upscale(picture, float(net.scale), net, fidelity=0.0, tile=tile, overlap=96) - wanted).max()
        for tile in (160, 192, 224)
    ]
    assert max(off) < 1e-3
    net.align = 1
    assert np.abs(upscale(picture, float(net.scale), net, fidelity=0.0, tile=187, overlap=93) - wanted).max() > 2 * max(
        off
    )


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 70, 3), (41, 33, 4), (29, 50, 2), (37, 35)])
@pytest.mark.parametrize("name", UPSCALERS)
def test_any_size_and_number_format(load: Callable[..., Network], name: str, shape: tuple[int, ...]) -> None:
    net, chance = load(name), np.random.default_rng(0)
    for dtype, most in ((np.uint8, 255), (np.uint16, 65535), (np.float32, 1)):
        picture = (chance.uniform(0.0, 1.0, shape) * most).astype(dtype)
        if len(shape) == 3 and shape[2] in (2, 4):
            picture[: shape[0] // 2, ..., -1] = 0
        found = upscale(picture, 2.7, net, tile=64)
        assert found.dtype == dtype and found.shape == (
            max(1, round(shape[0] * 2.7)), max(1, round(shape[1] * 2.7)), *shape[2:]
        )  # fmt: skip
        if len(shape) == 3 and shape[2] in (2, 4):
            assert (found[: found.shape[0] // 2 - 9, ..., -1] == 0).all(), "what was transparent stays so"
        assert (upscale(picture, 2.7, net, tile=64) == found).all(), "same picture in, same bytes out"


@pytest.mark.parametrize("name", ["SwinIR x4", "HAT", "DAT"])
def test_a_texture_that_tiles_still_does(load: Callable[..., Network], name: str) -> None:
    """Rolled by whole windows it is the same texture, and so is what comes of it."""
    net = load(name)
    texture = painted(64, 96).astype(np.float32) / 255.0
    found = upscale(texture, float(net.scale), net, tile=256, overlap=128, tileable=True)
    by = net.align, 2 * net.align
    rolled = upscale(np.roll(texture, by, (0, 1)), float(net.scale), net, tile=256, overlap=128, tileable=True)
    assert np.abs(np.roll(found, [side * net.scale for side in by], (0, 1)) - rolled).max() < 1e-3


def test_normals_by_a_transformer_stay_unit_long(load: Callable[..., Network]) -> None:
    y, x = (np.mgrid[0:41, 0:50] / 25.0 - 1.0).astype(np.float32)
    normals = np.stack([0.6 * np.sin(3 * x), 0.6 * np.cos(4 * y), np.ones_like(x)], axis=2)
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    found = upscale(normals * 0.5 + 0.5, 2.0, load("SwinIR x2"), kind="normal") * 2.0 - 1.0
    length = np.linalg.norm(found, axis=2)
    assert ((np.abs(length - 1.0) < 1e-3) | (length < 1e-3)).all() and (length > 0.5).any()


def test_restoreformer_restores_faces_and_nothing_else(load: Callable[..., Network]) -> None:
    """Two faces, one of them turned, in a picture of 16 bits with alpha."""
    net = load("RestoreFormer", ".pth")
    picture = (np.concatenate([painted(301, 603) / 255.0, np.full((301, 603, 1), 0.5)], axis=2) * 65535).astype(
        np.uint16
    )
    upright = TEMPLATE * 0.4 + (20.0, 30.0)
    turned = upright[:, ::-1] * (1.0, -1.0) + (340.0, 280.0)
    faces = [Face(upright, (0, 0, 0, 0), 1.0), Face(turned, (0, 0, 0, 0), 1.0)]
    found = restore_faces(picture, faces, net, fidelity=0.0)
    changed = (found != picture).any(2)
    assert found.dtype == np.uint16 and (found[..., 3] == picture[..., 3]).all()
    for face in faces:
        x, y = np.rint(face.points.mean(0)).astype(int)
        assert changed[y - 10 : y + 10, x - 10 : x + 10].mean() > 0.5
    reach = [np.hypot(*(np.mgrid[0:301, 0:603][::-1] - face.points.mean(0)[:, None, None])) < 130 for face in faces]
    assert not changed[~(reach[0] | reach[1])].any() and not changed.all()
    assert (restore_faces(picture, faces, net, fidelity=0.0) == found).all()


def test_restoreformer_is_not_for_whole_pictures(load: Callable[..., Network]) -> None:
    with pytest.raises(FailureError) as caught:
        upscale(painted(20, 20), 2.0, load("RestoreFormer"))
    assert caught.value.failure.kind == FailureKind.MODEL_UNSUPPORTED and "for faces" in caught.value.failure.message
