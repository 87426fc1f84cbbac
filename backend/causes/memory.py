"""Out of memory, on the graphics card and in the computer."""

from __future__ import annotations

import errno

from ..wire import Failure, FailureKind
from .case import Case, painted, smaller

MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed", "cannot allocate memory")
"""How torch's allocators and others say it where they raise a plain RuntimeError."""
MEMORY_SENTENCES = ("could not create a primitive", "could not create a memory object")
"""All that oneDNN, torch's library for processors, says where it finds no memory for a layer. Longer sentences that
begin so are of layers that it does not know."""
DEVICE_WORDS = r"\b(cuda|hip|mps|xpu|gpu|cublas|cudnn|rocm)"
SIZE = r"([\d.]+ [KMGT]?i?B)"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was too little memory, of either kind."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    # By name, because torch is not imported here: the error is there only if torch is.
    if type(error).__name__ == "OutOfMemoryError":
        return True
    # safetensors has an error of its own for all that it meets.
    if not isinstance(error, RuntimeError) and type(error).__name__ != "SafetensorError":
        return False
    said = str(error).lower()
    return said.strip() in MEMORY_SENTENCES or any(words in said for words in MEMORY_WORDS)


def out_of_memory(case: Case) -> Failure | None:
    if not is_out_of_memory(case.error):
        return None
    is_device = type(case.error).__name__ == "OutOfMemoryError" or case.says(DEVICE_WORDS + r"|alloc_failed")
    if not is_device:
        return case.failure(
            FailureKind.OUT_OF_MEMORY,
            f"The computer has too little main memory for {painted(case.request)}.",
            f"{smaller(case.request)}, or close other programs.",
        )
    total, free = case.says(rf"total capacity of {SIZE}"), case.says(rf"of which {SIZE} is free")
    figures = f" ({free[1]} of {total[1]} were free)" if total and free else ""
    return case.failure(
        FailureKind.OUT_OF_MEMORY,
        f"The graphics card has too little memory for {painted(case.request)}{figures}.",
        f"{smaller(case.request)}, or close other programs that use the graphics card.",
    )
