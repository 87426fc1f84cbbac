"""The joints of a person in a pose map: OpenPose's eighteen, in the order that its COCO model has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .failure import FailureError, FailureKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

JOINTS = (
    "nose", "neck",
    "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip
"""Left and right are the person's own. The neck is half-way between the shoulders."""
PEOPLE_MAX = 64


def check_pose(pose: NDArray[np.float32]) -> None:
    """Raises `FailureError` (bad_request) unless `pose` is a pose map: see `ControlMaps`."""
    import numpy as np

    said = ""
    if pose.ndim != 3 or pose.shape[1:] != (len(JOINTS), 3) or pose.dtype != np.float32:
        said = f"The pose map is {pose.dtype} {pose.shape} where float32 (people, {len(JOINTS)}, 3) was expected."
    elif not 1 <= len(pose) <= PEOPLE_MAX:
        said = f"The pose map has {len(pose)} people where 1 to {PEOPLE_MAX} were expected."
    elif not np.isfinite(pose).all():
        said = "The pose map holds values that are not numbers."
    elif not np.isin(pose[..., 2], (0.0, 1.0)).all():
        said = "The pose map has joints that are neither visible (1) nor hidden (0)."
    if said:
        raise FailureError.of(FailureKind.BAD_REQUEST, said, "Capture the view again.")
