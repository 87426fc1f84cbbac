"""What is done to a finished picture: the networks of a Request's enhancement, found, loaded and let go of in turn."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..failures import failure_of
from ..models.networks import find_network
from ..planning import NetworkNeeds, detail_side, face_needs, upscaler_needs
from ..wire import Enhancement, FailureError, FailureKind, GenerationRequest
from ..wire.finishes import finish_of
from ..wire.network_files import FOLDER, network_files
from ..wire.request import PICTURELESS
from .job import Job
from .keeping import AnyOrder
from .model_keeper import ModelKeeper
from .network_part import NetworkPart

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from ..enhance.networks import Network
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


class Enhancer:
    """Enhances pictures on a device, beside the model that is kept."""

    def __init__(self, device: torch.device, keeper: ModelKeeper) -> None:
        self._device, self._keeper = device, keeper

    def enhanced(
        self,
        pixels: NDArray[Any],
        order: AnyOrder,
        job: Job,
        reference: NDArray[np.uint8] | None = None,
        detail: Detail | None = None,
    ) -> NDArray[Any]:
        """(height, width, 1 to 4) uint8, uint16 or float32 -> what the Request's enhancement makes of it.

        It comes in the Request's bit depth. reference: where colours are to go. detail: what paints it, where the
        Request's enhancement asks for any. Raises `FailureError`.
        """
        from ..flux.device import without_gradients

        request, wanted = order.request, order.request.enhancement
        assert wanted is not None
        pixels = with_depth(pixels, request.bit_depth)
        with job.stage("enhancing"), without_gradients():
            if UPSCALER in order.networks or detail is not None:
                pixels = self._with_room(job, lambda: self._upscaled(pixels, order, job, detail))
            if FACE in order.networks:
                pixels = self._with_room(job, lambda: self._with_faces(pixels, wanted, order.networks[FACE], job))
            if (look := finish_of(wanted.finish, request.style)) is not None:
                from ..enhance.finishing import finish

                watch: Any = {"progress": _teller(job), "check": job.check}
                pixels = finish(pixels, look, reference=reference, seed=request.seed, **watch)
        return pixels

    def _with_room(self, job: Job, run: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """What `run` makes. Where memory runs out though tiles became as small as can be, the model leaves for it."""
        try:
            return run()
        except (FailureError, RuntimeError) as error:
            if failure_of(error).kind != FailureKind.OUT_OF_MEMORY or self._keeper.loaded is None:
                raise
        # Out here, where the error no longer holds what was on the device.
        self._keeper.forget()
        job.note = f"{job.note} Memory ran out while it was enhanced; the model left for it.".strip()
        return run()

    @contextmanager
    def _network(self, part: str, path: Path) -> Iterator[tuple[Network, Callable[[], None]]]:
        """A network on the device, for which parts of the model have left, and what brings it back once it left."""
        from ..enhance.networks import load_network

        needs = network_needs(part, path, self._device.type)
        network = load_network(path, half=self._device.type == "cuda")
        guest = NetworkPart(network, self._device, needs)
        with self._keeper.beside(guest) as use:
            use()
            yield network, use

    def _upscaled(self, pixels: NDArray[Any], order: AnyOrder, job: Job, detail: Detail | None) -> NDArray[Any]:
        from ..enhance.progressive import progressive, with_detail
        from ..enhance.upscale import upscale

        wanted = order.request.enhancement
        assert wanted is not None
        watch: Any = {"tileable": wanted.tileable, "progress": _teller(job), "check": job.check}
        if UPSCALER in order.networks:
            with self._network(UPSCALER, order.networks[UPSCALER]) as (network, ready):
                how: Any = {"fidelity": wanted.upscale_fidelity, **watch}
                if detail is not None and wanted.scale > 1.0:
                    side = detail_side(order.request)
                    return progressive(pixels, wanted.scale, network, detail, side=side, ready=ready, **how)
                kind: Any = wanted.data
                pixels = upscale(pixels, wanted.scale, network, kind=kind, **how)
        if detail is not None:
            pixels = with_detail(pixels, detail, side=detail_side(order.request), **watch)
        return pixels

    def _with_faces(self, pixels: NDArray[Any], wanted: Enhancement, path: Path, job: Job) -> NDArray[Any]:
        """The picture with its faces restored; where there is none no network is loaded, and nothing happens."""
        from ..enhance.detect_faces import FaceDetector
        from ..enhance.faces import look, restore_faces

        faces = FaceDetector(self._device).find(look(pixels), job.check)
        words = {0: "No face was found.", 1: "One face was restored."}
        said = words.get(len(faces), f"{len(faces)} faces were restored.")
        watch: Any = {"progress": _teller(job), "check": job.check}
        if faces:
            with self._network(FACE, path) as (network, _):
                pixels = restore_faces(pixels, faces, network, fidelity=wanted.fidelity, **watch)
        job.note = f"{job.note} {said}".strip()
        return pixels


def network_needs(part: str, path: Path, kind: str) -> NetworkNeeds:
    """What a network takes on a device of that kind, by its file."""
    size = path.stat().st_size
    return face_needs(size) if part == FACE else upscaler_needs(path.stem, size, kind)


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


def _teller(job: Job) -> Callable[[int, int], None]:
    return lambda done, total: job.tell("enhancing", done, total)
