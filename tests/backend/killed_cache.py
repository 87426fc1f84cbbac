"""Writers of a result cache that are killed in the middle, two at a time: python -m tests.backend.killed_cache FOLDER.

They are forks of this process, because two hundred Pythons take minutes to start. Ends with 1 and says why where one
saw a wrong picture.
"""

from __future__ import annotations

import hashlib
import os
import random
import select
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from backend.production.result_cache import ResultCache
from backend.wire import GenerationRequest, GenerationResult

RESULT = GenerationResult(GenerationRequest("a red cube", 64, 64))
KILLS = 200
KEYS = 30
CAP = 3_000_000
"""Bytes: half of the pictures, so that writers remove each other's."""


def picture(key: str) -> bytes:
    """The bytes that belong under the key, 200 kB of them."""
    return hashlib.shake_256(key.encode()).digest(200_000)


def write_for_ever(folder: Path, seed: int, ready: int) -> None:
    """Reads and puts pictures; a byte goes to the pipe `ready` after the first."""
    rng, cache = random.Random(seed), ResultCache(folder, CAP)
    pictures = {key: picture(key) for key in (f"{number:064x}" for number in range(KEYS))}
    while True:
        key = rng.choice(list(pictures))
        found = cache.get(key)
        if found is not None and found.png != pictures[key]:
            os._exit(1)
        if found is None or rng.random() < 0.3:
            cache.put(key, replace(RESULT, png=pictures[key]))
        if ready >= 0:
            os.write(ready, b".")
            ready = -1


def started(folder: Path, seed: int) -> int:
    """The process id of a writer that has written."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        write_for_ever(folder, seed, writing)
    os.close(writing)
    select.select([reading], [], [])
    os.close(reading)
    return child


def main() -> None:
    folder, rng = Path(sys.argv[1]), random.Random(1)
    writers = [started(folder, seed) for seed in range(2)]
    for kill in range(KILLS):
        time.sleep(rng.random() * 0.02)
        writer = writers.pop(0)
        os.kill(writer, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1])
        if status != -signal.SIGKILL:
            sys.exit(f"A writer ended with {status} before it was killed.")
        if kill < KILLS - 2:
            writers.append(started(folder, kill + 2))


if __name__ == "__main__":
    main()
