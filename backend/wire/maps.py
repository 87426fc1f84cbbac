"""What a camera sees of a scene's geometry, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .failure import FailureError, FailureKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ControlMaps:
    """The maps of one capture; those not asked for are None. Row 0 is the top of the picture.

    depth: (height, width) float32, planar distance along the camera's axis in scene units, sky = inf.
    normal: (height, width, 3) float32, -1..1, camera space (x right, y up, z towards the camera), sky = 0, 0, 0.
    line: (height, width) float32, 0..1, 1 on a line.
    """

    depth: FloatArray | None = None
    normal: FloatArray | None = None
    line: FloatArray | None = None

    def arrays(self) -> dict[str, FloatArray]:
        """The maps that are there, by kind."""
        pairs = {"depth": self.depth, "normal": self.normal, "line": self.line}
        return {kind: array for kind, array in pairs.items() if array is not None}

    def check(self, width: int, height: int) -> None:
        """Raises `FailureError` unless each map is float32, of this size (pixels), finite where it must be."""
        import numpy as np

        for kind, array in self.arrays().items():
            shape = (height, width, 3) if kind == "normal" else (height, width)
            if array.shape != shape or array.dtype != np.float32:
                raise FailureError.of(
                    FailureKind.BAD_REQUEST,
                    f"The {kind} map is {array.dtype} {array.shape} where float32 {shape} was expected.",
                    "Capture the view again at the picture's size.",
                )
            if np.isnan(array).any() or (kind != "depth" and not np.isfinite(array).all()):
                raise FailureError.of(
                    FailureKind.BAD_REQUEST,
                    f"The {kind} map holds values that are not numbers.",
                    "Capture the view again; if it stays, look for broken geometry in the scene.",
                )
