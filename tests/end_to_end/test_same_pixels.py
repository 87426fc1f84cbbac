"""One Request, four ways to ask for it: the panel in Blender, the command line, Python, and the socket by itself."""

from __future__ import annotations

import json
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.addon.fakes import ops
from tests.end_to_end.conftest import ROOT
from tests.end_to_end.test_spine import history

FROM_PYTHON = """
import sys
from backend import create_production_pipeline, read_maps, read_request
picture, models, maps, out = sys.argv[1:]
pipeline = create_production_pipeline("", models, "cpu", maps_folder=maps)
pipeline.generate(read_request(picture).request, read_maps(picture, maps)).save(out)
"""
BY_SOCKET = """
import json, os, secrets, subprocess, sys, tempfile
from pathlib import Path
from backend import read_maps, read_request
from backend.wire.endpoint import Endpoint
from backend.wire.framing import receive_frame, send_frame
from backend.wire.handshake import prove_as_client
from backend.wire.messages import Failed, Finished, Generate, from_server
picture, models, maps, out = sys.argv[1:]
secret = secrets.token_bytes(32)
with tempfile.TemporaryDirectory() as data:
    config = {"secret": secret.hex(), "data_folder": data, "models_folder": models, "device": "cpu",
              "transport": "auto", "parent_pid": os.getpid()}
    command = [sys.executable, "-m", "backend", "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdin.write(json.dumps(config).encode() + b"\\n")
        child.stdin.flush()
        endpoint = Endpoint.from_json(json.loads(child.stdout.readline())["endpoint"])
        with endpoint.connect(10.0) as sock:
            prove_as_client(sock, secret)
            job = Generate("0" * 32, read_request(picture).request, read_maps(picture, maps), {})
            send_frame(sock, job.to_frame())
            while True:
                message = from_server(receive_frame(sock))
                assert not isinstance(message, Failed), message
                if isinstance(message, Finished):
                    break
            Path(out).write_bytes(message.result.png)
        child.stdin.close()
        child.wait()
"""


def pixels_of(png: bytes) -> bytes:
    """What the PNG's pixels are packed from: equal for equal pixels, because one program wrote them."""
    packed, at = b"", 8
    while at < len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] == b"IDAT":
            packed += png[at + 8 : at + 8 + size]
        at += 12 + size
    return zlib.decompress(packed)


@pytest.fixture
def in_the_backend(backend_python: Path) -> Callable[..., None]:
    """Runs the backend's Python with arguments; a failure is the test's."""

    def run(*arguments: object) -> None:
        command = [str(backend_python), *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def test_four_ways_make_the_same_pixels(
    ready: Any, in_the_backend: Callable[..., None], models: Path, data_folder: Path, tmp_path: Path
) -> None:
    maps = data_folder / "maps"
    assert ops().generate(seed=11, controls="depth,normal,line:0.4") == {"FINISHED"}
    entry = history()[-1]
    blender = tmp_path / "blender.png"
    blender.write_bytes(bytes(entry.image.packed_file.data))
    assert json.loads(entry.request)["model"] == "random-weights"

    command, api, socket, plain = (tmp_path / f"{name}.png" for name in ("command", "api", "socket", "plain"))
    places = ("--models", models, "--device", "cpu", "--maps-folder", maps)
    in_the_backend("-m", "backend", "generate", "--from", blender, *places, "--out", command)
    in_the_backend("-c", FROM_PYTHON, blender, models, maps, api)
    in_the_backend("-c", BY_SOCKET, blender, models, maps, socket)
    wanted = pixels_of(blender.read_bytes())
    assert all(pixels_of(path.read_bytes()) == wanted for path in (command, api, socket))

    in_the_backend("-m", "backend", "generate", "--from", blender, *places, "--seed", 12, "--out", plain)
    assert pixels_of(plain.read_bytes()) != wanted, "the test can fail"
