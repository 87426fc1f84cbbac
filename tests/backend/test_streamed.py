"""Blocks that come one by one: two buffers that take turns, what is pinned, the same numbers as in one memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from backend.flux import streamed
from backend.flux.lora import LoraInput
from backend.flux.model import FluxModel, load_model
from backend.flux.placement import Placement
from backend.flux.places import CLIP, T5, TRANSFORMER, Places
from backend.flux.streamed import BUFFERS, PlainLane, Stream
from backend.flux.text import WeightedText
from backend.models import ModelFolder
from backend.production import model_files
from tests.backend.apart import CPU, apart, buffered, changed, load_apart, painted_once
from tests.backend.diffusers_reference import REQUEST, control_inputs, load_engine, ours

BLOCKS = (TRANSFORMER, "blocks")
T5_STREAMED = Placement("packed", encoders_leave=True, encoders_streamed=True)
PROMPTS = ("a red cube", WeightedText("a red cube on grass", ((2, 5, 1.4),)), "")


@pytest.fixture(scope="module")
def plain_model(folder: ModelFolder) -> FluxModel:
    """The random model as it has always been, all of it in one memory."""
    return load_engine(folder)


def gathered(model: FluxModel, key: str) -> int:
    """How many blocks of a net that streams are in pinned memory."""
    stream = model.places._nets[key].stream
    assert stream is not None
    return len(stream.gathered)


def test_streaming_takes_two_blocks_on_the_device(folder: ModelFolder) -> None:
    model = load_apart(folder, Placement("streamed"))
    blocks, where = model.transformer.model.transformer_blocks, model.places
    sizes: list[int] = []
    blocks[0].register_forward_hook(lambda *_: sizes.append(buffered(where)))
    painted_once(model)
    stream = where._nets[TRANSFORMER].stream
    assert stream is not None and BLOCKS not in where.residency.here()
    assert set(sizes) == {stream.size()} and buffered(where) == 0
    largest = max(sum(one.nbytes for one in (*block.parameters(), *block.buffers())) for block in stream.blocks)
    assert stream.size() < BUFFERS * largest, "without adaLN's weights"


def test_weights_beyond_the_limit_are_not_pinned(folder: ModelFolder, plain_model: FluxModel) -> None:
    wanted = painted_once(plain_model)
    whole = load_apart(folder, Placement("streamed"))
    assert gathered(whole, TRANSFORMER) == 4
    limit = whole.places.mover.pinned // 2
    with torch.inference_mode(), apart(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("backend.flux.moves.pinned_limit", lambda: limit)
        some = load_model(model_files(folder), CPU, torch.float32, lambda: None, Placement("streamed"))
    stream = some.places._nets[TRANSFORMER].stream
    assert stream is not None and 0 < len(stream.gathered) < 4 and some.places.mover.pinned <= limit
    assert torch.equal(painted_once(some), wanted)
    assert torch.equal(painted_once(whole), wanted)


class LateLane(PlainLane):
    """Copies as late as a graphics card may: when somebody waits."""

    def __init__(self) -> None:
        self.pending: dict[int, Any] = {}

    def copy(self, buffer: int, copies: Any) -> None:
        assert buffer not in self.pending, "two copies into one buffer, and nobody waited for the first"
        self.pending[buffer] = copies

    def wait(self, buffer: int) -> None:
        for target, source in self.pending.pop(buffer, []):
            target.copy_(source)


class StrictLane(PlainLane):
    """Fails where a buffer is filled while a block computes with it: there is no order in which that is right."""

    def __init__(self) -> None:
        self.busy: set[int] = set()

    def copy(self, buffer: int, copies: Any) -> None:
        assert buffer not in self.busy
        super().copy(buffer, copies)

    def wait(self, buffer: int) -> None:
        self.busy.add(buffer)

    def done(self, buffer: int) -> None:
        self.busy.discard(buffer)


@pytest.mark.parametrize("lane", [LateLane, StrictLane])
def test_copies_and_blocks_wait_for_each_other(
    folder: ModelFolder, plain_model: FluxModel, lane: type[PlainLane], monkeypatch: pytest.MonkeyPatch
) -> None:
    controls = control_inputs(folder, [("depth", 0.7, 0.0, 1.0)])
    wanted = ours(plain_model, replace(REQUEST, true_cfg=2.0), controls)[0]
    model = load_apart(folder, Placement("streamed", nets_leave=True))
    monkeypatch.setattr(streamed, "lane_of", lambda device: lane())
    assert torch.equal(ours(model, replace(REQUEST, true_cfg=2.0), controls)[0], wanted)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_any_number_of_blocks_goes_round(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each copy once a round, the next one while one computes."""
    begun: list[int] = []
    blocks = [torch.nn.Linear(4, 4).requires_grad_(False) for _ in range(count)]
    weights = [block.weight.clone() for block in blocks]
    with apart():
        where = Places(CPU, torch.float32)
    where.mover.load(one for block in blocks for one in block.parameters())
    stream = Stream(blocks, where.mover)
    begin = stream._begin
    monkeypatch.setattr(stream, "_begin", lambda index: begun.append(index) or begin(index))
    with stream.opened():
        for _ in range(3):
            for index, block in enumerate(blocks):
                with stream.arrived(index):
                    assert torch.equal(block.weight, weights[index])
                    assert (index + 1) % count in stream._holds
    assert begun == ([index % count for index in range(3 * count + 1)] if count > 2 else list(range(count)))
    assert all(torch.equal(block.weight, weight) for block, weight in zip(blocks, weights, strict=True))


