"""CUDA graphs of a net's calls: a call is recorded once in a job, and replayed with what the next calls give it.

Not torch.compile's own (`triton.cudagraphs`). Those are kept by thread, and programs here are made in a thread of their
own; and they are of one block each, with what torch asks before each of 57 blocks in a call left where it is. A net's
whole call is recorded here instead, of the compiled blocks as they are, in the job's thread.

What a recorded call reads and gives is at the same places in each replay. So what goes in is copied there; and what
comes out is copied from there, as it may be kept: velocities by the sampler and the step cache, and residuals of a net
that is asked twice in a call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from .forward import Prepared, Residuals, double_repeats
from .placement import Placement

log = logging.getLogger("grisaille.flux")
CALLS_MIN = 8
"""With fewer calls of the model, what recording takes is not made good."""
GRAPHS_KEPT = 8
"""Of a job, which has one size of picture: of the transformer, with and without controls, and of the ControlNets."""

Tensors = list[Tensor]


class Recorder(Protocol):
    """Records what a device is given to do. torch's graphs on a graphics card."""

    def record(self, run: Callable[[], Tensors]) -> tuple[Callable[[], None], Tensors]:
        """`run` recorded, not run: what replays it, and what then holds its results."""
        ...


class CudaRecorder:
    """One pool of memory for all graphs of a job: they are replayed one after another."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.pool = torch.cuda.graph_pool_handle()

    def record(self, run: Callable[[], Tensors]) -> tuple[Callable[[], None], Tensors]:
        graph = torch.cuda.CUDAGraph()
        # By thread: programs may be compiled in another one meanwhile, which takes memory.
        with torch.cuda.device(self.device), torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            found = run()
        return graph.replay, found


def recorder_of(device: torch.device) -> Recorder | None:
    return CudaRecorder(device) if device.type == "cuda" else None


@dataclass(eq=False, slots=True)
class GraphUse:
    """Whether a model's calls are recorded. trouble: why they never are again; "" where nothing is known against it."""

    device: torch.device
    trouble: str = ""

    def of_job(self, placement: Placement, is_compiled: bool, calls: int) -> NetCalls:
        """calls: of the model, that the job makes at the most.

        Recorded where blocks are compiled and stay: those that stream, or are unpacked ahead in a stream of their own,
        lie elsewhere in each call.
        """
        is_wanted = placement.graphs and is_compiled and placement.transformer != "streamed" and calls >= CALLS_MIN
        return NetCalls(recorder_of(self.device) if is_wanted and not self.trouble else None, self)

    def give_up(self, error: BaseException) -> None:
        """For good, and said once."""
        if not self.trouble:
            self.trouble = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            log.warning("Pictures are painted without CUDA graphs, slower: %s", self.trouble)


@dataclass(eq=False, slots=True)
class _Recorded:
    inputs: Tensors
    replay: Callable[[], None]
    outputs: Tensors


@dataclass(eq=False, slots=True)
class NetCalls:
    """The calls of a job's nets. recorder: None where each runs as it is. replays: how many were replayed so far."""

    recorder: Recorder | None = None
    use: GraphUse | None = None
    replays: int = 0
    _seen: set[Hashable] = field(default_factory=set)
    _recorded: dict[Hashable, _Recorded] = field(default_factory=dict)

    def velocity(
        self, run: Callable[..., Tensor], net: Any, latents: Tensor, prepared: Prepared, call: int,
        residuals: Sequence[Residuals],
    ) -> Tensor:  # fmt: skip
        """run: `forward.transformer_velocity`, whose arguments the others are."""
        if self.recorder is None:
            return run(net, latents, prepared, call, residuals)
        kinds = tuple((len(one.double), len(one.single), one.double_repeats) for one in residuals)
        added = [tensor for one in residuals for tensor in (*one.double, *one.single)]

        def again(given: Tensors) -> Tensors:
            latents, prepared, added = given[0], _prepared_of(given[1:5]), given[5:]
            return [run(net, latents, prepared, 0, _residuals_of(kinds, added))]

        return self._called(("velocity", id(net), kinds), again, [latents, *_tensors(prepared, call), *added])[0]

    def residuals(
        self, run: Callable[..., Residuals], net: Any, latents: Tensor, condition: Tensor, prepared: Prepared,
        call: int, weight: float,
    ) -> Residuals:  # fmt: skip
        """run: `forward.controlnet_residuals`, whose arguments the others are."""
        if self.recorder is None:
            return run(net, latents, condition, prepared, call, weight)

        def again(given: Tensors) -> Tensors:
            found = run(net, given[0], given[1], _prepared_of(given[2:6]), 0, weight)
            return [*found.double, *found.single]

        key = ("residuals", id(net), weight)
        found = self._called(key, again, [latents, condition, *_tensors(prepared, call)])
        doubles = len(net.transformer_blocks)
        return Residuals(found[:doubles], found[doubles:], double_repeats(net))

    def _called(self, key: Hashable, run: Callable[[Tensors], Tensors], given: Tensors) -> Tensors:
        """The first call of a kind runs as it is, and readies what kernels ready once; the second one is recorded."""
        key = key, tuple((tuple(one.shape), one.dtype, one.device) for one in given)
        if self.recorder is None or (key not in self._recorded and not self._is_worth(key)):
            return run(given)
        try:
            recorded = self._recorded.get(key) or self._record(key, run, given)
            for place, value in zip(recorded.inputs, given, strict=True):
                place.copy_(value)
            recorded.replay()
            found = [one.clone() for one in recorded.outputs]
        except Exception as error:  # drivers and libraries each fail in their own way, memory that runs out among it
            self.close()
            if self.use is not None:
                self.use.give_up(error)
        else:
            self.replays += 1
            return found
        # Out here, where the error no longer holds what was on the device.
        return run(given)

    def _is_worth(self, key: Hashable) -> bool:
        if key in self._seen:
            return len(self._recorded) < GRAPHS_KEPT
        self._seen.add(key)
        return False

    def _record(self, key: Hashable, run: Callable[[Tensors], Tensors], given: Tensors) -> _Recorded:
        assert self.recorder is not None
        inputs = [one.clone() for one in given]
        replay, outputs = self.recorder.record(lambda: run(inputs))
        recorded = self._recorded[key] = _Recorded(inputs, replay, outputs)
        return recorded

    def close(self) -> None:
        """Lets go of all that was recorded: weights and tables lie elsewhere in the next job."""
        self.recorder = None
        self._recorded.clear()


def _tensors(prepared: Prepared, call: int) -> Tensors:
    return [prepared.text, *prepared.rotary, prepared.modulation[call : call + 1]]


def _prepared_of(given: Tensors) -> Prepared:
    text, cosine, sine, modulation = given
    return Prepared(text, (cosine, sine), modulation)


def _residuals_of(kinds: Sequence[tuple[int, int, bool]], added: Tensors) -> list[Residuals]:
    """Residuals of these kinds again: how many for double and for single blocks, and whether they take turns."""
    found, first = [], 0
    for double, single, repeats in kinds:
        middle, end = first + double, first + double + single
        found.append(Residuals(added[first:middle], added[middle:end], repeats))
        first = end
    return found
