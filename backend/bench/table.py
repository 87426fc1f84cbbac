"""The figures of the benchmark as a table: what was measured, as ratios, beside the floor of that device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Measured = Mapping[str, Mapping[str, float]]
"""Numbers by the part that measured them and by name; parts that did not run are not there."""
Formula = Callable[[Measured], float]
NOT_MEASURED = "not measured"
SECTION = "## On a graphics card"


@dataclass(frozen=True, slots=True)
class Line:
    """One figure. value, floor: from what was measured. accept, aim: of the issue that set them, for an H200.

    unit: "s" for a time, "" for a ratio.
    """

    figure: str
    value: Formula
    floor: Formula | float | None = None
    accept: str = ""
    aim: str = ""
    unit: str = ""


def ratio(above: str, below: str, name: str = "seconds") -> Formula:
    """One part's number divided by another's."""
    return lambda parts: parts[above][name] / parts[below][name]


def alike(above: str, below: str) -> Formula:
    """`ratio` of two loops of ours; not measured where the one ran compiled and the other one did not."""

    def found(parts: Measured) -> float:
        if parts[above]["is_compiled"] != parts[below]["is_compiled"]:
            raise KeyError(above)
        return ratio(above, below)(parts)

    return found


def number(part: str, name: str = "seconds") -> Formula:
    return lambda parts: parts[part][name]


LINES = (
    Line("exact mode, Q8_0 with ControlNet: the denoise loop", number("exact"), number("floors", "loop_main"),
         "≤ 4.0 s", "≤ 3.5 s", "s"),
    Line("stock diffusers GGUF ÷ exact mode", ratio("stock", "exact"), None, "≥ 2"),
    Line("exact mode ÷ diffusers unpacked once", ratio("exact", "resident")),
    Line("exact mode ÷ diffusers unpacked once and compiled", ratio("exact", "compiled")),
    Line("8-bit mode: the denoise loop", number("eight_bit"), number("floors", "loop_eight_bit"),
         "≤ 2.6 s", "≤ 2.2 s", "s"),
    Line("Q4_K exact ÷ diffusers unpacked once", ratio("q4_k", "resident"), 1.0, "≤ 1.2", "≤ 1.1"),
    Line("Q6_K exact ÷ diffusers unpacked once", ratio("q6_k", "resident"), 1.0),
    Line("peak memory at Q8_0, all resident ÷ file sizes",
         lambda parts: parts["packed"]["peak"] / parts["packed"]["files"], 0.8, "≤ 1.0", "≤ 0.9"),
    Line("exact mode with all weights packed on the device ÷ by its plan", alike("packed", "exact")),
    Line("load Q8_0 → ready on the device ÷ reading its bytes and copying them",
         lambda parts: parts["load"]["seconds"] / parts["load"]["least"], 1.0, "≤ 1.5", "≤ 1.2"),
    Line("whole job, card capped at 8 GB (Q4_K) ÷ uncapped", ratio("capped_8", "uncapped"), 1.0, "≤ 1.8", "≤ 1.5"),
    Line("whole job, card capped at 12 GB (Q4_K) ÷ uncapped", ratio("capped_12", "uncapped"), 1.0),
    Line("whole job, card capped at 16 GB (Q4_K) ÷ uncapped", ratio("capped_16", "uncapped"), 1.0),
    Line("whole job, card capped at 24 GB (Q4_K) ÷ uncapped", ratio("capped_24", "uncapped"), 1.0),
    Line("the smaller picture: exact mode", number("small"), number("floors", "loop_small"), unit="s"),
    Line("the smaller picture: stock diffusers GGUF ÷ exact mode", ratio("stock_small", "small")),
    Line("the larger picture: exact mode", number("large"), number("floors", "loop_large"), unit="s"),
    Line("the larger picture: stock diffusers GGUF ÷ exact mode", ratio("stock_large", "large")),
    Line("8-bit mode: relative error of the latents (random weights)", number("eight_bit", "error")),
    Line("cached steps ÷ exact mode", alike("cached", "exact")),
    Line("cached steps: relative error of the latents (random weights)", number("cached", "error")),
    Line("fast ÷ exact mode", alike("fast", "exact")),
    Line("fast: relative error of the latents (random weights)", number("fast", "error")),
)  # fmt: skip


def markdown(parts: Measured, lines: tuple[Line, ...] = LINES) -> str:
    """The table. A figure that was not measured says so."""
    rows = [
        "| figure | measured | floor, by the device's own rates | accept (H200) | aim |",
        "|---|---|---|---|---|",
    ]
    for line in lines:
        floor = _told(line.floor, parts, line.unit)
        rows.append(f"| {line.figure} | {_told(line.value, parts, line.unit)} | {floor} | {line.accept} | {line.aim} |")
    return "\n".join(rows)


def _told(value: Formula | float | None, parts: Measured, unit: str) -> str:
    if value is None:
        return ""
    try:
        found = value(parts) if callable(value) else value
    except KeyError:
        return NOT_MEASURED
    return f"{found:.3g} {unit}".strip()


def section(state: Mapping[str, Any], lines: tuple[Line, ...] = LINES) -> str:
    """The section of docs/benchmarks.md. state: as `runner` keeps it; an empty one where nothing was measured."""
    parts = {name: told["values"] for name, told in state.get("parts", {}).items() if "values" in told}
    below = [
        f"- {name}: {'; '.join(said)}"
        for name, told in state.get("parts", {}).items()
        if (said := [*told.get("notes", []), *filter(None, map(told.get, ("failed", "left_out", "cut_short")))])
    ]
    if machine := state.get("machine"):
        said = ", ".join(f"{name} {value}" for name, value in machine.items())
        where = f"Measured with {said}."
    else:
        where = "No graphics card has run it yet."
    text = f"""{SECTION}

`python -m backend bench` makes FLUX.1-dev's transformer and a ControlNet of Union-Pro-2.0's size with random weights,
and divides what is ours by what is theirs within one run: 1024² pixels (512² and 1536² for the smaller and the larger
picture), 28 steps of the denoise loop. Ours runs by the memory plan that production makes for the machine, compiled
where that has it so. Loading is production's `load_model`: transformer, text encoders and VAE. {where}

{markdown(parts, lines)}
"""
    if below:
        text += "\nBy part, how our own ran and what is missing:\n\n" + "\n".join(below) + "\n"
    return text


def write_section(path: Path, text: str) -> None:
    """Puts the section in the place of the one that the file has, or at its end; all else stays."""
    from ..wire.disk import disk_failures

    before = path.read_text(encoding="utf-8") if path.is_file() else "# Benchmarks\n"
    head, found, rest = before.partition(SECTION)
    _, following, tail = rest.partition("\n## ") if found else ("", "", "")
    with disk_failures(path.parent):
        path.write_text(f"{head.rstrip()}\n\n{text}{following}{tail}", encoding="utf-8")
