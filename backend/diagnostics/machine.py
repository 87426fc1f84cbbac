"""Python, the libraries, the driver, and the device that is computed on."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..causes.device import cuda_version
from ..failures import failure_of
from ..wire import FailureError, FailureKind
from .finding import Finding, gigabytes

LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "gguf", "numpy", "PIL")
HOST_LOW, DEVICE_LOW = 2_000_000_000, 1_000_000_000
"""Bytes of memory with which not even a small model can be expected to run."""
NVIDIA = "0x10de"
PCI_DEVICES = Path("/sys/bus/pci/devices")
DRIVERS = ("nvcuda.dll",) if os.name == "nt" else ("libcuda.so.1", "libcuda.so")
SETUP = "Set the backend's environment up again, as README says."


def python() -> Finding:
    version = sys.version.split()[0]
    said = f"{version} at {sys.executable}."
    return Finding("python", True, said, values={"version": version, "platform": sys.platform})


def libraries() -> Finding:
    """The versions of what the backend is built on."""
    versions: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            module = importlib.import_module(name)
        except Exception as error:  # a native library that does not load raises what it likes
            message = f"The library {name} cannot be imported ({type(error).__name__}: {error})."
            raise FailureError.of(FailureKind.BACKEND_NOT_FOUND, " ".join(message.split()), SETUP) from error
        versions[name] = str(getattr(module, "__version__", ""))
    said = ", ".join(f"{name} {version}".strip() for name, version in versions.items())
    return Finding("libraries", True, f"{said}.", values=versions)


def torch_build() -> Finding:
    """Whether torch was built for the card that is here."""
    import torch

    built = torch.version.cuda
    has_other = torch.version.hip or torch.backends.mps.is_built()
    values = {"version": torch.__version__, "cuda": built or "", "hip": torch.version.hip or ""}
    kind = f"with CUDA {built}" if built else "without CUDA"
    if built is None and not has_other and has_nvidia_card():
        said = f"PyTorch {torch.__version__} was built without CUDA, and there is an NVIDIA card here."
        hint = "Set the backend up again, so that it gets the PyTorch with CUDA."
        return Finding("torch", False, said, hint, values=values)
    return Finding("torch", True, f"PyTorch {torch.__version__}, {kind}.", values=values)


def driver(name: str) -> Finding:
    """Whether NVIDIA's driver is as new as torch wants it. name: of the device that is to be used."""
    import torch

    known, wanted = driver_cuda(), torch.version.cuda
    values = {"cuda": cuda_version(known) if known else "", "torch_cuda": wanted or ""}
    if known is None:
        if not has_nvidia_card() and not name.startswith("cuda"):
            return Finding("driver", True, "There is no NVIDIA card here, so no driver is wanted.", values=values)
        said = "There is an NVIDIA card" if has_nvidia_card() else "CUDA is to be used"
        hint = "Install the driver from NVIDIA and restart the computer."
        return Finding("driver", False, f"{said}, and its driver is not installed.", hint, values=values)
    said = f"NVIDIA's driver knows CUDA {cuda_version(known)}"
    # Within one major version, an older driver runs what was built for a newer one.
    if wanted is not None and known // 1000 < int(wanted.split(".")[0]):
        hint = "Install a newer driver from NVIDIA and restart the computer."
        return Finding("driver", False, f"{said}, and PyTorch needs {wanted}.", hint, values=values)
    return Finding("driver", True, f"{said}.", values=values)


