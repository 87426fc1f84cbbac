"""torch's settings are the engine's while it works, and nobody else's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from backend.flux import cuda_settings
from backend.flux.cuda_settings import WANTED, engine_settings
from backend.production import Production
from backend.wire import GenerationRequest
from tests.backend.samples import failed, made, run


def now() -> list[Any]:
    return [getattr(cuda_settings._backend(owner), name) for owner, name, _ in WANTED]


@pytest.fixture
def turned_over() -> Iterator[list[Any]]:
    """Every setting the other way round from what the engine wants."""
    before = now()
    for owner, name, wanted in WANTED:
        setattr(cuda_settings._backend(owner), name, not wanted)
    yield now()
    for (owner, name, _), value in zip(WANTED, before, strict=True):
        setattr(cuda_settings._backend(owner), name, value)


def test_they_are_so_inside_and_as_before_outside(turned_over: list[Any]) -> None:
    with engine_settings():
        assert now() == [wanted for _, _, wanted in WANTED] != turned_over
    assert now() == turned_over


def test_they_are_as_before_when_it_ends_by_raising(turned_over: list[Any]) -> None:
    with pytest.raises(KeyError), engine_settings():
        raise KeyError
    assert now() == turned_over


def test_one_inside_another_leaves_them_to_the_outer(turned_over: list[Any]) -> None:
    with engine_settings():
        with engine_settings():
            pass
        assert now() == [wanted for _, _, wanted in WANTED]
    assert now() == turned_over


def test_a_picture_is_painted_with_them_and_leaves_them(
    production: Production, turned_over: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = GenerationRequest("settings", 64, 64, steps=2, model="random-weights")
    seen: list[list[Any]] = []
    made(run(production, request, on_preview=lambda image: seen.append(now())))
    assert seen == [[wanted for _, _, wanted in WANTED]] * 2
    assert now() == turned_over
    asked = iter(range(1000))
    failed(run(production, replace(request, seed=1), is_cancelled=lambda: next(asked) > 3))
    assert now() == turned_over, "also when it was cancelled"


@pytest.mark.parametrize("words", ["fp32_precision = 'tf32'", "fp32_precision = 'ieee'"])
def test_a_script_that_says_it_in_the_new_words_keeps_them(words: str) -> None:
    """torch refuses to read the old words then. In a process of its own: there is no way back to a fresh one."""
    script = f"""
import torch
from backend.flux.cuda_settings import engine_settings
matrices = torch.backends.cuda.matmul
matrices.{words}
before = matrices.fp32_precision, torch.backends.cudnn.conv.fp32_precision
with engine_settings():
    assert matrices.fp32_precision == "ieee" and torch.backends.cudnn.conv.fp32_precision in ("ieee", "none")
assert (matrices.fp32_precision, torch.backends.cudnn.conv.fp32_precision) == before
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
