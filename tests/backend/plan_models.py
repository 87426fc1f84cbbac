"""Models as their files would say they are, without the files: for plans of machines that nobody here has."""

from __future__ import annotations

from pathlib import Path

from backend.models import ControlKind, ControlNetEntry, ModelFolder
from backend.models.shapes import NetShape, TextShape
from backend.models.sizes import ModelSizes, NetSizes, Stored
from backend.planning import Machine

GB = 1_000_000_000
GIB = 1 << 30
NOWHERE = Path("nowhere")
BITS = {"BF16": 16.0, "Q8_0": 8.5, "Q6_K": 6.5625, "Q5_K_S": 5.5, "Q4_K_S": 4.5, "Q3_K_S": 3.4375, "Q2_K": 2.625}
SHAPES = {
    "dev": 64,
    "schnell": 64,
    "krea-dev": 64,
    "kontext-dev": 64,
    "redux-dev": 64,
    "depth-dev": 128,
    "fill-dev": 384,
}
TOY = NetShape(256, 2, 4, 64, text=128, pooled=128)
TOY_TEXT = TextShape(2, 256, 64, 128, 4, 16000)
CLIP = Stored(loose=123_060_480)
T5 = {"BF16": Stored(loose=4_762_310_656), "Q8_0": Stored(5_060_000_000), "Q3_K_S": Stored(2_100_000_000)}
NETS = {
    "union-2": (Stored(loose=2_140_000_000), NetShape(double=6, single=0), ("depth", "canny", "soft_edge", "pose")),
    "union-1": (Stored(loose=3_300_000_000), NetShape(double=5, single=10), ("depth", "canny", "tile", "pose")),
    "union-q4": (Stored(1_210_000_000), NetShape(double=6, single=0), ("depth", "canny", "soft_edge", "pose")),
    "normals": (Stored(loose=1_790_000_000), NetShape(double=5, single=0), ("normal",)),
    "lines": (Stored(loose=1_790_000_000), NetShape(double=5, single=0), ("line",)),
}


def model(
    name: str, kind: str = "", nets: str = "", t5: str = "Q8_0", variant: str = "dev", is_toy: bool = False
) -> tuple[ModelFolder, ModelSizes]:
    """A model with a transformer in the number format `kind`, and the nets of these names in NETS."""
    folder = NOWHERE / name
    entries = tuple(
        ControlNetEntry(folder / net, {kind: ControlKind(None, "depth_near_white") for kind in NETS[net][2]})
        for net in nets.split()
    )
    shape = TOY if is_toy else NetShape(channels=SHAPES[variant], has_guidance=variant != "schnell")
    described = ModelFolder(
        folder, name, f"FLUX.1-{variant}", folder / "t", folder / "c.json", {}, entries, 512, {}, variant,
        redux=(folder, folder) if variant == "redux-dev" else None,
    )  # fmt: skip
    sizes = ModelSizes(
        round(shape.weights * BITS[kind] / 8),
        shape,
        kind,
        Stored(loose=5_000_000) if is_toy else CLIP + T5[t5],
        Stored(loose=3_000_000) if is_toy else T5[t5],
        text=TOY_TEXT if is_toy else TextShape(),
        vae=Stored(loose=83_800_000),
        nets={entry.folder: NetSizes(*NETS[net][:2]) for entry, net in zip(entries, nets.split(), strict=True)},
        redux=Stored(loose=430_000_000) if variant == "redux-dev" else Stored(),
    )
    return described, sizes


def card(free: float, host: float = 64.0, total: float = 0.0) -> Machine:
    """A graphics card with so many GB free, in a computer with so many."""
    return Machine("cuda", "a card", round((total or free) * GB), round(free * GB), round(host * GB), round(host * GB))


def cpu(memory: float) -> Machine:
    size = round(memory * GB)
    return Machine("cpu", "", size, size, size, size)


def mac(memory: float) -> Machine:
    size = round(memory * GB)
    return Machine("mps", "", size, size, size, size)
