"""A packed weight -> one to multiply with, by the best way that the device has, in memory that is used again.

On a graphics card with Triton a weight is unpacked by one kernel (`unpack_kernels`), else by torch (`dequantise`); both
give the same bits. torch's compiler sees one operation, which has memory of its own: what it would make of the many
takes minutes to compile, and might round otherwise.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .ahead import Ahead, Side, Weight
from .dequantise import BLOCKS, FLOAT_DTYPES, dequantise

log = logging.getLogger("grisaille.flux")
KERNEL_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
TRIED = "Q4_K"
"""The format that the kernel is tried with: it has scales, minimums, and a sum that must not be fused."""
_troubles: dict[torch.device, str] = {}
_kept = threading.local()


def unpacked(packed: Tensor, type_name: str, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
    """(rows, bytes per row) uint8 -> (rows, columns) of `dtype`, as `dequantise` says. out: what to fill and return."""
    if torch.compiler.is_compiling() and type_name not in FLOAT_DTYPES:
        return torch.ops.grisaille.unpack(packed, type_name, dtype)
    if not has_kernel(packed, type_name, dtype):
        return dequantise(packed, type_name, dtype, out)
    if out is None:
        out = packed.new_empty(shape(packed, type_name), dtype=dtype)
    _launch(packed.contiguous(), type_name, out)
    return out


def unpacked_for_now(packed: Tensor, type_name: str, dtype: torch.dtype) -> Tensor:
    """`unpacked` into memory that the next call in this thread fills anew: to be used at once, and not kept.

    In the order of the current stream. Where gradients are kept, or a compiler looks on, the memory is the caller's.
    """
    is_plain = FLOAT_DTYPES.get(type_name) == dtype
    if is_plain or torch.compiler.is_compiling() or torch.is_grad_enabled():
        return unpacked(packed, type_name, dtype)
    weight = Weight(packed, type_name, dtype)
    ahead: Ahead[Tensor] | None = getattr(_kept, "ahead", None)
    return into_scratch(weight, 0) if ahead is None else ahead.take(weight)


def into_scratch(weight: Weight, number: int) -> Tensor:
    """Unpacked into the thread's memory of that number."""
    packed, type_name, dtype = weight
    return unpacked(packed, type_name, dtype, scratch(shape(packed, type_name), dtype, packed.device, number))


@contextmanager
def unpacking_ahead(side: Side) -> Iterator[None]:
    """Has this thread's layers unpacked one ahead while it lasts."""
    ahead = _kept.ahead = Ahead(side, into_scratch)
    try:
        yield
    finally:
        del _kept.ahead
        ahead.close()


def shape(packed: Tensor, type_name: str) -> tuple[int, int]:
    """Of a weight, unpacked."""
    if type_name in FLOAT_DTYPES:
        return packed.shape[0], packed.shape[1] // FLOAT_DTYPES[type_name].itemsize
    kind = BLOCKS[type_name]
    return packed.shape[0], packed.shape[1] // kind.block_bytes * kind.block_size


def scratch(shape: tuple[int, int], dtype: torch.dtype, device: torch.device, number: int = 0) -> Tensor:
    """A part of the thread's memory of that number, as large as the largest that was ever asked for."""
    buffers: dict[tuple[torch.dtype, torch.device, int], Tensor] = _kept.__dict__.setdefault("buffers", {})
    key, size = (dtype, device, number), shape[0] * shape[1]
    if key not in buffers or buffers[key].numel() < size:
        buffers.pop(key, None)
        with torch.inference_mode(False):  # so that it can be filled with and without
            buffers[key] = torch.empty(size, dtype=dtype, device=device)
    return buffers[key][:size].view(shape)


def forget_scratch() -> None:
    """Lets go of this thread's memory."""
    _kept.__dict__.pop("buffers", None)


def has_kernel(packed: Tensor, type_name: str, dtype: torch.dtype) -> bool:
    """Whether a weight is unpacked by one kernel."""
    if packed.device.type != "cuda" or type_name in FLOAT_DTYPES or dtype not in KERNEL_DTYPES:
        return False
    return not (_troubles[packed.device] if packed.device in _troubles else kernel_trouble(packed.device))


def kernel_trouble(device: torch.device) -> str:
    """Why weights are not unpacked by a kernel on the device; "" where they are. Tried once, and said once."""
    if device not in _troubles:
        _troubles[device] = _trouble(device)
        if _troubles[device] and device.type == "cuda":
            log.warning("Weights are unpacked by torch's own operations, slower: %s", _troubles[device])
    return _troubles[device]


def _trouble(device: torch.device) -> str:
    if device.type != "cuda":
        return f"{device.type} has no Triton"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    block = bytes(range(BLOCKS[TRIED].block_bytes))
    packed = torch.frombuffer(bytearray(block), dtype=torch.uint8).reshape(1, -1).to(device)
    try:
        for dtype in KERNEL_DTYPES:
            out = packed.new_empty(shape(packed, TRIED), dtype=dtype)
            _launch(packed, TRIED, out)
            if not torch.equal(out, dequantise(packed, TRIED, dtype)):
                return "Triton computes something else"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # compilers, drivers and linkers each fail in their own way
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def _launch(packed: Tensor, type_name: str, out: Tensor) -> None:
    from .unpack_kernels import launch

    with torch.cuda.device_of(packed):
        launch(packed, type_name, out)


@torch.library.custom_op("grisaille::unpack", mutates_args=())
def _operation(packed: Tensor, type_name: str, dtype: torch.dtype) -> Tensor:
    out = packed.new_empty(shape(packed, type_name), dtype=dtype)
    if has_kernel(packed, type_name, dtype):
        _launch(packed.contiguous(), type_name, out)
        return out
    return dequantise(packed, type_name, dtype, out)


@_operation.register_fake
def _(packed: Tensor, type_name: str, dtype: torch.dtype) -> Tensor:
    return packed.new_empty(shape(packed, type_name), dtype=dtype)
