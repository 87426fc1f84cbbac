"""What a camera sees of a scene's geometry, and what a picture starts from, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .enhancement import SIDE_MAX
from .failure import FailureError, FailureKind
from .framing import PAYLOAD_MAX
from .joints import check_pose

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]
    Picture = NDArray[np.uint8]

MAPS = ("depth", "normal", "line", "colour", "pose")
SOURCES = ("image", "mask", "reference", "picture")
REFERENCE_SIDE_MAX = 4096
COLOURS = ("colour", "image")
"""Three bytes a pixel; the others are numbers."""
MAPS_OF: dict[str, tuple[str, ...]] = {
    "depth": ("depth",),
    "normal": ("normal",),
    "line": ("line",),
    "pose": ("pose",),
    # Edges of what is modelled, where it is known: those of colours are shadows and reflections as well.
    "canny": ("line", "colour"),
    "soft_edge": ("line", "colour"),
    "grey": ("colour",),
    "tile": ("colour",),
    "blur": ("colour",),
}
"""Each kind of control, and the maps that its picture can be made of, the best first."""


@dataclass(frozen=True, eq=False)
class ControlMaps:
    """The maps of one capture, and what to start from; what was not asked for is None. Row 0 is the top.

    depth: (height, width) float32, planar distance along the camera's axis in scene units, sky = inf.
    normal: (height, width, 3) float32, -1..1, camera space (x right, y up, z towards the camera), sky = 0, 0, 0.
    line: (height, width) float32, 0..1, 1 on a line.
    colour: (height, width, 3) uint8, display values of the scene as it is lit, sky and world with it.
    pose: (people, 18, 3) float32, 1 to 64 people, the farthest first, with the joints of `joints.JOINTS`: x to the
        right and y down, 0..1 across the picture and beyond it outside; third, 1 visible or 0 hidden or not there.
    image: (height, width, 3) uint8, display values of the picture that the Request's task changes.
    mask: (height, width) float32, 0..1, how much each place of it may change.
    reference: (rows, columns, 3) uint8, display values of a picture of any size, to take content and style from.
    picture: (height, width, 1 to 4) uint8, uint16 or float32 0..1, of the task enhance: grey or colours as display
        values, or a map's numbers; a second or fourth channel is alpha.
    """

    depth: FloatArray | None = None
    normal: FloatArray | None = None
    line: FloatArray | None = None
    colour: Picture | None = None
    pose: FloatArray | None = None
    image: Picture | None = None
    mask: FloatArray | None = None
    reference: Picture | None = None
    picture: NDArray[Any] | None = None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The maps and sources that are there, by name."""
        named = {name: getattr(self, name) for name in (*MAPS, *SOURCES)}
        return {name: array for name, array in named.items() if array is not None}

    def for_control(self, kind: str) -> str | None:
        """The name of the map that the picture for a control of this kind is made of; None where none is there."""
        return next((name for name in MAPS_OF[kind] if getattr(self, name) is not None), None)

    def check_sendable(self) -> None:
        """Raises `FailureError` (bad_request) for a picture to enhance that does not pass the door.

        The maps of the largest picture that can be painted do.
        """
        if self.picture is not None:
            size = sum(array.nbytes for array in self.arrays().values())
            check_picture_sendable(self.picture.shape[1], self.picture.shape[0], size)

    def check(self, width: int, height: int) -> None:
        """Raises `FailureError` unless each array is of its type and of this size (pixels), finite where it must be."""
        self.check_shapes(width, height)
        for kind, array in self.arrays().items():
            if kind not in ("pose", "reference"):
                _check_values(kind, array)

    def check_shapes(self, width: int, height: int) -> None:
        """The part of `check` that takes no time: the arrays' types and sizes."""
        _check_reference(self.reference)
        for kind, array in self.arrays().items():
            if kind == "pose":
                check_pose(array)
            if kind == "picture":
                _check_picture(array, width, height)
            if kind in ("pose", "reference", "picture"):
                continue
            shape = (height, width, 3) if kind in ("normal", *COLOURS) else (height, width)
            what, dtype = kind if kind == "image" else f"{kind} map", "uint8" if kind in COLOURS else "float32"
            if array.shape != shape or array.dtype != dtype:
                hint = "Scale it to the picture's size." if kind in SOURCES else "Capture the view again at that size."
                raise FailureError.of(
                    FailureKind.BAD_REQUEST,
                    f"The {what} is {array.dtype} {array.shape} where {dtype} {shape} was expected.",
                    hint,
                )


def check_picture_sendable(width: int, height: int, size: int) -> None:
    """Raises `FailureError` (bad_request) where a picture to enhance, `size` bytes in all, does not pass the door."""
    if size > PAYLOAD_MAX:
        raise FailureError.of(
            FailureKind.BAD_REQUEST,
            f"The picture of {width} x {height} pixels is too large to be sent to the backend.",
            "Save it, and enhance its file in a terminal: python -m backend enhance FILE --by SCALE --out NEW.",
            f"{size} bytes; {PAYLOAD_MAX} pass",
        )


def _check_values(kind: str, array: NDArray[Any]) -> None:
    import numpy as np

    if array.dtype.kind != "f":
        return
    if kind == "mask" and not ((array >= 0.0) & (array <= 1.0)).all():
        raise FailureError.of(
            FailureKind.BAD_REQUEST, "The mask holds values outside 0 to 1.", "Choose a picture for the mask."
        )
    if np.isnan(array).any() or (kind != "depth" and not np.isfinite(array).all()):
        raise FailureError.of(
            FailureKind.BAD_REQUEST,
            f"The {kind} map holds values that are not numbers.",
            "Capture the view again; if it stays, look for broken geometry in the scene.",
        )


def _check_picture(array: NDArray[Any], width: int, height: int) -> None:
    is_one = array.ndim == 3 and 1 <= array.shape[2] <= 4 and array.dtype in ("uint8", "uint16", "float32")
    if not is_one or array.shape[:2] != (height, width) or max(width, height) > SIDE_MAX:
        raise FailureError.of(
            FailureKind.BAD_REQUEST,
            f"The picture is {array.dtype} {array.shape} where ({height}, {width}, 1 to 4) was expected.",
            f"Give 8 or 16 bits or float32, with sides of at most {SIDE_MAX} pixels.",
        )


def _check_reference(array: Picture | None) -> None:
    if array is None:
        return
    is_picture = array.ndim == 3 and array.shape[2] == 3 and array.dtype == "uint8"
    if not is_picture or not 1 <= min(array.shape[:2]) <= max(array.shape[:2]) <= REFERENCE_SIDE_MAX:
        raise FailureError.of(
            FailureKind.BAD_REQUEST,
            f"The reference is {array.dtype} {array.shape} where uint8 (rows, columns, 3) was expected.",
            f"Choose a picture with sides of at most {REFERENCE_SIDE_MAX} pixels.",
        )
