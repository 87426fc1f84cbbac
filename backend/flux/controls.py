"""Controls: what steers the transformer from outside, each asked only in the steps where it has a weight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import torch
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from torch import Tensor

from .compiled import NetPass
from .forward import Conditions, Prepared, Residuals, controlnet_residuals, prepare
from .graphs import NetCalls
from .latents import pack
from .modulation import AdalnWeights, looked_up

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
    """One control picture given to one net. Several of these may share a net.

    arrive: sees to it that the net's blocks are where it computes; called in each call in which they are asked. calls:
    how the net is called.
    """

    net: FluxControlNetModel
    condition: Tensor
    prepared: Prepared
    weights: list[float]
    arrive: Callable[[], None] = field(default=lambda: None)
    calls: NetCalls = field(default_factory=NetCalls)

    @classmethod
    def of(
        cls, net: FluxControlNetModel, control_latents: Tensor, mode: int | None, conditions: Conditions,
        weights: list[float], arrive: Callable[[], None] = lambda: None,
    ) -> ControlNetSteering:  # fmt: skip
        """control_latents: (1, tokens, channels), the control picture as `control_tokens` makes it."""
        condition = net.controlnet_x_embedder(control_latents)
        return cls(net, condition, prepare(net, conditions, mode), weights, arrive)

    def residuals(self, latents: Tensor, call: int) -> Residuals | None:
        weight = self.weights[call]
        if weight == 0.0:
            return None
        self.arrive()
        told = self.condition, self.prepared, call, weight
        return self.calls.residuals(controlnet_residuals, self.net, latents, *told)


@dataclass(frozen=True, eq=False, slots=True)
class RestAfterWindow:
    """Asked after all others: calls `over` with each net that is not needed again.

    last_calls: each net, and the last call in which any of its controls has a weight.
    """

    last_calls: list[tuple[FluxControlNetModel, int]]
    over: Callable[[FluxControlNetModel], None]

    @classmethod
    def of(cls, controls: Iterable[ControlNetSteering], over: Callable[[FluxControlNetModel], None]) -> RestAfterWindow:
        last: dict[int, tuple[FluxControlNetModel, int]] = {}
        for control in controls:
            end = max((call for call, weight in enumerate(control.weights) if weight), default=-1)
            before = last.get(id(control.net), (control.net, -1))[1]
            last[id(control.net)] = (control.net, max(end, before))
        return cls(list(last.values()), over)

    def residuals(self, latents: Tensor, call: int) -> None:
        for net, last in self.last_calls:
            if call >= last:
                self.over(net)


def tabulated(
    controls: Sequence[ControlNetSteering], stack: ExitStack, adaln: AdalnWeights
) -> list[ControlNetSteering]:
    """The same controls, with their nets' adaLN looked up until the stack ends. Those that share a net share tables."""
    by_net: dict[int, list[ControlNetSteering]] = {}
    for control in controls:
        by_net.setdefault(id(control.net), []).append(control)
    found: dict[int, ControlNetSteering] = {}
    for sharing in by_net.values():
        prepared = stack.enter_context(looked_up(sharing[0].net, [control.prepared for control in sharing], adaln))
        found.update((id(old), replace(old, prepared=new)) for old, new in zip(sharing, prepared, strict=True))
    return [found[id(control)] for control in controls]


def passes_of(controls: Sequence[ControlNetSteering]) -> list[NetPass]:
    """How the nets of controls that have a weight in any call are called."""
    return [NetPass(control.net, control.prepared) for control in controls if any(control.weights)]


def control_tokens(net: FluxControlNetModel, encode: Callable[[Tensor], Tensor], picture: NDArray[np.uint8]) -> Tensor:
    """(height, width, 3) uint8 -> (1, tokens, channels) in the net's dtype: what its embedder of controls reads.

    Through `encode`, the VAE's way from pictures to latents, or through the net's own layers where it reads pixels
    (XLabs).
    """
    values = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1.0
    if net.input_hint_block is None:
        return pack(encode(values)).to(net.device, net.dtype)
    return pack(net.input_hint_block(values.to(net.device, net.dtype)))


def summed_residuals(controls: Sequence[Steering], latents: Tensor, call: int) -> list[Residuals]:
    """What all controls add together in this call: one for each kind of net, by the blocks that they have."""
    totals: list[Residuals] = []
    for control in controls:
        part = control.residuals(latents, call)
        if part is None:
            continue
        place = next((index for index, total in enumerate(totals) if total.fits(part)), None)
        if place is None:
            totals.append(part)
        else:
            totals[place] = totals[place] + part
    return totals
