"""Faces found, aligned, restored and put back. The network is GFPGAN's own; its weights are random unless the real ones
are there: put GFPGANv1.4.pth into a folder and name that in GRISAILLE_UPSCALERS."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import skimage
import torch
from PIL import Image

from backend.__main__ import main
from backend.enhance.align import FACE_SIDE, TEMPLATE, face_mask, inverse, moved, scale_of, similarity, warp
from backend.enhance.detect_faces import Face, FaceDetector
from backend.enhance.faces import look, restore_faces
from backend.enhance.networks import Network, load_network
from backend.outputs import read_request
from backend.production import Production
from backend.wire import ControlMaps, Enhancement, FailureError, FailureKind, GenerationRequest, Progress
from tests.backend.enhance_samples import small_network
from tests.backend.samples import made, pixels, run

GREY = (104, 110, 116)
FACE = np.s_[70:160, 185:265]
"""Rows and columns of the astronaut's face."""
TURNS = (0, 30, -30, 90, 180, 270)


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    """512 x 512, with one face; in the public domain (NASA), from scikit-image's wheel."""
    return Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png").convert("RGB")


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="module")
def crowd(astronaut: Image.Image) -> np.ndarray:
    """The same face six times: large and small, upright and turned."""
    canvas = Image.new("RGB", (1200, 900), GREY)
    for place, side, turn in (
        ((0, 0), 512, 0),
        ((560, 0), 512, 90),
        ((0, 560), 256, 180),
        ((300, 500), 300, 30),
        ((760, 560), 128, 0),
        ((960, 560), 200, -90),
    ):
        one = astronaut.resize((side, side)).rotate(turn, Image.Resampling.BICUBIC, expand=True, fillcolor=GREY)
        canvas.paste(one, place)
    return np.asarray(canvas)


class Darker:
    """In the place of a network for faces: half as bright, so that it can be seen where it acted, and how much."""

    name, purpose, device = "darker", "face", torch.device("cpu")

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        assert image.shape == (1, 3, FACE_SIDE, FACE_SIDE)
        self.seen.append(image[0].permute(1, 2, 0).numpy().copy())
        return image * 0.5


def restored(picture: np.ndarray, faces: list[Face], network: Any = None, **options: Any) -> np.ndarray:
    return restore_faces(picture, faces, cast("Any", network or Darker()), **options)


@pytest.mark.parametrize("turn", TURNS)
def test_a_turned_face_is_found_and_stands_upright_when_it_is_aligned(
    astronaut: Image.Image, detector: FaceDetector, turn: int
) -> None:
    upright = similarity(detector.find(np.asarray(astronaut))[0].points)
    turned = astronaut.rotate(turn, Image.Resampling.BICUBIC, expand=True, fillcolor=GREY)
    faces = detector.find(np.asarray(turned))
    assert len(faces) == 1
    matrix = similarity(faces[0].points)
    angle = np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]) - np.arctan2(upright[1, 0], upright[0, 0]))
    assert abs((angle - turn + 180) % 360 - 180) < 4.0, "turned back by what it was turned"
    assert scale_of(matrix) == pytest.approx(scale_of(upright), rel=0.08)
    pairs = (astronaut, upright), (turned, matrix)
    aligned = [warp(np.asarray(picture, np.float32) / 255.0, one, (FACE_SIDE, FACE_SIDE)) for picture, one in pairs]
    one, other = (face[100:440, 120:400] for face in aligned)
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9


def test_several_faces_are_found_the_small_ones_too(crowd: np.ndarray, detector: FaceDetector) -> None:
    faces = detector.find(crowd)
    assert len(faces) == 6 and [face.box[0] for face in faces] == sorted(face.box[0] for face in faces)
    heights = sorted(face.box[3] - face.box[1] for face in faces)
    assert heights[0] < 35 and heights[-1] > 90
    large = np.asarray(Image.fromarray(crowd).resize((3600, 2700), Image.Resampling.BICUBIC))
    again = detector.find(large)
    assert len(again) >= 5
    nearest = [min(np.abs(face.points / 3 - other.points).max() for other in faces) for face in again]
    assert max(nearest) < 4.0, "the same places in a picture three times as large"


