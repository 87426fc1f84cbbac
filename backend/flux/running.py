"""How a model's nets compute in a job: in which attention, and compiled or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from .ahead import CudaSide
from .attention import PLAIN, Heads, choose_attention, use_attention
from .compiled import CompiledBlocks, NetPass, round_up_tables
from .placement import Placement
from .unpack import kernel_trouble, unpacking_ahead


@dataclass(eq=False, slots=True)
class Running:
    """attention: as it was in the last pass. compiled: of each pass of the picture, whether it ran so."""

    device: torch.device
    dtype: torch.dtype
    programs: CompiledBlocks = field(default_factory=CompiledBlocks)
    attention: str = PLAIN
    compiled: list[bool] = field(default_factory=list)

    @property
    def is_compiled(self) -> bool:
        """Whether the picture was painted so from its first pass to its last."""
        return bool(self.compiled) and all(self.compiled)

    def begin(self) -> None:
        """A new picture: what the last one ran as is of no interest any more."""
        self.compiled.clear()

    @contextmanager
    def painting(self, passes: Sequence[NetPass], placement: Placement) -> Iterator[None]:
        """The nets compute so while it lasts; what is chosen holds from the first call to the last.

        passes: of nets that are as they will be called, with adaLN looked up and LoRAs on.
        """
        self.attention = self._attention(passes, placement.attention)
        for one in passes:
            use_attention(one.net, self.attention)
        is_compiled = False
        with ExitStack() as stack:
            # Streamed blocks come and go in their forwards, which a program would run without, and unpacking ahead
            # would read before they have come.
            if placement.transformer != "streamed":
                if placement.compiled:
                    for one in passes:
                        round_up_tables(one.net)
                    is_compiled = stack.enter_context(self.programs.used(passes))
                if self.device.type == "cuda" and not is_compiled:
                    stack.enter_context(unpacking_ahead(CudaSide(self.device)))
            self.compiled.append(is_compiled)
            yield

    def _attention(self, passes: Sequence[NetPass], wanted: str) -> str:
        """The best that works for the largest of the nets' calls."""
        sizes = [
            Heads(one.net.config["num_attention_heads"], one.net.config["attention_head_dim"], one.tokens)
            for one in passes
        ]
        largest = max(sizes, key=lambda heads: heads.tokens * heads.count)
        return choose_attention(self.device, self.dtype, wanted, largest).name

    def plan(self) -> dict[str, Any]:
        """What of it decides the pixels."""
        unpacked_by = "torch" if kernel_trouble(self.device) else "triton"
        return {"attention": self.attention, "compiled": self.is_compiled, "unpacked_by": unpacked_by}