def device(name: str) -> Finding:
    """Whether the device computes, and whether it is the one that should be expected."""
    import torch

    from ..flux.device import choose_device

    with _without_warnings():
        chosen, dtype = choose_device(name)
    number = torch.ones(2, 2, device=chosen, dtype=dtype).matmul(torch.ones(2, 2, device=chosen, dtype=dtype)).sum()
    if number.item() != 8.0:
        raise RuntimeError(f"{chosen} computes 8 as {number.item()}")
    values = {"device": str(chosen), "dtype": str(dtype).removeprefix("torch.")}
    if chosen.type == "cuda":
        values["name"] = torch.cuda.get_device_name(chosen)
        return Finding("device", True, f"{chosen}: {values['name']}, in {values['dtype']}.", values=values)
    if chosen.type != "cpu":
        return Finding("device", True, f"{chosen}, in {values['dtype']}.", values=values)
    why = "it was chosen" if name == "cpu" else _lowered(why_no_card())
    threads = torch.get_num_threads()
    said = f"The processor (cpu, {threads} thread{'s' if threads > 1 else ''}) computes: {why}."
    if name == "auto" and has_nvidia_card():
        return Finding("device", False, said, "Mend the driver or PyTorch, so that the card is used.", values=values)
    return Finding("device", True, said, "A full model takes minutes for each picture there.", values=values)


def memory(name: str) -> Finding:
    """What is free in the computer and on the device."""
    import psutil
    import torch

    from ..flux.device import choose_device

    host = psutil.virtual_memory()
    values = {"host_free": host.available, "host_total": host.total}
    said = f"{gigabytes(host.available)} of {gigabytes(host.total)} are free in the computer"
    is_low = host.available < HOST_LOW
    with _without_warnings():
        chosen, _ = choose_device(name)
    if chosen.type == "cuda":
        free, total = torch.cuda.mem_get_info(chosen)
        values |= {"device_free": free, "device_total": total}
        said += f", {gigabytes(free)} of {gigabytes(total)} on the graphics card"
        is_low = is_low or free < DEVICE_LOW
    hint = "Close other programs, so that a model fits in." if is_low else ""
    return Finding("memory", not is_low, f"{said}.", hint, values=values)


def attention(name: str) -> Finding:
    """Which ways to compute attention run on the device, and which one pictures are painted with."""
    from ..flux.attention import PLAIN, choose_attention, usable_attention
    from ..flux.device import choose_device

    with _without_warnings():
        chosen, dtype = choose_device(name)
        there = usable_attention(chosen, dtype)
        used = choose_attention(chosen, dtype).name
    is_slow = chosen.type == "cuda" and there == [PLAIN]
    hint = "Only the slow way is there: set the backend up again, or update the driver." if is_slow else ""
    others = [one for one in there if one != used]
    said = f"{used} on {chosen}{', and ' if others else ''}{', '.join(others)}."
    return Finding("attention", True, said, hint, values={"backends": there, "used": used})


def why_no_card() -> str:
    """A sentence that says why torch uses no NVIDIA card here; "" where it does."""
    import torch

    with _without_warnings():
        try:
            torch.cuda.init()
        except (RuntimeError, AssertionError) as error:
            return failure_of(error).message
    return ""


def _lowered(sentence: str) -> str:
    """A sentence as the end of another one."""
    return (sentence[:1].lower() + sentence[1:]).rstrip(".")


def has_nvidia_card() -> bool:
    """Whether a graphics card of NVIDIA's is built in, whatever torch can do with it. Known on Linux and Windows."""
    if os.name == "nt":
        return driver_cuda() is not None
    for card in PCI_DEVICES.glob("*"):
        with suppress(OSError):
            # Class 03 is a display; NVIDIA makes network cards as well.
            if (card / "vendor").read_text().strip() == NVIDIA and (card / "class").read_text().startswith("0x03"):
                return True
    return os.path.exists("/dev/nvidia0")


def driver_cuda() -> int | None:
    """The newest CUDA that NVIDIA's driver knows, as 12040 for 12.4; None without a driver."""
    for name in DRIVERS:
        number = ctypes.c_int()
        with suppress(OSError, AttributeError):
            if ctypes.CDLL(name).cuDriverGetVersion(ctypes.byref(number)) == 0:
                return number.value
    return None


@contextmanager
def _without_warnings() -> Iterator[None]:
    """torch warns of a driver that is too old each time it is asked; the finding says it once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
