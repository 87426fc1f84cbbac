"""How much memory a job took, and giving it back."""

from __future__ import annotations

import gc
import sys

import torch

from .unpack import forget_scratch

COMPUTING = 1_500_000_000
"""Bytes for what a picture of 1024 x 1024 takes while it is painted, beside the weights."""


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Bytes: on a GPU the most that was allocated since `reset_peak`, else the process's most so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def release() -> None:
    """Returns the memory of what nothing refers to any more to the system."""
    forget_scratch()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def total_memory(device: torch.device) -> int:
    """Bytes of the device's own memory; 0 where it has none."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0


def card_memory(device: torch.device) -> tuple[int, int]:
    """Bytes of a card in all, and those that this process has or can get; 0 and 0 where the device has none of its own.

    Within the share that this process was given (`torch.cuda.set_per_process_memory_fraction`).
    """
    if device.type != "cuda":
        return 0, 0
    index = torch.cuda.current_device() if device.index is None else device.index
    free, total = torch.cuda.mem_get_info(index)
    mine = int(total * torch.cuda.get_per_process_memory_fraction(index))
    return mine, min(mine, free + torch.cuda.memory_reserved(index))


def card_name(device: torch.device) -> str:
    """Of a graphics card, as its driver tells it; "" where there is none."""
    if device.type == "cuda" and torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count():
        return torch.cuda.get_device_name(device)
    return ""


def device_name(device: torch.device) -> str:
    """What computes: the device as torch names it, and the card where there is one."""
    return f"{device} {card_name(device)}".strip()


def room_of(device: torch.device) -> int | None:
    """Bytes that a model's parts may take on the device together, beside what is computed; None where it is one memory.

    Within what other programs leave free, and within the share of the card that this process may use.
    """
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    ours = torch.cuda.memory_reserved(device)
    share = torch.cuda.get_per_process_memory_fraction(device)
    return max(0, int(min(free + ours, share * total)) - COMPUTING)
