"""Blocks compiled in the background: what runs compiled when, that it is the same picture, and what may go wrong.

torch really traces and guards in all of these; a C++ compiler is used in those that say so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

from backend.flux import compiled, graphs
from backend.flux.compiled import CompiledBlocks
from backend.flux.lora import LoraInput
from backend.flux.placement import Placement
from backend.flux.running import Running
from backend.planning import ladder
from backend.production import Production
from backend.production.model_keeper import ModelKeeper
from backend.wire import Control, GenerationRequest, GenerationResult
from backend.wire.request import Stage
from tests.backend.lora_samples import random_ranks, write_lora
from tests.backend.samples import failed, kept_model, made, pixels, run, texts_of
from tests.backend.test_flux_graphs import Replayer

REQUEST = GenerationRequest("compiled", 64, 64, steps=3, model="random-weights", controls=(Control("depth"),))
pytestmark = [
    # What torch says of Python 3.13.0, and torch 2.11 of itself while it compiles.
    pytest.mark.filterwarnings("ignore:Guards may run slower"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated"),
]
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "cl"))),
    reason="no C++ compiler here (g++, clang++ or cl): on Debian, apt-get install g++",
)


WANTED = {"placement": Placement()}


@pytest.fixture
def running(production: Production, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """Of the loaded model, which is to be compiled, as no plan has it for so small a one; nothing is yet."""
    real = ModelKeeper._model
    monkeypatch.setattr(
        ModelKeeper, "_model", lambda self, folder, placement, job: real(self, folder, WANTED["placement"], job)
    )
    WANTED["placement"] = Placement()
    made(run(production, replace(REQUEST, steps=1)))
    running = kept_model(production).running
    running.programs = CompiledBlocks()
    WANTED["placement"] = Placement(compiled=True)
    yield running
    assert running.programs.wait(60)
    running.programs = CompiledBlocks()
    torch._dynamo.reset()


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch traces and guards, and runs what it traced without a compiler. To compile anew in a job is an error."""
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    real = torch.compiler.set_stance
    monkeypatch.setattr(compiled.torch.compiler, "set_stance", lambda stance: real("fail_on_recompile"))


def paint(production: Production, request: GenerationRequest) -> tuple[bool, np.ndarray]:
    result: GenerationResult = made(run(production, request))
    assert result.plan["placement"]["compiled"] == result.plan["compiled"]
    return result.plan["compiled"], pixels(result.png).astype(int)


def twice(production: Production, running: Running, request: GenerationRequest) -> list[bool]:
    """Whether it was compiled when it was first painted, and when it was painted again."""
    first, image = paint(production, request)
    assert running.programs.wait(120) and not running.programs.trouble
    second, again = paint(production, request)
    assert np.abs(image - again).max() <= 1
    return [first, second]


@pytest.mark.usefixtures("traced")
def test_the_first_job_runs_as_it_is_and_the_next_one_compiled(production: Production, running: Running) -> None:
    assert twice(production, running, REQUEST) == [False, True]
    assert paint(production, replace(REQUEST, seed=4, prompt="another"))[0]
    assert paint(production, replace(REQUEST, steps=7))[0], "other steps are other rows of the same tables"
    assert twice(production, running, replace(REQUEST, width=96)) == [False, True]
    assert paint(production, REQUEST)[0], "both sizes are kept"
    net = kept_model(production).transformer.model
    assert all("forward" not in vars(block) for block in net.transformer_blocks)


@pytest.mark.usefixtures("traced")
def test_blocks_of_8_bits_are_compiled_as_such(production: Production, running: Running) -> None:
    """Programs are made for the layers that compute, so 8-bit products have their own."""
    in_8_bits = replace(REQUEST, speed="eight_bit")
    assert twice(production, running, REQUEST) == [False, True]
    assert twice(production, running, in_8_bits) == [False, True]
    assert paint(production, REQUEST)[0] and paint(production, replace(in_8_bits, seed=5))[0], "both are kept"


