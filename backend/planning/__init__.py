"""Plans: which model, in which form, where each part lives and when. Pure functions of numbers; standard library."""

from .choose import ModelChoice, choose_model
from .machine import Machine
from .memory_plan import MemoryPlan, make_plan, step_down
from .work import Work, detail_side

__all__ = ["Machine", "MemoryPlan", "ModelChoice", "Work", "choose_model", "detail_side", "make_plan", "step_down"]
