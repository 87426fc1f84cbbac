"""What is done to a finished picture: the networks of a Request's enhancement, found, loaded and let go of in turn."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..models.networks import find_network
from ..planning import detail_side
from ..wire import Enhancement, FailureError, FailureKind, GenerationRequest
from ..wire.finishes import finish_of
from ..wire.network_files import FOLDER, network_files
from ..wire.request import PICTURELESS
from .job import Job
from .keeping import AnyOrder

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from ..enhance.progressive import Detail

UPSCALER, FACE = "upscaler", "face"
"""The parts of an enhancement that are networks."""
USUAL = {
    UPSCALER: "RealESRGAN_x4plus, from github.com/xinntao/Real-ESRGAN",
    FACE: "GFPGANv1.4, from github.com/TencentARC/GFPGAN",
}
FACE_NAMES = re.compile(r"gfpgan|restoreformer|face", re.IGNORECASE)
"""What tells a network for faces by its file's name."""


def networks_of(request: GenerationRequest, models_folder: Path) -> dict[str, Path]:
    """The files of the networks that a Request's enhancement takes, by part.

    Raises `FailureError` (model_missing), which says where to put one.
    """
    wanted = request.enhancement
    if wanted is None or request.task in PICTURELESS:
        return {}
    found = {}
    if wanted.scale > 1.0 or wanted.network:
        found[UPSCALER] = _network(UPSCALER, wanted.network, models_folder)
    if wanted.faces:
        found[FACE] = _network(FACE, wanted.face_network, models_folder)
    return found


def _network(part: str, name: str, models_folder: Path) -> Path:
    """The file of that name, or where there is none the first for that part."""
    if name:
        return find_network(models_folder, name)
    there = network_files(models_folder)
    first = next((one for one in there if bool(FACE_NAMES.search(one.name)) == (part == FACE)), None)
    if first is None:
        raise FailureError.of(
            FailureKind.MODEL_MISSING,
            f"There is no {part} network yet.",
            f"Put one into the folder {FOLDER} in the models folder, such as {USUAL[part]}.",
            str(models_folder / FOLDER),
        )
    return first.path


def plan_of_networks(networks: Mapping[str, Path]) -> dict[str, Any]:
    """What a Result's plan says of them: their names, by part."""
    return {"networks": {part: path.stem for part, path in networks.items()}} if networks else {}


def enhanced(
    pixels: NDArray[Any],
    order: AnyOrder,
    device: torch.device,
    job: Job,
    make_room: Callable[[], None],
    reference: NDArray[np.uint8] | None = None,
    detail: Detail | None = None,
) -> NDArray[Any]:
    """(height, width, 1 to 4) uint8, uint16 or float32 -> what the Request's enhancement makes of it, in its bit depth.

    make_room: called before a network is loaded, to let go of a larger one. reference: where colours are to go. detail:
    what paints it, where the Request's enhancement asks for any.
    """
    from ..flux.device import without_gradients

    request, wanted = order.request, order.request.enhancement
    assert wanted is not None
    pixels = with_depth(pixels, request.bit_depth)
    with job.stage("enhancing"), without_gradients():
        if order.networks:
            make_room()
        if UPSCALER in order.networks or detail is not None:
            pixels = _upscaled(pixels, order, device, job, detail)
        if FACE in order.networks:
            pixels = _with_faces(pixels, wanted, order.networks[FACE], device, job)
        if (look := finish_of(wanted.finish, request.style)) is not None:
            from ..enhance.finishing import finish

            watch: Any = {"progress": _teller(job), "check": job.check}
            pixels = finish(pixels, look, reference=reference, seed=request.seed, **watch)
    return pixels


def with_depth(pixels: NDArray[Any], bits: int) -> NDArray[Any]:
    """uint8, uint16 or float32 0..1 -> whole numbers of so many bits."""
    import numpy as np

    most = 2**bits - 1
    dtype = np.uint8 if bits == 8 else np.uint16
    if pixels.dtype == dtype:
        return pixels
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint16) * np.uint16(257)
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.rint(pixels.clip(0.0, 1.0) * np.float32(most)).astype(dtype)


def _upscaled(
    pixels: NDArray[Any], order: AnyOrder, device: torch.device, job: Job, detail: Detail | None
) -> NDArray[Any]:
    from ..enhance.networks import load_network
    from ..enhance.progressive import progressive, with_detail
    from ..enhance.upscale import upscale

    wanted = order.request.enhancement
    assert wanted is not None
    network = load_network(order.networks[UPSCALER], device) if UPSCALER in order.networks else None
    watch: Any = {"tileable": wanted.tileable, "progress": _teller(job), "check": job.check}
    how: Any = {"fidelity": wanted.upscale_fidelity, **watch}
    if detail is not None and wanted.scale > 1.0:
        return progressive(pixels, wanted.scale, network, detail, side=detail_side(order.request), **how)
    if network is not None:
        pixels = upscale(pixels, wanted.scale, network, kind=wanted.data, **how)  # pyright: ignore[reportArgumentType]  # checked
    if detail is not None:
        pixels = with_detail(pixels, detail, side=detail_side(order.request), **watch)
    return pixels


def _with_faces(pixels: NDArray[Any], wanted: Enhancement, path: Path, device: torch.device, job: Job) -> NDArray[Any]:
    """The picture with its faces restored; where there is none no network is loaded, and nothing happens."""
    from ..enhance.detect_faces import FaceDetector
    from ..enhance.faces import look, restore_faces
    from ..enhance.networks import load_network

    faces = FaceDetector(device).find(look(pixels), job.check)
    words = {0: "No face was found.", 1: "One face was restored."}.get(len(faces), f"{len(faces)} faces were restored.")
    job.note = f"{job.note} {words}".strip()
    if not faces:
        return pixels
    network = load_network(path, device)
    watch: Any = {"progress": _teller(job), "check": job.check}
    return restore_faces(pixels, faces, network, fidelity=wanted.fidelity, **watch)


def _teller(job: Job) -> Callable[[int, int], None]:
    return lambda done, total: job.tell("enhancing", done, total)