@pytest.mark.usefixtures("traced")
def test_loras_ask_for_programs_of_their_own_but_other_strengths_do_not(
    production: Production, running: Running, reference: FluxTransformer2DModel, tmp_path: Path
) -> None:
    model = kept_model(production)
    layers = ["transformer_blocks.0.attn.to_q", "single_transformer_blocks.0.proj_out"]
    path = write_lora(tmp_path / "style.safetensors", random_ranks(reference.state_dict(), 1, layers=layers))
    assert twice(production, running, REQUEST) == [False, True]

    def with_lora(strength: float) -> tuple[bool, np.ndarray]:
        with torch.inference_mode():
            model.use_loras([LoraInput(path, strength)] if strength else [])
        return paint_as_it_is(production, REQUEST)

    plain = with_lora(0.0)
    before = with_lora(0.5)
    assert running.programs.wait(120)
    half, whole = with_lora(0.5), with_lora(1.0)
    assert [plain[0], before[0], half[0], whole[0]] == [True, False, True, True]
    assert np.abs(before[1] - half[1]).max() <= 1 and (half[1] != whole[1]).any() and (plain[1] != half[1]).any()
    assert with_lora(0.0)[0], "without it, the first programs fit again"


def paint_as_it_is(production: Production, request: GenerationRequest) -> tuple[bool, np.ndarray]:
    """Without the Request's own say on LoRAs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("backend.production.model_keeper.use_loras", lambda model, loras: None)
        return paint(production, request)


@pytest.mark.usefixtures("traced")
def test_what_is_not_asked_for_or_streamed_is_not_compiled(production: Production, running: Running) -> None:
    for placement in (Placement(), Placement("streamed", compiled=True)):
        WANTED["placement"] = placement
        assert not paint(production, REQUEST)[0] and not running.programs.is_busy


def as_asked(*_: Any) -> Placement:
    return WANTED["placement"]


@pytest.mark.usefixtures("traced", "running")
def test_a_picture_says_how_it_was_painted_and_is_found_by_what_was_asked(
    models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one is painted while the programs are made; the same again is not painted another time."""
    monkeypatch.setattr(ladder, "place", as_asked)
    keeping = Production(models_folder, "cpu", cache_folder=tmp_path)
    first: GenerationResult = made(run(keeping, REQUEST))
    model = kept_model(keeping)
    assert model.places.placement.compiled and model.running.programs.wait(120)
    remembered = json.loads(texts_of(first.png)["grisaille:plan"])
    assert remembered["compiled"] is remembered["placement"]["compiled"] is first.plan["placement"]["compiled"] is False
    again = made(run(keeping, REQUEST))
    assert again.plan["from_cache"] and again.png == first.png
    other = made(run(keeping, replace(REQUEST, seed=9)))
    assert other.plan["compiled"] is other.plan["placement"]["compiled"] is True
    staged = replace(REQUEST, width=128, height=128, stages=(Stage(0.5, 2), Stage(1.0, 3, 0.8)))
    partly = made(run(keeping, staged))
    assert model.running.compiled == [True, False] and partly.plan["compiled"] is False, "its second size was not"
    assert model.running.programs.wait(120)


class Blocked:
    """A compiler that is at work until it is let go."""

    def __init__(self) -> None:
        self.began, self.go = threading.Event(), threading.Event()

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        self.began.set()
        assert self.go.wait(60)
        return graph.forward


