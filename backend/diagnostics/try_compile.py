"""torch.compile, tried in a process of its own: tries.py asks, and is told in one line of JSON."""

from __future__ import annotations

import time

from .tries import answer, question


def main() -> None:
    import torch

    from ..flux.device import choose_device

    device, dtype = choose_device(question()["device"])

    def curve(values: torch.Tensor) -> torch.Tensor:
        return torch.sin(values) * 2.0 + 1.0

    sample = torch.linspace(0.0, 1.0, 64, device=device, dtype=dtype)
    began = time.perf_counter()
    error = ""
    try:
        made = torch.compile(curve, fullgraph=True)(sample)
        if not torch.allclose(made, curve(sample), atol=1e-2):
            error = "it computes something else"
    except Exception as found:  # compilers, drivers and linkers each fail in their own way
        error = type(found).__name__
    answer({"device": str(device), "seconds": time.perf_counter() - began, "error": error})


if __name__ == "__main__":
    main()
