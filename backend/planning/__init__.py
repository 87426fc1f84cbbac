"""Plans: which model, in which form, where each part lives and when. Pure functions of numbers; standard library."""

from .choose import ModelChoice, choose_model
from .machine import Machine
from .memory_plan import MemoryPlan, make_plan, step_down
from .networks import NetworkNeeds, face_needs, most_needs, upscaler_needs
from .work import Work, detail_side

__all__ = [
    "Machine",
    "MemoryPlan",
    "ModelChoice",
    "NetworkNeeds",
    "Work",
    "choose_model",
    "detail_side",
    "face_needs",
    "make_plan",
    "most_needs",
    "step_down",
    "upscaler_needs",
]
