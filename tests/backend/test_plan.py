"""Plans as a table of machines that nobody here has, and what holds for every one of them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.flux.placement import Placement
from backend.models import ModelFolder, choose_nets
from backend.models.sizes import ModelSizes, number_format
from backend.planning import Machine, MemoryPlan, Work, choose_model, make_plan, step_down
from backend.planning.estimate import STAGES, peaks
from backend.planning.ladder import fits, is_below, rungs
from backend.wire import Control, GenerationRequest
from tests.backend.plan_models import BITS, GB, card, cpu, mac, model

REQUEST = GenerationRequest("a cube", 1024, 1024, steps=28)
Models = list[tuple[ModelFolder, ModelSizes]]


def every(nets: str = "", t5: str = "Q8_0") -> Models:
    """FLUX.1-dev in all number formats: full, q8, q6 …"""
    kinds = ("BF16", "Q8_0", "Q6_K", "Q5_K_S", "Q4_K_S", "Q3_K_S")
    return [model("full" if kind == "BF16" else kind[:2].lower(), kind, nets, t5) for kind in kinds]


PLAIN, UNION = every(), every("union-2")
SMALL_TEXT = [model("q4", "Q4_K_S", t5="Q3_K_S"), model("q3", "Q3_K_S", t5="Q3_K_S"), model("q8", "Q8_0", t5="Q3_K_S")]
LARGE_TEXT = [model("q4", "Q4_K_S", t5="BF16")]
SAMPLE = [model("sample", "Q8_0", "union-2", is_toy=True)]
DEPTH = {"controls": (Control("depth"),)}
LARGE, SMALL, WIDE = {"width": 2048, "height": 2048}, {"width": 512, "height": 512}, {"width": 1536, "height": 1024}
TABLE: list[tuple[Machine, Models, dict, str]] = [
    # 24 GB and more: unpacked once, and compiled.
    (card(80.0), PLAIN, {}, "full unpacked"),
    (card(47.0), PLAIN, {}, "full unpacked"),
    (card(31.5), PLAIN, {}, "full unpacked"),
    (card(25.2), PLAIN, {}, "full unpacked tile 512"),
    (card(23.2), PLAIN, {}, "full unpacked encoders"),
    (card(80.0), PLAIN[1:], {}, "q8 unpacked"),
    (card(25.2), PLAIN[1:], {}, "q8 unpacked encoders"),
    (card(80.0), UNION, DEPTH, "full unpacked"),
    (card(31.5), UNION, DEPTH, "full unpacked"),
    (card(25.2), UNION, DEPTH, "full unpacked encoders"),
    (card(80.0), PLAIN, LARGE, "full unpacked"),
    (card(25.2), PLAIN, LARGE, "full unpacked encoders tile 1024"),
    (card(25.2), PLAIN, SMALL, "full unpacked"),
    (card(25.2, host=16.0), PLAIN[:1], {}, "full unpacked tile 512"),
    # 12 to 24 GB: Q8, packed.
    (card(15.6), PLAIN, {}, "q8 packed encoders"),
    (card(15.6), PLAIN[:1], {}, "full streamed"),
    (card(15.6), UNION, DEPTH, "q8 packed encoders"),
    (card(15.6), PLAIN, LARGE, "q8 packed encoders tile 1024"),
    (card(11.9), PLAIN, {}, "q8 packed encoders tile 768"),
    (card(11.9), PLAIN, SMALL, "q8 packed encoders"),
    (card(11.9), PLAIN, WIDE, "q8 packed encoders tile 768"),
    # 8 to 12 GB: Q6 or Q4, the VAE in tiles.
    (card(11.9), UNION, DEPTH, "q5 packed encoders"),
    (card(11.9), PLAIN, LARGE, "q6 packed encoders tile 1024"),
    (card(9.9), PLAIN, {}, "q6 packed encoders"),
    (card(9.9), UNION, DEPTH, "q3 packed encoders t5 streamed"),
    (card(9.5), PLAIN, {}, "q6 packed encoders tile 768"),
    (card(7.2), PLAIN, {}, "q4 packed encoders tile 768"),
    (card(7.2), PLAIN, SMALL, "q4 packed encoders"),
    (card(7.2), PLAIN[:2], {}, "q8 streamed encoders"),
    # Less: streamed, in few bits.
    (card(7.2), UNION, DEPTH, "q4 streamed encoders t5 streamed"),
    (card(3.7), UNION, DEPTH, "q4 streamed encoders t5 streamed nets"),
    (card(5.6), SMALL_TEXT, {}, "q4 streamed"),
    (card(4.6), SMALL_TEXT, {}, "q4 streamed tile 768"),
    (card(7.2, host=8.0), [*PLAIN, *SAMPLE], {}, "q4 packed encoders tile 768"),
    (card(7.2, host=8.0), [*UNION, *SAMPLE], DEPTH, "sample unpacked"),
    (card(7.2), LARGE_TEXT, {}, "q4 packed encoders t5 streamed tile 768"),
    # Text encoders that are larger than the card come block by block.
    (card(5.6), PLAIN, {}, "q4 streamed encoders t5 streamed"),
    (card(5.6), LARGE_TEXT, {}, "q4 streamed encoders t5 streamed"),
    (card(3.7), LARGE_TEXT, {}, "q4 streamed encoders t5 streamed"),
    (card(3.7, host=16.0), PLAIN, LARGE, "q4 streamed encoders t5 streamed tile 1024"),
    (card(2.0), SMALL_TEXT, {}, "q3 streamed encoders t5 streamed tile 256, too small"),
    # Memory that the device shares: nothing leaves, nothing is streamed.
    (cpu(64.0), PLAIN, {}, "full packed"),
    (cpu(32.0), PLAIN, {}, "q8 packed"),
    (cpu(16.0), SAMPLE, {}, "sample unpacked"),
    (cpu(16.0), PLAIN, {}, "q3 packed tile 768"),
    (cpu(8.0), PLAIN, {}, "q3 packed tile 256, too small"),
    (mac(128.0), PLAIN, {}, "full unpacked"),
    (mac(32.0), PLAIN, {}, "q8 packed"),
    (mac(16.0), PLAIN, {}, "q3 packed tile 256, too small"),
    # Nothing is known of it.
    (card(0.0), PLAIN, {}, "full unpacked"),
]


def planned(machine: Machine, models: Models, changes: dict) -> tuple[str, MemoryPlan]:
    """The name of the model that is chosen, and its plan."""
    request = replace(REQUEST, **changes)
    folder = choose_model(request, models, machine).folder
    sizes = next(sizes for found, sizes in models if found is folder)
    kinds = [control.kind for control in request.controls]
    choices = choose_nets(kinds, folder.controlnets, folder.name, folder.joined)
    return folder.name, make_plan(machine, folder, sizes, Work.of(request, folder, choices))


def said(name: str, plan: MemoryPlan) -> str:
    placement = plan.placement
    words = [name, placement.transformer]
    words += ["encoders"] if placement.encoders_leave else []
    words += ["t5 streamed"] if placement.encoders_streamed else []
    words += ["nets"] if placement.nets_leave else []
    words += [f"tile {placement.vae_tile}"] if placement.vae_tile else []
    return " ".join(words) + ("" if plan.fits else ", too small")


def test_there_are_forty_machines() -> None:
    assert len(TABLE) >= 40


@pytest.mark.parametrize(
    ("machine", "models", "changes", "wanted"),
    TABLE,
    ids=[f"{machine.kind} {machine.free / GB:g} {wanted}" for machine, _, _, wanted in TABLE],
)
def test_the_plan_of_a_machine(machine: Machine, models: Models, changes: dict, wanted: str) -> None:
    name, plan = planned(machine, models, changes)
    assert said(name, plan) == wanted
    assert planned(machine, models[::-1], changes) == (name, plan), "the order on disk does not matter"
    placement = plan.placement
    assert placement.compiled == (machine.kind == "cuda" and placement.transformer != "streamed" and name != "sample")
    assert placement.compiled or not placement.graphs
    if machine.kind != "cuda":
        assert placement == Placement(placement.transformer, vae_tile=placement.vae_tile)


@pytest.mark.parametrize("t5", ["BF16", "Q8_0"])
@pytest.mark.parametrize("free", [3.8, 4.5, 5.6, 7.2, 9.5])
def test_no_card_is_too_small_for_the_text_encoders(free: float, t5: str) -> None:
    """With FLUX.1-dev in any number format, with a ControlNet and without. free: of cards of 4 GB and more."""
    for nets, changes in (("", {}), ("union-2", DEPTH)):
        for one in every(nets, t5):
            _, plan = planned(card(free), [one], changes)
            assert plan.fits and plan.peaks["text"] <= plan.machine.usable, plan.lines


def test_running_out_in_the_text_stage_streams_the_encoder() -> None:
    _, plan = planned(card(15.6), LARGE_TEXT, {})
    for stage in ("text", "loading"):
        below = step_down(plan, stage)
        assert below is not None and below.placement == replace(plan.placement, encoders_streamed=True)
        assert below.peaks[stage] < plan.peaks[stage] and "block by block" in below.lines[1]
        lower = step_down(below, stage)
        assert lower is None or lower.placement.encoders_streamed


@pytest.mark.parametrize(
    ("free", "wanted"),
    [
        (47.0, "q8 packed"),
        (15.6, "q8 packed encoders"),
        (9.9, "q6 packed encoders, in full"),
        (3.7, "q4 streamed encoders t5 streamed, in full"),
    ],
)
def test_products_of_8_bits_are_counted(free: float, wanted: str) -> None:
    """They are made of packed weights, take a byte a weight whatever those take, and stream nowhere."""
    fast = {"speed": "eight_bit"}
    name, plan = planned(card(free), PLAIN[1:], fast)
    in_full = not plan.placement.eight_bit
    assert said(name, plan) + (", in full" if in_full else "") == wanted
    assert in_full == ("in full and not in 8 bits" in plan.lines[0])
    blocks = 8_550_000_000
    assert in_full or min(plan.peaks["denoising"], plan.peaks["decoding"]) > blocks


MACHINES = st.builds(
    lambda kind, free, host: {"cuda": card(free, host), "cpu": cpu(free), "mps": mac(free)}[kind],
    st.sampled_from(["cuda", "cuda", "cuda", "cpu", "mps"]),
    st.floats(1.0, 96.0),
    st.floats(4.0, 128.0),
)
MODELS = st.builds(
    lambda kind, nets, t5: model("one", kind, nets, t5),
    st.sampled_from([*BITS]),
    st.sampled_from(["", "union-2", "union-1", "union-q4", "union-2 normals"]),
    st.sampled_from(["BF16", "Q8_0", "Q3_K_S"]),
)


def work_on(folder: ModelFolder, side: int, height: int, steps: int, nets: int, bits: int) -> Work:
    folders = [entry.folder for entry in folder.controlnets]
    used = tuple((folders * 2)[:nets] if folders else ())
    return Work(side, height, steps, nets=used, reads_picture=True, bits=bits, eight_bit=steps % 2 == 0)


WORKS = (st.integers(4, 128).map(lambda n: 16 * n), st.integers(4, 128).map(lambda n: 16 * n),
         st.integers(1, 400), st.integers(0, 4), st.sampled_from([8, 16]))  # fmt: skip


def rank(plan: MemoryPlan) -> tuple[int, bool, bool, bool, bool, int, bool]:
    """How far down the ladder it is."""
    placement = plan.placement
    form = ("unpacked", "packed", "streamed").index(placement.transformer)
    coming = placement.encoders_leave, placement.nets_leave, placement.encoders_streamed
    return form, not placement.eight_bit, *coming, -(placement.vae_tile or 10_000), not placement.graphs


@given(MACHINES, MODELS, *WORKS)
def test_what_can_fit_does(
    machine: Machine, found: tuple, side: int, height: int, steps: int, nets: int, bits: int
) -> None:
    folder, sizes = found
    work = work_on(folder, side, height, steps, nets, bits)
    plan = make_plan(machine, folder, sizes, work)
    assert plan.peaks.keys() == set(STAGES) and all(peak > 0 for peak in plan.peaks.values())
    if any(fits(machine, sizes, work, one) for one in rungs(machine, sizes, work)):
        assert plan.fits and plan.most <= machine.usable < machine.free
    else:
        assert not plan.fits and "may not fit" in plan.lines[0]


@given(MACHINES, MODELS, *WORKS)
def test_a_plan_that_fits_leaves_room_for_its_own_weights(
    machine: Machine, found: tuple, side: int, height: int, steps: int, nets: int, bits: int
) -> None:
    folder, sizes = found
    plan = make_plan(machine, folder, sizes, work_on(folder, side, height, steps, nets, bits))
    assert bool(plan.rooms) == machine.has_own_memory
    for stage in STAGES if plan.rooms else ():
        room = plan.rooms[stage]
        beside = machine.usable - room
        assert 0 <= beside <= machine.usable and beside < plan.peaks[stage]
        assert not plan.fits or plan.peaks[stage] - beside <= room
    if plan.rooms and not plan.fits and len(folder.controlnets) == 0:
        assert plan.fullest != "decoding", "the last tiles are smaller than a call of the transformer"


@given(MACHINES, st.floats(0.0, 40.0), MODELS, *WORKS)
def test_more_memory_is_never_a_lower_rung(
    machine: Machine, more: float, found: tuple, side: int, height: int, steps: int, nets: int, bits: int
) -> None:
    folder, sizes = found
    work = work_on(folder, side, height, steps, nets, bits)
    extra = round(more * GB)
    larger = replace(machine, total=machine.total + extra, free=machine.free + extra)
    assert rank(make_plan(larger, folder, sizes, work)) <= rank(make_plan(machine, folder, sizes, work))


@given(MACHINES, MODELS, *WORKS)
def test_more_work_never_takes_less(
    machine: Machine, found: tuple, side: int, height: int, steps: int, nets: int, bits: int
) -> None:
    folder, sizes = found
    work = work_on(folder, side, height, steps, nets, bits)
    for placement in rungs(machine, sizes, work):
        now = peaks(machine, sizes, work, placement)
        wider = replace(work, width=work.width + 16)
        with_lora = replace(work, lora_bytes=10**9)
        fewer = replace(work, nets=work.nets[:-1])
        for more in (wider, with_lora):
            assert all(peaks(machine, sizes, more, placement)[stage] >= now[stage] for stage in STAGES)
        assert all(peaks(machine, sizes, fewer, placement)[stage] <= now[stage] for stage in STAGES)


@given(MACHINES, MODELS, *WORKS, st.lists(st.sampled_from(STAGES), min_size=60, max_size=60))
def test_every_step_down_takes_less_where_memory_ran_out(
    machine: Machine, found: tuple, side: int, height: int, steps: int, nets: int, bits: int, stages: list[str]
) -> None:
    folder, sizes = found
    plan: MemoryPlan | None = make_plan(machine, folder, sizes, work_on(folder, side, height, steps, nets, bits))
    seen: list[Placement] = []
    for count, stage in enumerate(stages):
        assert plan is not None
        assert plan.placement not in seen and len(plan.stepped_down) == count
        seen.append(plan.placement)
        below = step_down(plan, stage)
        if below is None:
            return
        assert rank(below) > rank(plan) and below.stepped_down[-1] == stage, "what was given up stays given up"
        left = [one for one in rungs(machine, sizes, plan.work) if is_below(one, plan.placement, plan.work)]
        if any(peaks(machine, sizes, plan.work, one)[stage] < plan.peaks[stage] for one in left):
            assert below.peaks[stage] < plan.peaks[stage]
        plan = below
    raise AssertionError("the ladder has no end")


def test_a_step_down_gives_up_what_the_stage_needs() -> None:
    _, plan = planned(card(80.0), PLAIN, {})
    fastest = Placement("unpacked", compiled=True, graphs=True)
    assert plan.placement == fastest
    decoding = step_down(plan, "decoding")
    assert decoding is not None and decoding.placement == replace(fastest, vae_tile=768)
    text = step_down(plan, "text")
    assert text is not None and text.placement == replace(fastest, encoders_leave=True)
    painting = step_down(text, "denoising")
    assert painting is not None and painting.placement == replace(text.placement, graphs=False), "nothing is as cheap"
    less = step_down(painting, "denoising")
    assert less is not None and less.placement == Placement("streamed", encoders_leave=True)
    _, packed = planned(card(80.0), PLAIN[1:], {})
    whole = step_down(packed, "loading")
    assert whole is not None and whole.placement.encoders_leave, "the encoders' room is the cheapest to have"


def test_the_two_lines() -> None:
    _, plan = planned(card(7.2), UNION, DEPTH)
    assert plan.lines == (
        f"FLUX.1-dev Q4_K_S, streamed: {plan.most / GB:.1f} of 7.2 GB free at the most, while the picture is decoded.",
        "The text encoder comes block by block, and leaves before it paints. How long it takes is not known yet.",
    )
    _, plan = planned(card(15.6), PLAIN, {})
    assert replace(plan, seconds=41.3).lines[1] == "The text encoders leave before it paints. About 41 s."
    assert replace(plan, seconds=400.0).lines[1].endswith("About 7 min.")
    _, tiled = planned(card(7.2), PLAIN, {})
    assert "decoded in tiles of 768 pixels" in tiled.lines[1]
    _, unknown = planned(card(0.0), PLAIN, {})
    assert unknown.lines[0] == f"FLUX.1-dev BF16, unpacked: {unknown.most / GB:.1f} GB at the most."


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("flux1-dev-Q4_K_S.gguf", "Q4_K_S"),
        ("flux1-dev-q8_0.gguf", "Q8_0"),
        ("flux1-schnell-IQ4_XS.gguf", "IQ4_XS"),
        ("flux1-dev-bf16.safetensors", "BF16"),
        ("flux1-dev-fp8.safetensors", "FP8"),
        ("flux1-dev-Q6_K.gguf", "Q6_K"),
        ("transformer.gguf", ""),
        ("diffusion_pytorch_model.safetensors.index.json", ""),
    ],
)
def test_the_format_is_read_from_the_name(name: str, wanted: str) -> None:
    assert number_format(name) == wanted


def test_a_plan_needs_no_torch() -> None:
    code = "import backend.planning, sys; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
