"""Which attention a device gets, what happens when one does not run, and that all give the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

from backend.flux import attention
from backend.flux.attention import BACKENDS, ORDERS, PLAIN, Backend, Heads, choose_attention, use_attention
from backend.flux.load_parts import without_deprecations
from tests.backend.samples import CONFIG

CPU = torch.device("cpu")
SMALL = Heads(count=2, size=16)
ON_CPU = {
    "math": Backend("_native_math"),
    "flash": Backend("_native_flash"),
    "cudnn": Backend("_native_cudnn"),  # which no processor has
    PLAIN: Backend("native"),
}


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own ways that run on a processor, and one that does not, as if they were meant for it."""
    monkeypatch.setattr(attention, "_tried", {})
    monkeypatch.setattr(attention, "BACKENDS", ON_CPU)
    monkeypatch.setattr(attention, "ORDERS", (((0, 0), ("cudnn", "flash", "math", PLAIN)),))


def tried(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], packages: set[str], broken: set[str]) -> Any:
    """As on a card of that capability, where these packages are installed and these backends do not work."""
    monkeypatch.setattr(attention, "_tried", {})
    monkeypatch.setattr(attention, "_capability", lambda device: capability)
    monkeypatch.setattr(attention.importlib.util, "find_spec", lambda name: name if name in packages else None)
    monkeypatch.setattr(attention, "_trial", lambda name, *where: "it broke" if name in broken else "")
    return choose_attention(torch.device("cuda"), torch.bfloat16)


@pytest.mark.parametrize(
    ("capability", "packages", "broken", "wanted"),
    [
        ((9, 0), {"flash_attn_interface"}, set(), "flash3"),
        ((9, 0), set(), set(), "cudnn"),
        ((9, 0), set(), {"cudnn"}, "flash"),
        ((12, 0), set(), set(), "cudnn"),
        ((8, 9), {"xformers"}, set(), "flash"),
        ((8, 0), {"xformers"}, {"flash", "cudnn"}, "xformers"),
        ((7, 5), {"xformers"}, set(), "xformers"),
        ((7, 5), set(), set(), "efficient"),
        ((6, 1), {"xformers"}, set(), "efficient"),
        ((9, 0), set(), {"cudnn", "flash", "efficient"}, PLAIN),
        ((3, 5), set(), set(), PLAIN),
    ],
)
def test_a_card_gets_the_best_that_works_on_it(
    capability: tuple[int, int], packages: set[str], broken: set[str], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = tried(monkeypatch, capability, packages, broken)
    assert choice.name == wanted
    assert set(broken) <= set(choice.refused) | {choice.name}
    if "flash3" in choice.refused:
        assert choice.refused["flash3"] == "flash_attn_interface is not installed"


def test_every_order_ends_with_what_runs_everywhere_and_diffusers_knows_all() -> None:
    assert all(names[-1] == PLAIN and set(names) <= set(BACKENDS) for _, names in ORDERS)
    for backend in BACKENDS.values():
        assert AttentionBackendName(backend.diffusers) in _AttentionBackendRegistry._backends
        assert "hub" not in backend.diffusers, "those are fetched from the network"


def test_a_processor_gets_the_plain_way_and_says_why_not_the_others() -> None:
    choice = choose_attention(CPU, torch.float32, "cudnn", SMALL)
    assert choice.name == PLAIN and choice.refused == {"cudnn": "it is for graphics cards, not for cpu"}


@pytest.mark.usefixtures("on_cpu")
def test_one_that_fails_is_passed_over_for_the_next() -> None:
    """cuDNN's is really asked for, and really raises."""
    choice = choose_attention(CPU, torch.float32, heads=SMALL)
    assert choice.name == "flash" and set(choice.refused) == {"cudnn"}
    assert choice.refused["cudnn"].startswith(("RuntimeError", "ValueError"))
    assert choose_attention(CPU, torch.float32, "math", SMALL).name == "math", "what is asked for comes first"


@pytest.mark.usefixtures("on_cpu")
def test_one_that_computes_something_else_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    real = attention._attention
    monkeypatch.setattr(attention, "_attention", lambda name, *qkv: real(name, *qkv) * (1.1 if name == "flash" else 1))
    choice = choose_attention(CPU, torch.float32, heads=SMALL)
    assert choice.name == "math" and "something else" in choice.refused["flash"]


@pytest.mark.usefixtures("on_cpu")
@torch.inference_mode()
def test_both_nets_compute_the_same_with_each(plain: FluxTransformer2DModel) -> None:
    torch.manual_seed(0)
    with without_deprecations():
        net = FluxControlNetModel(**{**CONFIG, "num_layers": 1}).eval()
    inputs: dict[str, Any] = {
        "hidden_states": torch.randn(1, 20, 64),
        "encoder_hidden_states": torch.randn(1, 7, 256),
        "pooled_projections": torch.randn(1, 256),
        "timestep": torch.tensor([0.5]),
        "guidance": torch.tensor([3.5]),
        "img_ids": torch.zeros(20, 3),
        "txt_ids": torch.zeros(7, 3),
    }
    nets: tuple[Any, ...] = (plain, net)
    condition = {"controlnet_cond": torch.randn(1, 20, 64)}
    used: list[str] = []
    registered = dict(_AttentionBackendRegistry._backends)
    made: dict[str, list[torch.Tensor]] = {}
    try:
        for name in (PLAIN, "flash", "math"):
            backend = AttentionBackendName(ON_CPU[name].diffusers)

            def counted(*given: Any, name: str = name, own: Any = registered[backend], **named: Any) -> Any:
                used.append(name)
                return own(*given, **named)

            _AttentionBackendRegistry._backends[backend] = counted
            for one in nets:
                use_attention(one, name)
            made[name] = [
                plain(**inputs)[0], *net(**inputs, **condition)[0]
            ]  # fmt: skip
    finally:
        _AttentionBackendRegistry._backends.update(registered)
        use_attention(plain, PLAIN)
    assert [used.count(name) for name in (PLAIN, "flash", "math")] == [4, 4, 4], "two blocks of each net"
    for name in ("flash", "math"):
        for ours, wanted in zip(made[name], made[PLAIN], strict=True):
            torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)


def test_nothing_is_set_for_other_nets_of_the_process(plain: FluxTransformer2DModel) -> None:
    before = _AttentionBackendRegistry.get_active_backend()
    use_attention(plain, "flash")
    assert _AttentionBackendRegistry.get_active_backend() == before
    use_attention(plain, PLAIN)
