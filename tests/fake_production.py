"""A production that paints nothing, for the tests of the door: the prompt says how it behaves.

Words of the prompt: steps=N, pause=SECONDS (per step), preview, print, raise, crash (SIGKILL to itself in the middle),
fill=FOLDER (fills the disk there before it ends), ignore (does not look at cancel), size=BYTES (of the picture).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from backend.wire import ControlMaps, Failure, FailureKind, GenerationRequest, GenerationResult, Progress


class FakeProduction:
    def run(
        self,
        request: GenerationRequest,
        maps: ControlMaps,
        *,
        on_progress: Callable[[Progress], None],
        on_preview: Callable[[Any], None],
        is_cancelled: Callable[[], bool],
        digests: Mapping[str, str],
    ) -> GenerationResult | Failure:
        words = {name: value for name, _, value in (word.partition("=") for word in request.prompt.split())}
        steps = int(words.get("steps", "2"))
        for step in range(1, steps + 1):
            if is_cancelled() and "ignore" not in words:
                return Failure(FailureKind.CANCELLED, "The job was cancelled.", "Generate again when you like.")
            on_progress(Progress("denoising", step, steps, 0.9 * step / steps))
            if "preview" in words:
                on_preview(np.full((64, 64, 3), step % 256, np.uint8))
            time.sleep(float(words.get("pause", "0")))
            if "crash" in words:
                os.kill(os.getpid(), signal.SIGKILL)
        if "raise" in words:
            raise RuntimeError("the fake engine was told to raise")
        if "print" in words:
            sys.stdout.write("a library prints\n")
            sys.stdout.flush()
        if "fill" in words:
            _fill(Path(words["fill"]))
        sums = {kind: float(np.nan_to_num(array, posinf=0).sum()) for kind, array in maps.arrays().items()}
        png = b"\x89PNG" + b"\x2a" * int(words.get("size", "1000"))
        return GenerationResult(request, png, {}, {"sums": sums}, {"denoising": 0.5}, 1234)


def _fill(folder: Path) -> None:
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while file.write(b"\0" * 4096):
            pass
