"""x W^T + b, which most of a picture's time goes into, by the faster of the libraries that torch brings.

On a processor torch multiplies float32 by MKL, which takes its fast ways on Intel's processors alone: on one of AMD's
with AVX-512, oneDNN, which is in torch as well, has the same product in half the time. Which of the two is used follows
from the processor's maker, not from a trial: sums in another order are other pixels, and trials end now so, now so.
"""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

PROCESSORS = Path("/proc/cpuinfo")
INTEL = "GenuineIntel"
ERROR_MAX = 1e-5
"""Of the product that oneDNN is tried with, relative to MKL's."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(..., in), (out, in), (out,) -> (..., out), as `torch.nn.functional.linear` but for the order of sums."""
    if (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and weight.dtype == torch.float32
        and not torch.is_grad_enabled()
        and onednn_is_better()
    ):
        return (
            torch.ops.grisaille.linear(x, weight, bias) if torch.compiler.is_compiling() else _onednn(x, weight, bias)
        )
    return torch.nn.functional.linear(x, weight, bias)


class Linear(nn.Linear):
    """torch's own layer with this product."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def use_best_products(net: nn.Module) -> None:
    """Makes the ordinary linear layers of a net ones that multiply so; the modules and their weights stay the same."""
    for layer in net.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = Linear


@torch.compiler.assume_constant_result
def onednn_is_better() -> bool:
    """Whether torch would take MKL where it is slow, and oneDNN is there and computes the same."""
    return _onednn_is_better()


@functools.cache
def _onednn_is_better() -> bool:
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    if maker() in ("", INTEL):
        return False
    chance = torch.Generator().manual_seed(1)
    x, weight, bias = (torch.randn(shape, generator=chance) for shape in ((3, 40), (24, 40), (24,)))
    try:
        with torch.no_grad():
            wanted, made = torch.nn.functional.linear(x, weight, bias), _onednn(x, weight, bias)
    except (AttributeError, RuntimeError, TypeError):  # it is not among torch's public operations
        return False
    return bool((made - wanted).abs().max() <= ERROR_MAX * wanted.abs().max())


@functools.cache
def maker() -> str:
    """The processor's own word for who made it, such as "AuthenticAMD"; "" where it is not known."""
    try:
        lines = PROCESSORS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        # Windows: "AMD64 Family 25 Model 33 Stepping 0, AuthenticAMD".
        _, found, name = platform.processor().rpartition(", ")
        return name if found else ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    operation: Any = torch.ops.mkldnn._linear_pointwise.default
    made: Tensor = operation(x, weight, bias, "none", [], "")
    return made


@torch.library.custom_op("grisaille::linear", mutates_args=())
def _operation(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """For torch's compiler, which wants oneDNN's own operation with weights that never change."""
    return _onednn(x, weight, bias)


@_operation.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))
