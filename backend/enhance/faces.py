"""Faces in a picture, found, restored by a network that was trained on faces, and put back where they were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..wire import FailureError, FailureKind
from .align import FACE_SIDE, face_mask, inverse, moved, similarity, warp
from .detect_faces import Face
from .networks import Network
from .pixels import as_float, from_float

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

SEED = 0
"""Networks of StyleGAN's kind add noise of their own: it is the same each time."""


def restore_faces(
    picture: NDArray[Any],
    faces: Sequence[Face],
    network: Network,
    *,
    fidelity: float = 0.5,
    progress: Callable[[int, int], None] = lambda done, total: None,
    check: Callable[[], None] = lambda: None,
) -> NDArray[Any]:
    """The picture with its faces restored; every pixel outside of their masks stays what it was, to the bit.

    picture: (h, w, 1 to 4) uint8, uint16 or float32 0..1, display values; alpha stays. faces: places in it. fidelity:
    0 for what the network makes of a face, 1 for the face as it was. What is put back is the network's change, not its
    picture, so that what is finer than the network can see stays too. Raises `FailureError` (model_unsupported, and
    what `check` raises, which is called before each face).
    """
    if network.purpose != "face":
        raise FailureError.of(
            FailureKind.MODEL_UNSUPPORTED,
            f"The network {network.name} is not for faces.",
            "Choose one that is, such as GFPGANv1.4 or RestoreFormer.",
        )
    found = picture.copy()
    if fidelity >= 1.0:
        return found
    for index, face in enumerate(faces):
        check()
        _restore(found, face, network, 1.0 - fidelity)
        progress(index + 1, len(faces))
    return found


def look(picture: NDArray[Any]) -> NDArray[np.uint8]:
    """(h, w, 1 to 4) -> (h, w, 3) uint8, as a detector takes it."""
    return np.ascontiguousarray(from_float(_colours(picture), np.dtype(np.uint8)))


def _restore(picture: NDArray[Any], face: Face, network: Network, share: float) -> None:
    """Changes one face in place."""
    matrix = similarity(face.points)
    left, top, right, bottom = _region(matrix, picture.shape[:2])
    if right <= left or bottom <= top:
        return
    # Of the picture only what the face can reach, so that the size of the rest does not matter.
    part = picture[top:bottom, left:right]
    shift = np.array([[1.0, 0.0, left], [0.0, 1.0, top], [0.0, 0.0, 1.0]])
    local = matrix @ shift
    aligned = np.clip(warp(_colours(part), local, (FACE_SIDE, FACE_SIDE)), 0.0, 1.0)
    change = _ran(network, aligned) - aligned
    size = right - left, bottom - top
    masked = warp(np.concatenate([change * face_mask(), face_mask()], 2), inverse(local), size)
    inside = _inside(local, size)
    change, mask = masked[..., :3], masked[..., 3:] * inside
    _add(part, np.asarray(change * (inside * share), np.float32), (mask > 0.0)[..., 0])


def _add(part: NDArray[Any], change: Floats, where: NDArray[np.bool_]) -> None:
    """Adds a change to the colours of a part of a picture, in place, where it is to be."""
    count = 1 if part.shape[2] < 3 else 3
    colours = part[..., :count]
    if count == 1:
        change = change.mean(2, keepdims=True)
    changed = from_float(np.clip(as_float(colours) + change, 0.0, 1.0), part.dtype)
    colours[where] = changed[where]


def _region(matrix: NDArray[np.float64], size: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what of a picture (height, width) a face's square covers, with a border."""
    side = FACE_SIDE - 1.0
    corners = moved(np.array([[0.0, 0.0], [side, 0.0], [0.0, side], [side, side]]), inverse(matrix))
    low, high = np.floor(corners.min(0)).astype(int) - 2, np.ceil(corners.max(0)).astype(int) + 3
    return max(0, low[0]), max(0, low[1]), min(size[1], high[0]), min(size[0], high[1])


def _inside(matrix: NDArray[np.float64], size: tuple[int, int]) -> Floats:
    """(height, width, 1): 1 where a place of the part lies in the face's square, which is repeated beyond otherwise."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    places = moved(np.stack([x, y], -1).reshape(-1, 2).astype(np.float64), matrix)
    within = ((places >= 0.0) & (places <= FACE_SIDE - 1.0)).all(1)
    return within.reshape(size[1], size[0], 1).astype(np.float32)


def _ran(network: Network, face: Floats) -> Floats:
    """(512, 512, 3) -> what the network makes of it."""
    tensor = torch.from_numpy(np.ascontiguousarray(face)).permute(2, 0, 1)[None]
    devices = [network.device] if network.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.inference_mode():
        torch.manual_seed(SEED)
        found = network(tensor)
    return found[0].clamp(0.0, 1.0).permute(1, 2, 0).float().cpu().contiguous().numpy()


def _colours(picture: NDArray[Any]) -> Floats:
    """(h, w, 3) float32, 0..1, of a picture with any channels."""
    values = as_float(picture[..., : 1 if picture.shape[2] < 3 else 3])
    return np.repeat(values, 3, axis=2) if values.shape[2] == 1 else values
