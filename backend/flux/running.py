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
from .graphs import GraphUse, NetCalls
from .placement import Placement
from .unpack import kernel_trouble, unpacking_ahead


@dataclass(eq=False, slots=True)
class Running:
    """attention: as it was in the last pass. compiled: of each pass of the picture, whether it ran so.

    graphed: whether calls of the picture were replayed as they had been recorded.
    """

    device: torch.device
    dtype: torch.dtype
    programs: CompiledBlocks = field(default_factory=CompiledBlocks)
    attention: str = PLAIN
    compiled: list[bool] = field(default_factory=list)
    graphed: bool = False
    graphs: GraphUse = field(init=False)

    def __post_init__(self) -> None:
        self.graphs = GraphUse(self.device)

    @property
    def is_compiled(self) -> bool:
        """Whether the picture was painted so from its first pass to its last."""
        return bool(self.compiled) and all(self.compiled)

    def begin(self) -> None:
        """A new picture: what the last one ran as is of no interest any more."""
        self.compiled.clear()
        self.graphed = False

    @contextmanager
    def painting(self, passes: Sequence[NetPass], placement: Placement, calls: int = 0) -> Iterator[NetCalls]:
        """The nets compute so while it lasts; what is chosen holds from the first call to the last.

        passes: of nets that are as they will be called, with adaLN looked up and LoRAs on. calls: of the model, at the
        most. Gives how they are to be called.
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
            made = self.graphs.of_job(placement, is_compiled, calls)
            try:
                yield made
            finally:
                # A program that fails is not asked again, and the blocks go on as they are.
                self.compiled.append(is_compiled and not self.programs.trouble)
                self.graphed = self.graphed or made.replays > 0
                made.close()

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
        found = {"attention": self.attention, "compiled": self.is_compiled, "unpacked_by": unpacked_by}
        return found | ({"cuda_graphs": True} if self.graphed else {})