def test_a_loop_that_fails_leaves_the_net_at_rest(folder: ModelFolder, plain_model: FluxModel) -> None:
    model = load_apart(folder, Placement("streamed", nets_leave=True))
    controls = control_inputs(folder, [("depth", 0.7, 0.0, 1.0)])
    layer = model.transformer.model.get_submodule("single_transformer_blocks.0.proj_out")
    handle = layer.register_forward_pre_hook(fail)
    with pytest.raises(torch.OutOfMemoryError):
        ours(model, REQUEST, controls)
    handle.remove()
    assert buffered(model.places) == 0 and not model.places.residency._held.total()
    assert torch.equal(ours(model, REQUEST, controls)[0], ours(plain_model, REQUEST, controls)[0])


def fail(*_: object) -> None:
    raise torch.OutOfMemoryError


@torch.inference_mode()
def read(model: FluxModel) -> list[torch.Tensor]:
    model.prompts.clear()
    return [one for prompt in PROMPTS for one in model.encode_prompt(prompt)]


@pytest.mark.parametrize("lane", [PlainLane, LateLane, StrictLane])
def test_a_streamed_text_encoder_reads_the_same(
    folder: ModelFolder, plain_model: FluxModel, lane: type[PlainLane], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = read(plain_model)
    model = load_apart(folder, T5_STREAMED)
    monkeypatch.setattr(streamed, "lane_of", lambda device: lane())
    assert all(map(torch.equal, read(model), wanted)) and (T5, "blocks") not in model.places.residency.here()
    changed(model, replace(T5_STREAMED, encoders_streamed=False))
    assert all(map(torch.equal, read(model), wanted)) and (T5, "blocks") in model.places.residency.here()
    changed(model, T5_STREAMED)
    assert all(map(torch.equal, read(model), wanted)) and (T5, "blocks") not in model.places.residency.here()


def test_a_streamed_text_encoder_takes_two_of_its_blocks(folder: ModelFolder) -> None:
    model = load_apart(folder, T5_STREAMED)
    where, blocks = model.places, model.text.t5.encoder.block
    seen: list[tuple[int, set[Any]]] = []
    blocks[0].register_forward_hook(lambda *_: seen.append((buffered(where), set(where.residency.here()))))
    painted_once(model)
    stream = where._nets[T5].stream
    assert stream is not None and len(stream.blocks) == len(blocks) == len(stream.gathered)
    (size, here), *_ = seen
    assert size == stream.size() and {TRANSFORMER, BLOCKS, (T5, "blocks")}.isdisjoint(here) and {T5, CLIP} <= here
    assert buffered(where) == 0 and {TRANSFORMER, BLOCKS} <= set(where.residency.here())


def test_the_transformer_has_the_pinned_memory_first(folder: ModelFolder) -> None:
    both = Placement("streamed", encoders_leave=True, encoders_streamed=True)
    limit = load_apart(folder, Placement("streamed", encoders_leave=True)).places.mover.pinned
    with torch.inference_mode(), apart(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("backend.flux.moves.pinned_limit", lambda: limit + 4096)
        model = load_model(model_files(folder), CPU, torch.float32, lambda: None, both)
    assert gathered(model, TRANSFORMER) == 4 and gathered(model, T5) == 0


def test_loras_on_a_streamed_text_encoder(folder: ModelFolder, plain_model: FluxModel, tmp_path: Path) -> None:
    names = [f"encoder.block.{block}.layer.1.DenseReluDense.wo" for block in (0, 1)]
    weights, tensors = dict(plain_model.text.t5.named_parameters()), {}
    for name in names:
        outputs, inputs = weights[f"{name}.weight"].shape
        key = f"lora_te2_{name.replace('.', '_')}"
        tensors[f"{key}.lora_down.weight"] = torch.randn(4, inputs)
        tensors[f"{key}.lora_up.weight"] = torch.randn(outputs, 4)
    save_file(tensors, tmp_path / "words.safetensors")
    used = [LoraInput(tmp_path / "words.safetensors", 0.5)]
    model = load_apart(folder, T5_STREAMED)
    before, found = read(model), []
    with torch.inference_mode():
        for one in (plain_model, model):
            one.use_loras(used)
            found.append(read(one))
            one.use_loras([])
    assert not torch.equal(found[1][0], before[0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)
    assert all(map(torch.equal, read(model), before))
