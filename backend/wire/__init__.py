"""The door between Blender's process and the backend's: what may pass, and how it is written.

Imported by both sides. Standard library only at import; numpy is loaded when the first array is met.
"""

from .enhancement import Enhancement
from .failure import Failure, FailureError, FailureKind
from .loras import LoRA
from .maps import ControlMaps
from .request import CONTROL_KINDS, Control, GenerationRequest, Stage, snap_size
from .result import GenerationResult, Progress

__all__ = [
    "CONTROL_KINDS",
    "Control",
    "ControlMaps",
    "Enhancement",
    "Failure",
    "FailureError",
    "FailureKind",
    "GenerationRequest",
    "GenerationResult",
    "LoRA",
    "Progress",
    "Stage",
    "snap_size",
]
