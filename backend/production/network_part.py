"""A network that enhances pictures, as a part that comes to the device and leaves it like the model's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from ..enhance.networks import Network
    from ..planning import NetworkNeeds


class NetworkPart:
    """`flux.residency.Movable`, for as long as the network is in use.

    network: loaded into main memory. needs: bytes on the device.
    """

    def __init__(self, network: Network, device: torch.device, needs: NetworkNeeds) -> None:
        self.network, self.is_here = network, False
        self._device, self._needs = device, needs

    def size(self) -> int:
        """With what it computes, beyond what is left free for the model's own computing anyway."""
        from ..flux.memory import COMPUTING

        return self._needs.weights + max(0, self._needs.beside - COMPUTING)

    def come(self, check: Callable[[], None] = lambda: None) -> None:
        check()
        self.network.to(self._device)
        self.is_here = True

    def leave(self) -> None:
        self.network.to("cpu")
        self.is_here = False
