"""The device cannot be computed on: no driver, one too old, a PyTorch that was built without it."""

from __future__ import annotations

import sys

from ..wire import Failure, FailureKind
from .case import Case

ON_CPU = "choose CPU as the device"


def device_unusable(case: Case) -> Failure | None:
    for find in (_too_old, _no_driver, _not_built, _no_kernel, _no_such_device, _broke_down):
        if (said := find(case)) is not None:
            return case.failure(FailureKind.DEVICE_UNUSABLE, *said)
    return None


def cuda_version(number: int) -> str:
    """As CUDA's own functions give it, 12040 -> "12.4"."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _too_old(case: Case) -> tuple[str, str] | None:
    if not case.says("driver on your system is too old", "driver version is insufficient"):
        return None
    found = case.says(r"found version (\d+)")
    known = f" (CUDA {cuda_version(int(found[1]))})" if found else ""
    wanted = _cuda_of_torch()
    needs = f", which needs CUDA {wanted}" if wanted else ""
    return (
        f"The NVIDIA driver{known} is too old for this PyTorch{needs}.",
        f"Install a newer driver from NVIDIA and restart the computer, or {ON_CPU}.",
    )


def _no_driver(case: Case) -> tuple[str, str] | None:
    if not case.says("found no nvidia driver", "no cuda gpus are available", "no cuda-capable device"):
        return None
    return (
        "There is no NVIDIA graphics card that can be used on this machine, or its driver is not installed.",
        f"Install NVIDIA's driver if there is a card, or {ON_CPU}.",
    )


def _not_built(case: Case) -> tuple[str, str] | None:
    names = {"cuda": "CUDA", "mps": "Metal", "xpu": "XPU", "hip": "ROCm"}
    found = case.says(
        r"torch not compiled with (\w+) enabled",
        r"pytorch is not linked with support for (\w+) devices",
        r"could not run '[^']*' with arguments from the '(mps|cuda|xpu|hip)' backend",
    )
    if found is None:
        return None
    name = names.get(found[1].lower(), found[1])
    return (
        f"This PyTorch was built without {name}, so it cannot use that device.",
        f"Set the backend up again, so that it gets a PyTorch with {name}; or {ON_CPU}.",
    )


def _no_kernel(case: Case) -> tuple[str, str] | None:
    if not case.says("no kernel image is available", "not compatible with the current pytorch installation"):
        return None
    return (
        "The graphics card is older or newer than those that this PyTorch was built for.",
        f"Set the backend up again with a PyTorch for this card, or {ON_CPU}.",
    )


def _no_such_device(case: Case) -> tuple[str, str] | None:
    named = case.says(
        r"invalid device string: '([^']*)'", r"expected one of .* device type at start of device string: (\S+)"
    )
    if named:
        return f"There is no device called {named[1]!r}.", "Choose Automatic, CUDA, Metal or CPU as the device."
    if not case.says("invalid device ordinal", "invalid device id", "device index must"):
        return None
    return "There is no graphics card of that number.", "Choose one with a lower number, or Automatic."


def _broke_down(case: Case) -> tuple[str, str] | None:
    found = case.says(r"(?:cuda|hip) (?:driver )?error: ([^\n.]+)") or case.says(r"(cudnn|cublas)_status_\w+")
    if found is None and not case.is_a("AcceleratorError"):
        return None
    words = f": {found[0]}" if found else ""
    return (
        f"The graphics card or its driver stopped with an error{words}.",
        "Generate again; if it stays, restart the computer and install the newest driver.",
    )


def _cuda_of_torch() -> str:
    """The CUDA that torch was built with; "" where torch is not there, or has none."""
    return getattr(getattr(sys.modules.get("torch"), "version", None), "cuda", None) or ""
