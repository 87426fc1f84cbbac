"""What a loop's calls of the model gave, so that another loop goes on from there with the same pixels."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from .samplers import Callback, Model


@dataclass(frozen=True, eq=False, slots=True)
class Known:
    """difference: between the passes for the prompt and for the negative one, when both were last made, in `call`."""

    call: int
    difference: Tensor


@dataclass(eq=False, slots=True)
class Journal:
    """The velocities of a loop's calls in their order, in main memory; half a megabyte each at 1024 x 1024 pixels.

    A loop that is begun again is given them in place of the model's, to the last one that was finished. So its sampler
    comes to the same latents, and what it remembers of earlier steps (dpmpp_2m, unipc) or decided in them (adaptive) is
    the same, too. told: how many steps were reported. known: of true CFG, where not each call takes its second pass.
    """

    velocities: list[Tensor] = field(default_factory=list)
    told: int = 0
    known: Known | None = None

    def kept(self, model: Model) -> Model:
        """The model, called only for what is not here yet."""
        made = 0

        def replayed(latents: Tensor, call: int) -> Tensor:
            nonlocal made
            made += 1
            if made > len(self.velocities):
                self.velocities.append(model(latents, call).cpu())
            return self.velocities[made - 1].to(latents.device)

        return replayed

    def once(self, callback: Callback) -> Callback:
        """Reports steps that were not reported before; one whose report ended by raising was not."""

        def told(step: int, tokens: Tensor) -> None:
            if step >= self.told:
                callback(step, tokens)
                self.told = step + 1

        return told
