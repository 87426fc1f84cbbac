"""A whole backend process with a fake production: `python tests/fake_backend.py`, configured as the real one is."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from backend.serving import serve_process
    from tests.fake_production import FakeProduction

    serve_process(lambda config: FakeProduction(), needed=())


if __name__ == "__main__":
    main()
