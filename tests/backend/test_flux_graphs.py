"""Calls that are recorded and replayed: the same pictures, what is kept is not overwritten, and where it fails.

A recorder stands in for torch's CUDA graphs: it replays into the very tensors that it recorded, and spoils what a graph
would leave undefined. What it replays is really computed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from backend.flux import graphs
from backend.flux.graphs import CALLS_MIN, GRAPHS_KEPT, GraphUse, NetCalls
from backend.flux.model import FluxModel
from backend.flux.placement import Placement
from backend.models import ModelFolder
from backend.wire import GenerationRequest
from tests.backend.diffusers_reference import MASK, REQUEST, control_inputs, ours

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GRAPHED = Placement("unpacked", compiled=True, graphs=True)
WINDOWS = [("depth", 0.7, 0.0, 0.75), ("line", 0.5, 0.5, 1.0)]
"""Two pictures for one net: alone, together, and alone."""


@dataclass
class Replayer:
    """fail_at: which replay, or recording as 0, raises `error`."""

    recorded: int = 0
    replayed: int = 0
    fail_at: int = -1
    error: BaseException = field(default_factory=RuntimeError)
    outputs: list[list[Tensor]] = field(default_factory=list)

    def record(self, run: Callable[[], list[Tensor]]) -> tuple[Callable[[], None], list[Tensor]]:
        if self.fail_at == 0:
            raise self.error
        self.recorded += 1
        # One pool of memory, as of graphs: what one gives lies there until another one is replayed.
        found = [one.clone().fill_(torch.nan) for one in run()]
        self.outputs.append(found)

        def replay() -> None:
            self.replayed += 1
            if self.replayed == self.fail_at:
                raise self.error
            for place in (one for outputs in self.outputs for one in outputs):
                place.fill_(torch.nan)
            for place, value in zip(found, run(), strict=True):
                place.copy_(value)

        return replay, found


@pytest.fixture
def recorders(model: FluxModel, monkeypatch: pytest.MonkeyPatch) -> list[Replayer]:
    """Of each job, one: the model is taken for one that is compiled and may have graphs."""
    made: list[Replayer] = []

    def recorder(device: torch.device) -> Replayer:
        made.append(Replayer())
        return made[-1]

    real = GraphUse.of_job
    monkeypatch.setattr(graphs, "recorder_of", recorder)
    monkeypatch.setattr(GraphUse, "of_job", lambda self, placement, compiled, calls: real(self, GRAPHED, True, calls))
    monkeypatch.setattr(model.running, "graphs", GraphUse(CPU))
    return made


def wanted_of(model: FluxModel, request: GenerationRequest, folder: ModelFolder, mask: bool = False) -> Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "recorder_of", lambda device: None)
        return painted(model, request, folder, mask)


def painted(model: FluxModel, request: GenerationRequest, folder: ModelFolder, mask: bool = False) -> Tensor:
    return ours(model, request, control_inputs(folder, WINDOWS), MASK if mask else None)[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 8},
        {"steps": 9, "true_cfg": 2.0, "negative_prompt": "fog"},
        {"steps": 10, "sampler": "unipc", "seed": 4},
        {"steps": 12, "sampler": "dpmpp_2m", "speed": "fast"},
        {"steps": 16, "speed": "cached"},
        {"steps": 10, "task": "inpaint"},
        {"steps": 17, "sampler": "adaptive"},
    ],
)
def test_a_replayed_picture_is_the_same_to_the_bit(
    changes: dict, model: FluxModel, folder: ModelFolder, recorders: list[Replayer]
) -> None:
    request, mask = replace(REQUEST, **changes), "task" in changes
    wanted = wanted_of(model, request, folder, mask)
    model.running.begin()
    assert torch.equal(painted(model, request, folder, mask), wanted)
    (one,) = recorders
    assert 1 < one.recorded <= GRAPHS_KEPT and one.replayed >= 4
    assert model.running.graphed and model.running.plan()["cuda_graphs"] is True


def test_every_job_records_anew_and_every_size(
    model: FluxModel, folder: ModelFolder, recorders: list[Replayer]
) -> None:
    """Tables and weights may lie elsewhere by then; what a job recorded ends with it."""
    request = replace(REQUEST, steps=8)
    for other in (request, replace(request, prompt="another"), request):
        wanted = wanted_of(model, other, folder)
        assert torch.equal(painted(model, other, folder), wanted)
    assert len(recorders) == 3 and len({one.recorded for one in recorders}) == 1


def test_what_is_kept_is_bounded() -> None:
    recorder, calls = Replayer(), NetCalls(Replayer())
    calls.recorder = recorder
    for _ in range(3):
        for size in range(1, GRAPHS_KEPT + 4):
            given = torch.full((size,), float(size))
            (found,) = calls._called("one", lambda tensors: [tensors[0] * 2.0], [given])
            assert torch.equal(found, 2.0 * given)
    assert recorder.recorded == GRAPHS_KEPT and calls.replays == 2 * GRAPHS_KEPT
    calls.close()
    assert not calls._recorded


def test_what_was_given_before_stays_as_it_is() -> None:
    """A sampler keeps velocities, and a net that is asked twice in a call gives residuals that are added up."""
    calls = NetCalls(Replayer())
    found = [calls._called("one", lambda given: [given[0] + 1.0], [torch.tensor([float(n)])])[0] for n in range(6)]
    assert torch.equal(torch.cat(found), torch.arange(6) + 1.0) and calls.replays == 5
    assert len({one.data_ptr() for one in found}) == 6


FAILURES = [RuntimeError("operation not permitted when stream is capturing"), torch.OutOfMemoryError("full"),
            ValueError("an attention that asks the processor")]  # fmt: skip


@pytest.mark.parametrize("at", [0, 1, 5])
@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_where_it_fails_the_picture_goes_on_and_it_is_said_once(
    at: int, error: Exception, model: FluxModel, folder: ModelFolder, recorders: list[Replayer],
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    request = replace(REQUEST, steps=8)
    wanted = wanted_of(model, request, folder)
    failing = Replayer(fail_at=at, error=error)
    monkeypatch.setattr(graphs, "recorder_of", lambda device: failing)
    with caplog.at_level(logging.WARNING, "grisaille.flux"):
        model.running.begin()
        assert torch.equal(painted(model, request, folder), wanted)
        assert model.running.graphed == (at > 1) and str(error) in model.running.graphs.trouble
        model.running.begin()
        recorded = failing.recorded
        assert torch.equal(painted(model, request, folder), wanted) and failing.recorded == recorded
    assert not model.running.graphed and "cuda_graphs" not in model.running.plan()
    assert [one.message for one in caplog.records if "CUDA graphs" in one.message] == [
        f"Pictures are painted without CUDA graphs, slower: {type(error).__name__}: {error}"
    ]


@pytest.mark.parametrize(
    ("device", "placement", "is_compiled", "calls", "trouble", "wanted"),
    [
        (CUDA, GRAPHED, True, 28, "", True),
        (CUDA, replace(GRAPHED, transformer="packed"), True, CALLS_MIN, "", True),
        (CUDA, GRAPHED, True, CALLS_MIN - 1, "", False),
        (CUDA, GRAPHED, False, 28, "", False),
        (CUDA, replace(GRAPHED, graphs=False), True, 28, "", False),
        (CUDA, replace(GRAPHED, transformer="streamed"), True, 28, "", False),
        (CUDA, GRAPHED, True, 28, "it failed", False),
        (CPU, GRAPHED, True, 28, "", False),
        (torch.device("mps"), GRAPHED, True, 28, "", False),
    ],
)
def test_where_calls_are_recorded(
    device: torch.device, placement: Placement, is_compiled: bool, calls: int, trouble: str, wanted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(graphs, "CudaRecorder", lambda device: Replayer())
    assert (GraphUse(device, trouble).of_job(placement, is_compiled, calls).recorder is not None) == wanted


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA graphics card")
def test_on_a_graphics_card() -> None:
    calls, weight = NetCalls(graphs.CudaRecorder(CUDA)), torch.randn(64, 64, device=CUDA)
    for _ in range(5):
        given = torch.randn(8, 64, device=CUDA)
        assert torch.equal(calls._called("one", lambda one: [one[0] @ weight], [given])[0], given @ weight)
    assert calls.replays == 4
