"""The backend's start, up to being ready by handshake with no model loaded, against `import torch`."""

from __future__ import annotations

import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from backend.wire.endpoint import Endpoint
from backend.wire.framing import receive_frame
from backend.wire.handshake import prove_as_client
from backend.wire.messages import Hello, from_server
from tests.bench.figure import Figure

ROOT = Path(__file__).resolve().parent.parent.parent
ROUNDS = 7
TARGET = 1.5


def run() -> list[Figure]:
    """Interleaved medians, after one round to warm the disk's cache."""
    rounds = [(_time_ready(), _time_import()) for _ in range(ROUNDS + 1)][1:]
    ready, torch = (statistics.median(times) for times in zip(*rounds, strict=True))
    detail = f"{ready:.2f} s ÷ {torch:.2f} s, medians of {ROUNDS}"
    return [Figure("backend start → ready ÷ python -c 'import torch'", ready / torch, TARGET, detail)]


def _time_import() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - started


def _time_ready() -> float:
    secret = secrets.token_bytes(32)
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "secret": secret.hex(),
            "data_folder": folder,
            "models_folder": folder,
            "device": "cpu",
            "transport": "auto",
            "parent_pid": os.getpid(),
        }
        started = time.perf_counter()
        command = [sys.executable, "-m", "backend", "serve"]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdin is not None and child.stdout is not None
            child.stdin.write(json.dumps(config).encode() + b"\n")
            child.stdin.flush()
            endpoint = Endpoint.from_json(json.loads(child.stdout.readline())["endpoint"])
            with endpoint.connect(5.0) as sock:
                prove_as_client(sock, secret)
                frame = receive_frame(sock)
                if frame is None or not isinstance(from_server(frame), Hello):
                    raise RuntimeError("the backend did not say hello")
                elapsed = time.perf_counter() - started
            child.stdin.close()
            child.wait()
    return elapsed


def main() -> None:
    for figure in run():
        print(f"{figure.name}: {figure.ratio:.2f} (target {figure.target}); {figure.detail}")


if __name__ == "__main__":
    main()
