"""The best way to compute attention on a device, tried before it is used, on both nets.

Importing this needs no torch, so that a plan can name a way before anything is loaded.
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

log = logging.getLogger("grisaille.flux")
AUTO = "auto"
PLAIN = "sdpa"
"""What runs everywhere: torch chooses, and computes it step by step where it has nothing better."""


@dataclass(frozen=True, slots=True)
class Backend:
    """diffusers: its name in diffusers' `AttentionBackendName`; none of these is fetched from anywhere.

    capability: the least of a graphics card, (0, 0) for any device. package: what has to be installed beside torch, ""
    for nothing. halves: takes bfloat16 and float16 only.
    """

    diffusers: str
    capability: tuple[int, int] = (0, 0)
    package: str = ""
    halves: bool = False


BACKENDS: dict[str, Backend] = {
    "flash3": Backend("_flash_3", (9, 0), "flash_attn_interface", halves=True),
    "cudnn": Backend("_native_cudnn", (8, 0), halves=True),
    "flash": Backend("_native_flash", (8, 0), halves=True),
    "xformers": Backend("xformers", (7, 0), "xformers"),
    "efficient": Backend("_native_efficient", (5, 0)),
    PLAIN: Backend("native"),
}
"""What there is, best first on a Hopper card. FlashAttention 3 has no wheels: whoever built it, gets it."""
ORDERS: tuple[tuple[tuple[int, int], tuple[str, ...]], ...] = (
    ((9, 0), ("flash3", "cudnn", "flash", "xformers", "efficient", PLAIN)),
    ((8, 0), ("flash", "cudnn", "xformers", "efficient", PLAIN)),
    ((7, 0), ("xformers", "efficient", PLAIN)),
    ((5, 0), ("efficient", PLAIN)),
)
"""From this capability of a card on: in which order they are tried."""
TRIED_TOKENS = 200
"""No multiple of what kernels are made for."""
TOLERANCE = 0.02
"""Of a backend's trial against attention in float32, for values about 1: bfloat16 has 8 bits."""


@dataclass(frozen=True, slots=True)
class AttentionChoice:
    """name: in BACKENDS. refused: those that come before it in the order, and why each does not run here."""

    name: str
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Heads:
    """Of a net's attention. tokens: text and image together."""

    count: int = 24
    size: int = 128
    tokens: int = TRIED_TOKENS


def choose_attention(
    device: torch.device, dtype: torch.dtype, wanted: str = AUTO, heads: Heads = Heads()
) -> AttentionChoice:
    """The first of the device's order that works there. wanted: one to try before all others; "auto" for none."""
    order = order_of(device)
    if wanted != AUTO:
        order = (wanted, *(name for name in order if name != wanted))
    refused: dict[str, str] = {}
    for name in order:
        trouble = attention_trouble(name, device, dtype, heads)
        if not trouble:
            break
        refused[name] = trouble
    else:
        name = PLAIN
    return AttentionChoice(name, refused)


def order_of(device: torch.device) -> tuple[str, ...]:
    capability = _capability(device)
    return next((names for least, names in ORDERS if capability >= least), (PLAIN,))


def usable_attention(device: torch.device, dtype: torch.dtype) -> list[str]:
    """All that run on the device, best first."""
    return [name for name in order_of(device) if not attention_trouble(name, device, dtype)]


def attention_trouble(name: str, device: torch.device, dtype: torch.dtype, heads: Heads = Heads()) -> str:
    """Why this way does not run on the device; "" where it does. Tried once for each size.

    The plain way is not tried: there is nothing to take in its place.
    """
    if name == PLAIN:
        return ""
    key = (name, device, dtype, heads)
    if key not in _tried:
        _tried[key] = _lacks(BACKENDS[name], device, dtype) or _trial(name, device, dtype, heads)
        if _tried[key]:
            log.info("attention %s does not run on %s: %s", name, device, _tried[key])
    return _tried[key]


def use_attention(net: nn.Module, name: str) -> None:
    """Has every attention of a net computed in this way, and no other net's."""
    from diffusers.models.attention_dispatch import AttentionBackendName

    backend = AttentionBackendName(BACKENDS[name].diffusers)
    for module in net.modules():
        processor: Any = getattr(module, "processor", None)
        # diffusers' own `set_attention_backend` would set it for all nets of the process, too.
        if hasattr(processor, "_attention_backend"):
            processor._attention_backend = backend


_tried: dict[tuple[str, torch.device, torch.dtype, Heads], str] = {}


def _capability(device: torch.device) -> tuple[int, int]:
    import torch

    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)


def _lacks(backend: Backend, device: torch.device, dtype: torch.dtype) -> str:
    """What is not there that this way needs; "" where nothing is missing."""
    import torch

    if backend.capability > (0, 0) and device.type != "cuda":
        return f"it is for graphics cards, not for {device.type}"
    if _capability(device) < backend.capability:
        return f"it is for newer cards (compute capability {'.'.join(map(str, backend.capability))})"
    if backend.halves and dtype not in (torch.float16, torch.bfloat16):
        return f"it does not compute in {str(dtype).removeprefix('torch.')}"
    if backend.package and importlib.util.find_spec(backend.package) is None:
        return f"{backend.package} is not installed"
    return ""


def _trial(name: str, device: torch.device, dtype: torch.dtype, heads: Heads) -> str:
    """What goes wrong when a sample is computed in this way; "" where it comes out right."""
    import torch

    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(3, 1, heads.tokens, heads.count, heads.size, generator=generator).to(device, dtype)
    try:
        made = _attention(name, *sample)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # kernels, drivers and packages each fail in their own way
        return f"{type(error).__name__}: {error}".splitlines()[0]
    # A few of the tokens are enough to tell, and take no memory.
    few = sample[0][:, :TRIED_TOKENS].float()
    wanted = _attention(PLAIN, few, sample[1].float(), sample[2].float())
    off = (made[:, :TRIED_TOKENS].float() - wanted).abs().max().item()
    return "" if off <= TOLERANCE else f"it computes something else (off by {off:.3g})"


def _attention(name: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(1, tokens, heads, size) each -> the same."""
    from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn

    return dispatch_attention_fn(query, key, value, backend=AttentionBackendName(BACKENDS[name].diffusers))
