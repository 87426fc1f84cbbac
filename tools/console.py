"""What the tools say to a person, and how they stop."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The repository's root."""


class ToolError(Exception):
    """Ends the command: its text is one clear line for the person who typed it."""


def say(text: str = "") -> None:
    """One line on stdout, at once, also into a pipe."""
    print(text, flush=True)


def title(text: str) -> None:
    """A heading between the parts of a long command."""
    say(f"\n== {text}")


def progress_bar(fraction: float, text: str = "", width: int = 30) -> str:
    """A bar of `width` characters for a fraction of 0..1, with its percentage and a text."""
    filled = round(width * min(1.0, max(0.0, fraction)))
    return f"[{'#' * filled}{'.' * (width - filled)}] {min(1.0, max(0.0, fraction)):4.0%}  {text}".rstrip()


def show_progress(fraction: float, text: str = "") -> None:
    """Redraws the bar in place on a terminal; in a pipe it is a line of its own."""
    if sys.stdout.isatty():
        print(f"\r\x1b[K{progress_bar(fraction, text)}", end="\n" if fraction >= 1 else "", flush=True)
    else:
        say(progress_bar(fraction, text))


def run_quietly(
    command: Sequence[str | Path], environment: Mapping[str, str] | None = None, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command with its output captured; the caller judges the exit code.

    A program that cannot be started or does not end in `timeout` seconds comes back as exit code 127 or 124.
    """
    words = [str(word) for word in command]
    try:
        return subprocess.run(
            words, capture_output=True, text=True, errors="replace", env=environment, timeout=timeout, check=False
        )
    except OSError as error:
        return subprocess.CompletedProcess(words, 127, "", str(error))
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 124, "", f"did not end within {timeout:g} s")