@pytest.mark.parametrize("name", ["brick.png", "coffee.png", "chelsea.png", "moon.png", "rocket.jpg", "grass.png"])
def test_where_there_is_no_face_none_is_found(detector: FaceDetector, name: str) -> None:
    picture = np.asarray(Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB"))
    assert detector.find(picture) == []
    assert np.array_equal(restored(picture, []), picture)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 5000, 3), (19, 300, 3), (64, 64, 3)])
def test_pictures_too_small_for_a_face(detector: FaceDetector, shape: tuple[int, ...]) -> None:
    assert detector.find(np.full(shape, 90, np.uint8)) == []


def test_there_and_back_points_and_pixels_stay_within_a_pixel(astronaut: Image.Image) -> None:
    """For faces of every size and turn: where the template's points come from, and where an edge comes back to."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        turn, scale, shift = rng.uniform(-np.pi, np.pi), rng.uniform(0.05, 3.0), rng.uniform(-200, 900, 2)
        rotation = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        points = TEMPLATE @ rotation.T + shift
        matrix = similarity(points)
        assert np.abs(moved(points, matrix) - TEMPLATE).max() < 1e-6
        assert np.abs(moved(moved(points, matrix), inverse(matrix)) - points).max() < 1e-6
    picture = np.asarray(astronaut, np.float32) / 255.0
    for turn in (0.0, 0.5, np.pi / 2, np.pi):
        matrix = np.array([[2 * np.cos(turn), -2 * np.sin(turn), 0.0], [2 * np.sin(turn), 2 * np.cos(turn), 0.0]])
        matrix[:, 2] = 256 - matrix[:, :2] @ np.array([225.0, 117.0])
        there = warp(picture, matrix, (FACE_SIDE, FACE_SIDE))
        back = warp(there, inverse(matrix), (512, 512))[70:165, 180:270]
        assert _shift(back.mean(2), picture[70:165, 180:270].mean(2)) <= 1.0
        assert np.abs(back - picture[70:165, 180:270]).mean() < 0.02


def _shift(one: np.ndarray, other: np.ndarray) -> float:
    """How far one plane lies from another, in pixels, by their correlation's peak with half a pixel between places."""
    scores = {}
    for dy in range(-3, 4):
        for dx in range(-3, 4):
            moved_one = np.roll(one, (dy, dx), (0, 1))[4:-4, 4:-4]
            scores[dy, dx] = np.corrcoef(moved_one.ravel(), other[4:-4, 4:-4].ravel())[0, 1]
    best = max(scores, key=lambda place: scores[place])
    return float(np.hypot(*best))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_pixels_outside_of_the_masks_stay_to_the_bit(crowd: np.ndarray, detector: FaceDetector, dtype: type) -> None:
    picture = crowd.astype(dtype) * (257 if dtype == np.uint16 else 1)
    picture = picture / np.float32(255.0) if dtype == np.float32 else picture
    faces = detector.find(crowd)
    done = restored(picture, faces, fidelity=0.0)
    changed = (done != picture).any(2)
    y, x = np.mgrid[0 : crowd.shape[0], 0 : crowd.shape[1]]
    allowed = np.zeros_like(changed)
    for face in faces:
        places = moved(np.stack([x, y], -1).reshape(-1, 2).astype(float), similarity(face.points)) / (FACE_SIDE - 1)
        inside = ((places >= 0.0) & (places <= 1.0)).all(1).reshape(changed.shape)
        allowed |= inside
        points = np.rint(face.points).astype(int)
        before, after = (one[points[:, 1], points[:, 0]].astype(float) for one in (picture, done))
        # Of a small face's dark eyes a little light from beside them is a part.
        assert abs(after.sum() / before.sum() - 0.5) < 0.06 and (after.sum(1) < 0.7 * before.sum(1)).all(), "all of it"
    assert not (changed & ~allowed).any()
    assert 0.02 < changed.mean() < 0.2


def test_fidelity_goes_from_the_networks_face_to_the_face_as_it_was(crowd: np.ndarray, detector: FaceDetector) -> None:
    faces = detector.find(crowd)
    nose = np.rint(faces[0].points[2]).astype(int)
    values = [
        restored(crowd, faces, fidelity=fidelity)[nose[1], nose[0]].astype(float).sum() for fidelity in (0.0, 0.5, 1.0)
    ]
    own = crowd[nose[1], nose[0]].astype(float).sum()
    assert values[0] < values[1] < values[2] == own and values[1] == pytest.approx((values[0] + own) / 2, rel=0.02)
    assert np.array_equal(restored(crowd, faces, fidelity=1.0), crowd)


