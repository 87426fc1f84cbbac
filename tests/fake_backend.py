"""A whole backend process with a fake production: `python tests/fake_backend.py [drop] [narrow]`, configured as the
real one is.

narrow: no more than NARROW bytes pass its door at once, in place of a quarter of a gigabyte.
drop: gives up root's powers first, so that permissions mean something. A prompt with the word "slow_save" takes half a
second to store its Result; one with "lost" kills the process when that is stored and before anyone hears of it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

NOBODY = 65534
NARROW = 2**20


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from backend.serving import serve_process
    from backend.wire import stored
    from tests.fake_production import FakeProduction

    if "drop" in sys.argv:
        drop_privileges()
    if "narrow" in sys.argv:
        narrow_door()
    write = stored.write

    def write_and_perhaps_die(partial: Path, job_id: str, result: Any, origin: dict[str, str]) -> Path:
        words = result.request.prompt.split()
        time.sleep(0.5 if "slow_save" in words else 0.0)
        written = write(partial, job_id, result, origin)
        if "lost" in words:
            os.kill(os.getpid(), signal.SIGKILL)
        return written

    stored.write = write_and_perhaps_die
    serve_process(lambda config: FakeProduction(), needed=())


def narrow_door() -> None:
    from backend import server
    from backend.wire import framing

    server.PAYLOAD_MAX = NARROW
    framing.FRAME_MAX = NARROW + framing.HEADER_MAX


def drop_privileges() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


if __name__ == "__main__":
    main()
