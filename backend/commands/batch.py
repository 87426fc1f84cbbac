"""python -m backend batch: many pictures, a line of JSON for each; it goes on where it was stopped."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..production import Production
    from ..production.batch_file import Journal, Line
    from ..wire import Failure, GenerationResult

MADE, FAILED, USAGE, STOPPED = 0, 1, 2, 130
"""Exit codes; the last is what shells say of a program that Ctrl-C ended."""


def add_to(commands: Any) -> None:
    """Adds the command to what `add_subparsers` made."""
    parser = commands.add_parser(
        "batch",
        help="paint a picture for each line of a file, and go on where it was stopped",
        description="Each line is a Request as JSON, with its fields and, if need be, "
        '"maps" ({"depth": "depth.exr"}, paths from the file\'s folder on) and "out" (the picture\'s file name). '
        "A broken line is reported and does not stop the rest. "
        "Exit status: 0 all made, 1 some failed, 2 called wrongly, 130 stopped by Ctrl-C.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument("jobs", type=Path, metavar="JOBS.jsonl")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where the pictures go")
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="your models, beside those that ship")
    parser.add_argument(
        "--model", default="", metavar="NAME", help="for lines that name none (default: the best there is for each)"
    )
    parser.add_argument("--device", default="auto", help='"auto", "cpu", "cuda:1" …')
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="where pictures are kept, to be painted once only")


def run(options: argparse.Namespace) -> int:
    """Returns the exit code."""
    from ..models import find_model
    from ..outputs.map_store import BESIDE
    from ..production import Production
    from ..production.batch_file import Journal, read_lines
    from ..production.choosing import with_own_settings
    from ..wire import FailureError
    from ..wire.disk import PARTIAL, disk_failures
    from ..wire.model_names import shipped_models

    models = options.models or shipped_models()
    try:
        with disk_failures(options.out):
            options.out.mkdir(parents=True, exist_ok=True)
            journal = Journal(options.out)
        if options.model:
            find_model(models, options.model)
        read = read_lines(
            options.jobs,
            options.model,
            lambda request, given: with_own_settings(request, given, models, options.device),
        )
    except FailureError as error:
        return _called_wrongly(f"{error.failure.message} {error.failure.hint}")
    except OSError as error:
        return _called_wrongly(f"The file {options.jobs} cannot be read: {error.strerror}. Correct its path.")
    from ..lifeline import sweep

    sweep(options.out, PARTIAL)
    batch = _Batch(
        journal,
        Production(models, options.device, cache_folder=options.cache, maps_folder=options.out / BESIDE),
        len(read),
    )
    broken = [line for line in read if isinstance(line, tuple)]
    for number, failure in broken:
        batch.say_failed(number, failure)
    with _asked_to_stop() as is_stopped:
        batch.paint([line for line in read if not isinstance(line, tuple)], is_stopped)
        return batch.end(is_stopped())


class _Batch:
    """One run of the command: what it has made, left out and failed at."""

    def __init__(self, journal: Journal, production: Production, count: int) -> None:
        self.journal = journal
        self.production = production
        self.count = count
        self.made = self.kept = self.failed = 0

    def paint(self, lines: list[Line], is_stopped: Callable[[], bool]) -> None:
        """Paints the lines whose pictures are not there."""
        from ..outputs.map_numbers import read_map_files
        from ..production.batch import paint_batch

        left = [(line, job, out) for line in lines if (needed := self._needed(line)) for job, out in [needed]]
        pictures = paint_batch(
            self.production,
            [line.request for line, _, _ in left],
            lambda index: read_map_files(left[index][0].maps),
            lambda progress: None,
            is_stopped,
        )
        began = time.perf_counter()
        for (line, job, out), picture in zip(left, pictures, strict=True):
            if is_stopped():
                return
            self._keep(line, job, out, picture, time.perf_counter() - began)
            began = time.perf_counter()

    def _needed(self, line: Line) -> tuple[str, str] | None:
        """The job's digest and its file's name; None where the picture is there, or cannot be made."""
        from ..wire import FailureError

        try:
            job = line.digest()
            if self.journal.made(job, line.out) is not None:
                self.kept += 1
                return None
            out = line.out or f"{line.number:04}-{job[:8]}.png"
            self.journal.check_free(out)
        except FailureError as error:
            self.say_failed(line.number, error.failure)
            return None
        return job, out

    def _keep(self, line: Line, job: str, out: str, picture: GenerationResult | Failure, seconds: float) -> None:
        from ..outputs.files import picture_bytes
        from ..wire import Failure, FailureError
        from ..wire.disk import disk_failure

        if isinstance(picture, Failure):
            self.say_failed(line.number, picture)
            return
        try:
            self.journal.put(job, out, picture_bytes(picture.png, Path(out).suffix))
        except FailureError as error:
            self.say_failed(line.number, error.failure)
            return
        except OSError as error:
            self.say_failed(line.number, disk_failure(error, Path(out).parent))
            return
        self.made += 1
        print(f"line {line.number}: {out}, {seconds:.1f} s", flush=True)

    def say_failed(self, number: int, failure: Failure) -> None:
        self.failed += 1
        print(f"line {number} failed: {failure.message} {failure.hint}", file=sys.stderr, flush=True)

    def end(self, is_stopped: bool) -> int:
        """Says what came of all lines; the exit code."""
        there = f"{self.made + self.kept} of {self.count} pictures are there, {self.made} of them new"
        if is_stopped:
            print(f"Stopped: {there}. Run the same command again to go on.", file=sys.stderr)
            return STOPPED
        print(f"{there}." if not self.failed else f"{there}; {self.failed} lines failed.")
        return FAILED if self.failed else MADE


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Ctrl-C stops within a step of the picture that runs; the second one at once."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        signal.signal(number, before[number])

    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, ask)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _called_wrongly(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return USAGE