def test_a_network_that_changes_nothing_changes_nothing(crowd: np.ndarray, detector: FaceDetector) -> None:
    class Same(Darker):
        def __call__(self, image: torch.Tensor) -> torch.Tensor:
            return image

    assert np.array_equal(restored(crowd, detector.find(crowd), Same(), fidelity=0.0), crowd)


def test_the_mask_is_soft_and_ends_within_the_square() -> None:
    mask = face_mask()[..., 0]
    assert mask[0].max() == mask[-1].max() == mask[:, 0].max() == mask[:, -1].max() == 0.0
    points = np.rint(TEMPLATE).astype(int)
    assert mask[points[:, 1], points[:, 0]].min() > 0.95
    assert np.abs(np.diff(mask, axis=0)).max() < 0.03 and np.abs(np.diff(mask, axis=1)).max() < 0.03


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_grey_and_alpha(astronaut: Image.Image, detector: FaceDetector, channels: int) -> None:
    mode = {1: "L", 2: "LA", 4: "RGBA"}[channels]
    picture = (
        np.asarray(astronaut.convert("L" if channels < 3 else "RGB").convert(mode)).reshape(512, 512, channels).copy()
    )
    if channels > 1:
        picture[..., -1] = np.arange(512)[:, None] % 256
    done = restored(picture, detector.find(look(picture)), fidelity=0.0)
    assert done.shape == picture.shape and not np.array_equal(done, picture)
    if channels > 1:
        assert np.array_equal(done[..., -1], picture[..., -1])


def test_a_face_at_the_border_is_restored_as_far_as_it_goes(astronaut: Image.Image, detector: FaceDetector) -> None:
    cut = np.asarray(astronaut)[:, 205:]
    points = detector.find(np.asarray(astronaut))[0].points - (205.0, 0.0)
    done = restored(cut, [Face(points, (0.0, 0.0, 1.0, 1.0), 1.0)], fidelity=0.0)
    assert done.shape == cut.shape and (done[:, 0] != cut[:, 0]).any()


def test_an_upscaler_is_no_face_network(crowd: np.ndarray, detector: FaceDetector, tmp_path: Path) -> None:
    with pytest.raises(FailureError) as caught:
        restore_faces(crowd, [], small_network(tmp_path))
    assert (
        caught.value.failure.kind == FailureKind.MODEL_UNSUPPORTED and "not for faces" in caught.value.failure.message
    )


def test_without_its_package_faces_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "facenet_pytorch.models.mtcnn", None)
    with pytest.raises(FailureError) as caught:
        FaceDetector()
    assert (
        caught.value.failure.kind == FailureKind.BACKEND_NOT_FOUND and "facenet-pytorch" in caught.value.failure.message
    )


