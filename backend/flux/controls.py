"""Controls: what steers the transformer from outside, each asked only in the steps where it has a weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from torch import Tensor

from .forward import Conditions, Prepared, Residuals, controlnet_residuals, prepare


class Steering(Protocol):
    """Anything that adds to the transformer's blocks."""

    def residuals(self, latents: Tensor, call: int) -> Residuals | None:
        """What to add in this call, or None where there is nothing to add."""
        ...


def step_weights(strength: float, start: float, end: float, steps: int) -> list[float]:
    """The control's weight in each step: `strength` where the step lies within start..end (0..1), else 0.

    A window narrower than a step acts in the step its middle falls into.
    """
    inside = [index / steps >= start and (index + 1) / steps <= end for index in range(steps)]
    if not any(inside):
        inside[min(steps - 1, int((start + end) / 2 * steps))] = True
    return [strength if is_inside else 0.0 for is_inside in inside]


@dataclass(frozen=True, eq=False, slots=True)
class ControlNetSteering:
    """One control picture given to one net. Several of these may share a net."""

    net: FluxControlNetModel
    condition: Tensor
    prepared: Prepared
    weights: list[float]

    @classmethod
    def of(
        cls, net: FluxControlNetModel, control_latents: Tensor, mode: int | None, conditions: Conditions,
        weights: list[float],
    ) -> ControlNetSteering:  # fmt: skip
        """control_latents: (1, tokens, channels), the control picture through the VAE, packed."""
        condition = net.controlnet_x_embedder(control_latents)
        return cls(net, condition, prepare(net, conditions, mode), weights)

    def residuals(self, latents: Tensor, call: int) -> Residuals | None:
        weight = self.weights[call]
        if weight == 0.0:
            return None
        return controlnet_residuals(self.net, latents, self.condition, self.prepared, call, weight)


def summed_residuals(controls: list[Steering], latents: Tensor, call: int) -> Residuals | None:
    """What all controls add together in this call."""
    total: Residuals | None = None
    for control in controls:
        part = control.residuals(latents, call)
        if part is not None:
            total = part if total is None else total + part
    return total
