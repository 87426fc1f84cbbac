"""Where the parts of a model lie, in which form and when: what a memory plan decides and the engine does.

Importing this needs no torch, so that a plan can be made and shown before anything is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TransformerForm = Literal["unpacked", "packed", "streamed"]
"""unpacked: every weight in the dtype that is computed in, once, at load. packed: as in the file, on the device.

streamed: as in the file, in main memory; a block comes to the device while the one before it computes.
"""


@dataclass(frozen=True, slots=True)
class Placement:
    """transformer: see `TransformerForm`.

    encoders_leave: the text encoders are on the device only while prompts are read, the transformer only while it
    paints. encoders_streamed: T5's blocks come to the device one by one. nets_leave: a ControlNet leaves the device
    when its part of the steps is over. vae_tile: the sides in pixels of the tiles that the VAE decodes and encodes one
    by one, 0 for the whole picture at once. attention: a name of `attention.BACKENDS`, "auto" for the best of the
    device. eight_bit: whether 8-bit products are made where a Request asks for them; streamed blocks have none.
    compiled: whether the blocks are compiled, in the background, for the jobs after the first. graphs: whether calls of
    compiled nets are recorded once in a job, and replayed.
    """

    transformer: TransformerForm = "packed"
    encoders_leave: bool = False
    encoders_streamed: bool = False
    nets_leave: bool = False
    vae_tile: int = 0
    attention: str = "auto"
    eight_bit: bool = True
    compiled: bool = False
    graphs: bool = False
