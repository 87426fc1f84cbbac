"""The product by MKL or oneDNN: the same numbers, chosen by the processor's maker."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from backend.flux import products

CPUINFO = "processor\t: 0\nvendor_id\t: {}\nmodel name\t: X\n\nprocessor\t: 1\nvendor_id\t: {}\n"


@pytest.fixture(autouse=True)
def chosen_anew() -> Iterator[None]:
    products.maker.cache_clear()
    products._onednn_is_better.cache_clear()
    yield
    products.maker.cache_clear()
    products._onednn_is_better.cache_clear()


def made_by(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "cpuinfo"
    path.write_text(CPUINFO.format(name, name))
    monkeypatch.setattr(products, "PROCESSORS", path)


needs_both = pytest.mark.skipif(
    not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()),
    reason="this torch was built without MKL or oneDNN, as on ARM; take one for x86_64",
)


@needs_both
@torch.inference_mode()
def test_which_one_follows_from_the_maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    monkeypatch.setattr(products, "_onednn", lambda x, w, b: used.append("oneDNN") or nn.functional.linear(x, w, b))
    for name, wanted in (("AuthenticAMD", ["oneDNN"]), ("GenuineIntel", [])):
        products.maker.cache_clear()
        products._onednn_is_better.cache_clear()
        made_by(name, tmp_path, monkeypatch)
        products.onednn_is_better()
        used.clear()
        products.linear(torch.ones(2, 4), torch.ones(3, 4))
        assert used == wanted


def test_the_maker_where_there_is_no_list_of_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "PROCESSORS", tmp_path / "nothing")
    for told, wanted in (("AMD64 Family 25 Model 33 Stepping 0, AuthenticAMD", "AuthenticAMD"), ("arm", "")):
        products.maker.cache_clear()
        monkeypatch.setattr(products.platform, "processor", lambda told=told: told)
        assert products.maker() == wanted


@needs_both
def test_a_torch_without_that_operation_multiplies_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(x: object, weight: object, bias: object) -> None:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")

    made_by("AuthenticAMD", tmp_path, monkeypatch)
    monkeypatch.setattr(products, "_onednn", gone)
    assert not products.onednn_is_better()


@needs_both
@torch.inference_mode()
def test_both_give_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of parts, turned and repeated tensors, of one row and of none."""
    made_by("AuthenticAMD", tmp_path, monkeypatch)
    assert products.onednn_is_better()
    weight, bias = torch.randn(96, 512), torch.randn(96)
    for x in (torch.randn(96, 512), torch.randn(2, 3, 512), torch.randn(2, 7, 1024)[..., ::2],
              torch.randn(512, 5).t(), torch.randn(1, 512).expand(4, 512), torch.randn(512),
              torch.empty(0, 512)):  # fmt: skip
        for turned in (weight, torch.randn(512, 96).t(), weight[:40]):
            for added in (None, bias[: len(turned)]):
                wanted = nn.functional.linear(x.double(), turned.double(), None if added is None else added.double())
                ours = products.linear(x, turned, added)
                assert ours.dtype == torch.float32 and ours.shape == wanted.shape
                torch.testing.assert_close(ours.double(), wanted, rtol=1e-5, atol=1e-4)


@needs_both
def test_gradients_and_other_dtypes_go_torchs_own_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_by("AuthenticAMD", tmp_path, monkeypatch)
    assert products.onednn_is_better()
    x = torch.randn(2, 8, requires_grad=True)
    products.linear(x, torch.randn(4, 8)).sum().backward()
    assert x.grad is not None
    with torch.inference_mode():
        assert products.linear(torch.ones(2, 8).bfloat16(), torch.ones(4, 8).bfloat16()).dtype == torch.bfloat16


def test_a_nets_own_layers_stay_the_same_modules() -> None:
    net = nn.Sequential(nn.Linear(8, 4), nn.Sequential(nn.Linear(4, 2), nn.LayerNorm(2)))
    modules, parameters = list(net.modules()), [id(one) for one in net.parameters()]
    x = torch.randn(3, 8)
    before = net(x)
    products.use_best_products(net)
    assert list(net.modules()) == modules and [id(one) for one in net.parameters()] == parameters
    assert [type(one) for one in net.modules()].count(products.Linear) == 2
    with torch.no_grad():
        torch.testing.assert_close(net(x), before)
        assert torch.equal(copy.deepcopy(net)(x), net(x))
