"""Finds the Python interpreters that the environments stand on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tools.console import run_quietly, say

PROBE = (
    "import sys, sysconfig;"
    "print('%d.%d' % sys.version_info[:2], sysconfig.get_config_var('Py_GIL_DISABLED') or 0, sys.executable, sep='|')"
)
HOMEBREW_PREFIXES = ("/opt/homebrew", "/usr/local", "/home/linuxbrew/.linuxbrew")
PROBE_SECONDS = 30
FETCH_SECONDS = 900


def find_interpreter(version: str, environ: Mapping[str, str] | None = None) -> Path | None:
    """A Python of this version ("3.13") on this machine that really runs, or None. Fetches nothing.

    Looked for in this order: the Python that runs this, PATH (`python3.13`, and then `python3` and `python`), pyenv's
    versions, the `py` launcher, Homebrew. A shim that has no such version behind it fails the probe and is passed by.
    """
    environ = os.environ if environ is None else environ
    seen: set[tuple[str, ...]] = set()
    for command in _candidates(version, environ):
        if tuple(command) not in seen:
            seen.add(tuple(command))
            found = probe(command, version, environ)
            if found is not None:
                return found
    return None


def probe(command: Sequence[str], version: str, environ: Mapping[str, str] | None = None) -> Path | None:
    """The executable behind a command, if it runs, is of this version, and takes ordinary wheels."""
    done = run_quietly([*command, "-c", PROBE], None if environ is None else dict(environ), timeout=PROBE_SECONDS)
    answer = done.stdout.strip().split("|")
    if done.returncode != 0 or len(answer) != 3 or answer[0] != version or answer[1] != "0":
        return None
    return Path(answer[2])


def fetch_interpreter(uv: Path, version: str) -> Path | None:
    """A Python that uv knows or can download, or None after one line that says so."""
    environ = {"UV_HTTP_RETRIES": "1", **os.environ}
    found = run_quietly([uv, "python", "find", "--no-project", "--no-python-downloads", version], environ)
    if found.returncode != 0:
        say(f"Python {version} is not on this machine: asking uv for it (about 35 MB) …")
        run_quietly([uv, "python", "install", "--no-bin", version], environ, timeout=FETCH_SECONDS)
        found = run_quietly([uv, "python", "find", "--no-project", "--no-python-downloads", version], environ)
    path = found.stdout.strip()
    return probe([path], version) if found.returncode == 0 and path else None


def _candidates(version: str, environ: Mapping[str, str]) -> Iterator[list[str]]:
    suffix = ".exe" if os.name == "nt" else ""
    path_folders = [Path(entry) for entry in environ.get("PATH", "").split(os.pathsep) if entry]
    if f"{sys.version_info.major}.{sys.version_info.minor}" == version:
        yield [sys.executable]
    yield from _existing(folder / f"python{version}{suffix}" for folder in path_folders)
    yield from _existing(_pyenv_pythons(version, environ))
    if os.name == "nt":
        yield ["py", f"-{version}"]
    for prefix in (environ.get("HOMEBREW_PREFIX"), *HOMEBREW_PREFIXES):
        if prefix:
            yield from _existing([Path(prefix, "opt", f"python@{version}", "bin", f"python{version}")])
            yield from _existing([Path(prefix, "bin", f"python{version}")])
    yield from _existing(folder / f"{name}{suffix}" for folder in path_folders for name in ("python3", "python"))


def _pyenv_pythons(version: str, environ: Mapping[str, str]) -> Iterator[Path]:
    home = environ.get("USERPROFILE" if os.name == "nt" else "HOME", "")
    roots = (environ.get("PYENV_ROOT"), environ.get("PYENV"), str(Path(home, ".pyenv")) if home else None)
    for root in roots:
        if root:
            versions = Path(root, "versions").glob(f"{version}.*")
            for folder in sorted(versions, key=_patch_number, reverse=True):
                yield folder / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def _patch_number(folder: Path) -> int:
    last = folder.name.rsplit(".", 1)[-1]
    return int(last) if last.isdecimal() else -1


def _existing(paths: Sequence[Path] | Iterator[Path]) -> Iterator[list[str]]:
    for path in paths:
        if path.is_file():
            yield [str(path)]