def test_jobs_and_cancelling_do_not_wait_for_the_compiler(
    production: Production, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = Blocked()
    monkeypatch.setattr(compiled, "BACKEND", compiler)
    try:
        assert not paint(production, REQUEST)[0]
        assert compiler.began.wait(60)
        asked = iter(range(1000))
        failed(run(production, replace(REQUEST, seed=1), is_cancelled=lambda: next(asked) > 8))
        assert not paint(production, replace(REQUEST, width=96))[0], "while it works, jobs run as they are"
        assert running.programs.is_busy
    finally:
        compiler.go.set()
    assert running.programs.wait(60)
    assert paint(production, REQUEST)[0]


@pytest.mark.usefixtures("traced")
def test_calls_of_compiled_nets_are_recorded(
    production: Production, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a graphics card would; from the second job on, as the first one is not compiled."""
    recorders: list[Replayer] = []
    monkeypatch.setattr(graphs, "recorder_of", lambda device: recorders.append(Replayer()) or recorders[-1])
    WANTED["placement"] = Placement(compiled=True, graphs=True)
    request = replace(REQUEST, steps=8)
    assert twice(production, running, request) == [False, True]
    (one,) = recorders
    assert running.graphed and one.recorded == 2 and one.replayed == 2 * 7
    wide = replace(request, width=96)
    assert twice(production, running, wide) == [False, True] and recorders[-1].recorded == 2, "another size, anew"
    result: GenerationResult = made(run(production, replace(request, seed=4)))
    assert result.plan["cuda_graphs"] and "graphs" not in result.plan["placement"]


def test_a_program_that_fails_in_a_job_is_left_and_the_picture_goes_on(
    production: Production, running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It ran where it was made, and does not in the job's thread: as where a card has less left by then."""

    def breaks(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        def program(*given: Any) -> Any:
            if threading.current_thread().name != "compile":
                raise RuntimeError("no kernel image is available")
            return graph.forward(*given)

        return program

    monkeypatch.setattr(compiled, "BACKEND", breaks)
    _, wanted = paint(production, REQUEST)
    assert running.programs.wait(60) and not running.programs.trouble
    is_compiled, found = paint(production, REQUEST)
    assert not is_compiled and running.programs.trouble == "RuntimeError: no kernel image is available"
    assert np.array_equal(found, wanted) and not paint(production, REQUEST)[0]
    said = [one.message for one in caplog.records if "without torch.compile" in one.message]
    assert said == ["Pictures are painted without torch.compile, slower: RuntimeError: no kernel image is available"]


def in_own_process(script: str, folder: Path, **environment: str) -> str:
    """What a script prints that begins with a model to be compiled, loaded. Its process ends by itself."""
    begin = """
import logging, sys, torch
from dataclasses import replace
from pathlib import Path
from backend.flux.placement import Placement
from backend.production import Production
from backend.production.model_keeper import ModelKeeper
from backend.wire import GenerationRequest
from tests.backend.samples import kept_model, made, run
from tools.random_model import write_random_model
logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(name)s: %(message)s")
write_random_model(Path(sys.argv[1]))
production = Production(Path(sys.argv[1]), "cpu")
request = GenerationRequest("a", 64, 64, steps=1, model="random-weights")
made(run(production, request))
running = kept_model(production).running
real = ModelKeeper._model
ModelKeeper._model = lambda self, folder, placement, job: real(self, folder, Placement(compiled=True), job)
"""
    environment |= {"TORCHINDUCTOR_CACHE_DIR": str(folder / "programs"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", begin + script, str(folder / "models")]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_where_it_cannot_compile_pictures_are_painted_all_the_same_and_it_is_said_once(tmp_path: Path) -> None:
    """The C++ compiler is really looked for, and really not there."""
    script = """
assert not made(run(production, request)).plan["compiled"]
assert running.programs.wait(250)
assert running.programs.trouble.startswith("InvalidCxxCompiler"), running.programs.trouble
for again in (request, replace(request, width=96)):
    assert not made(run(production, again)).plan["compiled"] and not running.programs.is_busy
"""
    said = in_own_process(script, tmp_path, CXX="no-such-compiler")
    assert said.count("grisaille.flux: Pictures are painted without torch.compile") == 1


def test_no_memory_to_compile_in_is_no_reason_never_to(
    production: Production, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> Any:
        raise torch.OutOfMemoryError("full")

    with monkeypatch.context() as patch:
        patch.setattr(compiled, "_call", full)
        assert not paint(production, REQUEST)[0]
        assert running.programs.wait(60)
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    assert not running.programs.trouble
    assert twice(production, running, REQUEST) == [False, True]


@needs_compiler
def test_a_compiled_picture_is_the_same_and_its_programs_are_kept_on_disk(
    production: Production, running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the C++ compiler. A later process, of which this takes the part, finds all it needs in the folder."""
    from torch._dynamo.utils import counters

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    request = replace(REQUEST, controls=())
    counters.clear()
    assert twice(production, running, request) == [False, True]
    assert counters["inductor"]["fxgraph_cache_miss"] == 2 and any(tmp_path.rglob("*.so"))
    running.programs = CompiledBlocks()
    torch._dynamo.reset()
    counters.clear()
    assert twice(production, running, request) == [False, True]
    assert counters["inductor"]["fxgraph_cache_miss"] == 0, "nothing was compiled again"


@needs_compiler
def test_the_process_ends_while_something_compiles(tmp_path: Path) -> None:
    script = """
made(run(production, request))
assert running.programs.is_busy
print("left")
"""
    assert in_own_process(script, tmp_path).strip().endswith("left")