def test_cancelling_ends_it_between_faces(crowd: np.ndarray, detector: FaceDetector) -> None:
    faces, network = detector.find(crowd), Darker()

    def check() -> None:
        if network.seen:
            raise KeyboardInterrupt

    told: list[tuple[int, int]] = []
    with pytest.raises(KeyboardInterrupt):
        restore_faces(crowd, faces, network, check=check, progress=lambda *one: told.append(one))  # pyright: ignore
    assert told == [(1, 6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with GFPGAN of full size and random weights, in a file as a user has it."""
    from spandrel.architectures.GFPGAN import GFPGAN

    torch.manual_seed(0)
    net = GFPGAN(
        out_size=512, num_style_feat=512, channel_multiplier=2, decoder_load_path=None, fix_decoder=False, num_mlp=8,
        input_is_latent=True, different_w=True, narrow=1, sft_half=True,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("faces") / "upscalers" / "GFPGANv1.4.pth"
    path.parent.mkdir()
    torch.save({"params_ema": net.state_dict()}, path)
    return path.parent.parent


@pytest.fixture(scope="module")
def gfpgan(folder: Path) -> Network:
    return load_network(folder / "upscalers" / "GFPGANv1.4.pth")


def test_gfpgan_itself_runs_and_gives_the_same_bytes_again(
    astronaut: Image.Image, detector: FaceDetector, gfpgan: Network
) -> None:
    picture = np.asarray(astronaut)
    faces = detector.find(picture)
    assert gfpgan.architecture == "GFPGAN" and gfpgan.purpose == "face"
    state = torch.random.get_rng_state()
    done, again = (restore_faces(picture, faces, gfpgan, fidelity=0.2) for _ in range(2))
    assert np.array_equal(done, again), "the noise that StyleGAN adds is the same each time"
    assert torch.equal(torch.random.get_rng_state(), state), "and nobody else's"
    changed = (done != picture).any(2)
    assert changed[70:160, 185:265].mean() > 0.9 and not changed[250:].any() and not changed[:, :120].any()


FACES = GenerationRequest("", width=512, height=512, task="enhance", enhancement=Enhancement(faces=True, fidelity=0.2))


def test_production_restores_the_faces_of_a_picture(
    astronaut: Image.Image, detector: FaceDetector, gfpgan: Network, folder: Path
) -> None:
    picture = np.asarray(astronaut)
    told: list[Progress] = []
    result = made(run(Production(folder, "cpu"), FACES, ControlMaps(picture=picture), on_progress=told.append))
    assert np.array_equal(pixels(result.png), restore_faces(picture, detector.find(picture), gfpgan, fidelity=0.2))
    assert result.plan["networks"] == {"face": "GFPGANv1.4"} and "One face was restored." in result.plan["note"]
    assert (told[-2].stage, told[-2].step, told[-2].steps) == ("enhancing", 1, 1)


def test_production_leaves_a_picture_without_faces_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.asarray(Image.open(Path(skimage.__file__).parent / "data" / "coffee.png").convert("RGB"))
    request = replace(FACES, width=picture.shape[1], height=picture.shape[0])
    # A network that is not needed is not loaded.
    monkeypatch.setattr("backend.enhance.networks.load_network", lambda *_: pytest.fail("it was loaded"))
    result = made(run(Production(folder, "cpu"), request, ControlMaps(picture=picture)))
    assert np.array_equal(pixels(result.png), picture) and "No face was found." in result.plan["note"]


def test_the_command_restores_the_faces_in_a_file(
    astronaut: Image.Image, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "a.png", tmp_path / "b.png"
    astronaut.save(source)
    words = ["enhance", str(source), "--out", str(out), "--models", str(folder), "--device", "cpu", "--faces"]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--face-network", "GFPGANv1.4", "--fidelity", "0.2"])
    assert stop.value.code == 0
    changed = (pixels(out.read_bytes()) != np.asarray(astronaut)).any(2)
    assert changed[FACE].mean() > 0.9 and not changed[250:].any() and not changed[:, :120].any()
    wanted = read_request(out).request.enhancement
    assert wanted == Enhancement(faces=True, face_network="GFPGANv1.4", fidelity=0.2)
    with pytest.raises(SystemExit) as stop:
        main([*words, "--face-network", "CodeFormer"])
    assert stop.value.code == 1 and "no network called 'CodeFormer'" in capsys.readouterr().err


def _real(names: tuple[str, ...]) -> Path | None:
    folder = os.environ.get("GRISAILLE_UPSCALERS")
    found = (Path(folder) / name for name in names) if folder else ()
    return next((path for path in found if path.is_file()), None)


def _sharpness(picture: np.ndarray) -> float:
    return float(np.abs(np.diff(picture[FACE].astype(float), axis=0)).mean())


@pytest.mark.parametrize("names", [("GFPGANv1.4.pth", "GFPGANv1.3.pth"), ("RestoreFormer.pth",)])
def test_real_weights_bring_a_blurred_face_back(
    astronaut: Image.Image, detector: FaceDetector, names: tuple[str, ...]
) -> None:
    path = _real(names)
    if path is None:
        pytest.skip(
            f"{names[0]} is not here: download it from github.com/TencentARC/GFPGAN/releases, and name its folder in "
            "GRISAILLE_UPSCALERS"
        )
    truth = np.asarray(astronaut)
    small = astronaut.resize((200, 200), Image.Resampling.BOX)
    blurred = np.asarray(small.resize((512, 512), Image.Resampling.BICUBIC))
    done = restore_faces(blurred, detector.find(blurred), load_network(path), fidelity=0.0)
    assert _sharpness(done) > 1.15 * _sharpness(blurred)
    error = [np.abs(one[FACE].astype(float) - truth[FACE]).mean() for one in (done, blurred)]
    assert error[0] < 1.5 * error[1], "and it is still the same face"
