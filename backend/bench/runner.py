"""Runs the parts of the benchmark one by one, each within its time, and keeps what is done, so that a run can go on."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIMIT = 460.0
"""Seconds that a part may take: under eight minutes, with the start of its process."""
VERSIONS = ("torch", "diffusers", "transformers")
FOLDER = Path(__file__).resolve().parents[2]
"""What `python -m backend` runs in."""


@dataclass(frozen=True, eq=False, slots=True)
class Run:
    """scratch: where models and results lie. isolated: whether each part has a process of its own, which its time
    limit ends, and in which no part's memory is left to the next. limit: seconds for each. profile: whether parts that
    run our loop also tell where a step's time goes.
    """

    scratch: Path
    size: str
    device: str
    limit: float
    isolated: bool
    say: Callable[[str], None]
    profile: bool = False

    @property
    def state_path(self) -> Path:
        return self.scratch / f"bench-{self.size}.json"


def go_on(run: Run, names: Sequence[str]) -> dict[str, Any]:
    """Runs the parts of these names that are not done, the most telling first; returns the state with all that is done.

    The state of another machine or of other versions is set aside. A part that fails says so there, and is tried again
    when the benchmark is run again. One that takes too long is ended with what it has by then, and says so; it is tried
    again with more time.
    """
    from .parts import PARTS

    run.scratch.mkdir(parents=True, exist_ok=True)
    state = read_state(run)
    for name in [part for part in PARTS if part in names]:
        told = state["parts"].get(name, {})
        if "values" in told and told.get("ended_at", run.limit) >= run.limit:
            run.say(f"{name}: done before")
            continue
        run.say(f"{name} …")
        began = time.perf_counter()
        told = _in_own_process(run, name) if run.isolated else measured(run, name)
        state["parts"][name] = {**told, "took": round(time.perf_counter() - began, 2)}
        _write(run.state_path, state)
        for why in filter(None, map(told.get, ("failed", "left_out", "cut_short"))):
            run.say(f"{name}: {why}")
        if "values" in told:
            run.say(f"{name}: {told['values']}")
    return state


def read_state(run: Run) -> dict[str, Any]:
    """{"machine": what is measured on, "parts": {name: as `measured` tells them}."""
    machine = describe_machine(run.device)
    try:
        state = json.loads(run.state_path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        state = {}
    same = {name: value for name, value in state.get("machine", {}).items() if name != "date"}
    if same != {name: value for name, value in machine.items() if name != "date"}:
        if state.get("parts"):
            run.say("What is there was measured on another machine or with other versions; beginning anew.")
        return {"machine": machine, "parts": {}}
    return state


def describe_machine(device: str) -> dict[str, str]:
    """date, device and versions."""
    from ..flux.device import choose_device
    from ..flux.memory import device_name

    found = {name: version(name) for name in VERSIONS}
    name = device_name(choose_device(device)[0])
    python = ".".join(str(part) for part in sys.version_info[:3])
    return {"date": datetime.now(UTC).date().isoformat(), "device": name, "python": python, **found}


def measured(run: Run, name: str, keep: Callable[[dict[str, Any]], None] = lambda told: None) -> dict[str, Any]:
    """What a part gives, in this process: {"values", "notes"}, {"failed": a sentence}, or {"left_out": a sentence}.

    left_out: why this device cannot measure it. keep: told of what a part has, as it goes, in the same form.
    """
    import torch

    from ..flux.device import choose_device, without_gradients
    from ..flux.memory import release
    from .parts import PARTS, Bench, NotHereError, Values
    from .sizes import SIZES

    device, dtype = choose_device(run.device)
    state = read_state(run)
    done = {part: told["values"] for part, told in state["parts"].items() if "values" in told}
    notes: list[str] = []

    def keep_values(values: Values) -> None:
        keep({"values": values, "notes": notes})

    ends = time.monotonic() + run.limit
    where = (run.scratch, SIZES[run.size], device, dtype, run.say, keep_values, ends)
    bench = Bench(*where, machine=state["machine"], done=done, notes=notes, profile=run.profile)
    try:
        with without_gradients():
            values = PARTS[name].run(bench)
    except NotHereError as error:
        return {"left_out": str(error)}
    except torch.OutOfMemoryError as error:
        return {"failed": f"It does not fit in the device's memory. {str(error).splitlines()[0]}"}
    except Exception as error:
        # What one part cannot do must not cost the others.
        return {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
    finally:
        release()
    return {"values": values, "notes": notes}


def _in_own_process(run: Run, name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        words = ["--scratch", str(run.scratch.absolute()), "--size", run.size, "--device", run.device]
        words += ["--limit", str(run.limit), *(["--profile"] if run.profile else [])]
        command = [sys.executable, "-m", "backend", "bench", *words, "--part", name, "--answer", str(answer)]
        try:
            done = subprocess.run(command, cwd=FOLDER, stdin=subprocess.DEVNULL, timeout=run.limit, check=False)
            why = f"Its process ended with status {done.returncode}."
        except subprocess.TimeoutExpired:
            why = f"It did not fit in {run.limit:g} seconds."
        told = json.loads(answer.read_text(encoding="utf-8")) if answer.is_file() else {"failed": why}
        if told.pop("is_whole", False) or "failed" in told:
            return told
        return {**told, "cut_short": f"{why} These are the numbers that it had by then.", "ended_at": run.limit}


def answer_to(path: Path, run: Run, name: str) -> None:
    """Measures a part in this process and writes what it gives into a file for another one, and before what it has."""
    told = measured(run, name, lambda told: _write(path, told))
    _write(path, {**told, "is_whole": True})


def _write(path: Path, state: dict[str, Any]) -> None:
    """Whole or not at all."""
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(state, indent=1), encoding="utf-8")
    partial.replace(path)
