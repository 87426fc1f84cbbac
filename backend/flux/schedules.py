"""The noise levels of a picture's steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

KARRAS_RHO = 7.0
BETA = 0.6
"""Both of the distribution's parameters, as the schedule is used for FLUX."""


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
    return _ended(_shifted(steps, tokens, shift))


def beta(steps: int, tokens: int, shift: Shift) -> Tensor:
    """Between the ends of `simple`, denser at both: quantiles of the beta distribution (Lee et al. 2024)."""
    ends = _shifted(steps, tokens, shift)
    return _ended(ends[-1] + (ends[0] - ends[-1]) * beta_quantiles(torch.linspace(1.0, 0.0, steps).double()))


def karras(steps: int, tokens: int, shift: Shift) -> Tensor:
    """Between the ends of `simple`, denser towards 0: Karras et al. 2022, equation 5, with rho 7."""
    ends = _shifted(steps, tokens, shift) ** (1.0 / KARRAS_RHO)
    return _ended((ends[0] + torch.linspace(0.0, 1.0, steps).double() * (ends[-1] - ends[0])) ** KARRAS_RHO)


def exponential(steps: int, tokens: int, shift: Shift) -> Tensor:
    """Between the ends of `simple`, evenly spaced in the logarithm."""
    ends = _shifted(steps, tokens, shift).log()
    return _ended((ends[0] + torch.linspace(0.0, 1.0, steps).double() * (ends[-1] - ends[0])).exp())


def beta_quantiles(shares: Tensor, a: float = BETA, b: float = BETA) -> Tensor:
    """Where the beta distribution has these shares (0..1, float64) below it: to 1e-6, by integrating its density.

    With x = sin^2 t the density is 2 sin^(2a-1) cos^(2b-1), which has no poles for the a and b that are used here.
    """
    angle = torch.linspace(0.0, math.pi / 2, 400_001, dtype=torch.float64)
    middle = (angle[1:] + angle[:-1]) / 2
    density = middle.sin() ** (2 * a - 1) * middle.cos() ** (2 * b - 1)
    below = torch.cat((torch.zeros(1, dtype=torch.float64), density.cumsum(0)))
    below = below / below[-1]
    place = torch.searchsorted(below, shares.clamp(0.0, 1.0)).clamp(1, len(below) - 1)
    within = (shares - below[place - 1]) / (below[place] - below[place - 1])
    return (angle[place - 1] + within * (angle[place] - angle[place - 1])).sin() ** 2


def _shifted(steps: int, tokens: int, shift: Shift) -> Tensor:
    """(steps,) float64 from 1 to above 0."""
    even = torch.linspace(1.0, 1.0 / steps, steps, dtype=torch.float64)
    factor = shift.factor(tokens)
    return factor * even / (1.0 + (factor - 1.0) * even)


def _ended(levels: Tensor) -> Tensor:
    return torch.cat((levels, torch.zeros(1, dtype=torch.float64))).float()


SCHEDULES = {"simple": simple, "beta": beta, "karras": karras, "exponential": exponential}
