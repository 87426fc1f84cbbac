"""The noise levels of a picture's steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Shift:
    """How a model's schedule leans towards noise, by the number of tokens (scheduler_config.json).

    Dynamic: exp(mu), mu on the line through (base_tokens, base_shift) and (max_tokens, max_shift). Else `fixed`.
    """

    is_dynamic: bool = True
    base_tokens: int = 256
    max_tokens: int = 4096
    base_shift: float = 0.5
    max_shift: float = 1.15
    fixed: float = 1.0

    def factor(self, tokens: int) -> float:
        if not self.is_dynamic:
            return self.fixed
        slope = (self.max_shift - self.base_shift) / (self.max_tokens - self.base_tokens)
        return math.exp(self.base_shift + slope * (tokens - self.base_tokens))


def simple(steps: int, tokens: int, shift: Shift) -> Tensor:
    """(steps + 1,) float32 from 1 to 0: evenly spaced, then shifted by f s / (1 + (f - 1) s)."""
    even = torch.linspace(1.0, 1.0 / steps, steps, dtype=torch.float64)
    factor = shift.factor(tokens)
    shifted = factor * even / (1.0 + (factor - 1.0) * even)
    return torch.cat((shifted, torch.zeros(1, dtype=torch.float64))).float()


SCHEDULES = {"simple": simple}
