"""What comes back for a Request."""

from __future__ import annotations

import os
import tempfile
import webbrowser
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .failure import FailureError, FailureKind
from .request import GenerationRequest


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a job is: `fraction` 0..1 never reaches 1 before the Result is there. `step` of `steps` within `stage`.

    stage: "waiting", "loading", "text", "control", "denoising", "decoding", "enhancing" or "saving". note: what the
    user should know of how the picture is made, or "": the two lines of the memory plan, and what else there is to say,
    each in a line. seconds_left: until the Result is there, where that can be told yet.
    """

    stage: str
    step: int = 0
    steps: int = 0
    fraction: float = 0.0
    note: str = ""
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """A finished picture.

    png: a whole PNG file with its provenance in text chunks; empty when the task makes no picture.
    control_pngs: the pictures the ControlNets got, by kind (task "show_controls"; else empty).
    request: the Request as it really ran. plan: the settings the engine chose for this machine.
    timings: seconds per stage. peak_memory: bytes.
    """

    request: GenerationRequest
    png: bytes = b""
    control_pngs: dict[str, bytes] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    peak_memory: int = 0

    def save(self, path: str | Path) -> Path:
        """Writes the PNG, whole or not at all, and returns its path. Raises `OSError` where that cannot be.

        What `ProductionPipeline.generate` returns writes other formats too. Raises `FailureError` (bad_request) here
        where the path does not end in .png.
        """
        target = Path(path)
        if target.suffix.lower() != ".png":
            raise FailureError.of(
                FailureKind.BAD_REQUEST,
                f"The picture cannot be saved as {target.name!r} here.",
                "Let its name end in .png, or write it with backend.save_picture.",
            )
        partial = target.with_name(f".{target.name}.part")
        try:
            partial.write_bytes(self.png)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return target

    def show(self) -> Path:
        """Opens the picture in the desktop's viewer, from a file of its own in the temporary folder."""
        file, name = tempfile.mkstemp(prefix="grisaille-", suffix=".png")
        os.close(file)
        path = GenerationResult.save(self, name)
        webbrowser.open(path.as_uri())
        return path
