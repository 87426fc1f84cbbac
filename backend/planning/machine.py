"""What a plan has to know of a machine."""

from __future__ import annotations

from dataclasses import dataclass

GB = 1_000_000_000
CARD_SHARE, CARD_KEPT = 0.95, 300_000_000
"""Of what is free on a graphics card: what a plan may fill, and bytes that it leaves beside. The allocator loses some
between blocks, and the libraries for products and convolutions take some for themselves."""
SHARED_SHARE = 0.85
"""Of main memory, for a device that computes in it: the rest is for what else is there."""
METAL_SHARE = 0.7
"""Of main memory, for Apple's graphics processor, which may not hold more."""
HOST_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Machine:
    """kind: "cuda", "mps" or "cpu". name: of the card, or "". Bytes, 0 for unknown, where everything counts as fitting.

    total, free: the device's memory; main memory where it has none of its own. What this process holds for its own
    next job counts as free. host_total, host_free: main memory.
    """

    kind: str
    name: str = ""
    total: int = 0
    free: int = 0
    host_total: int = 0
    host_free: int = 0

    @property
    def itemsize(self) -> int:
        """Bytes of a number that is computed with."""
        return 4 if self.kind == "cpu" else 2

    @property
    def has_own_memory(self) -> bool:
        """Whether what leaves the device makes room there."""
        return self.kind == "cuda"

    @property
    def usable(self) -> int:
        """Bytes that a plan may fill on the device; 0 for unknown."""
        if self.kind == "mps":
            return int(min(self.free * SHARED_SHARE, self.total * METAL_SHARE))
        if not self.has_own_memory:
            return int(self.free * SHARED_SHARE)
        return max(min(self.free, 1), int(self.free * CARD_SHARE) - CARD_KEPT)

    @property
    def host_usable(self) -> int:
        return int(self.host_free * HOST_SHARE)
