"""Causes of failed pictures, each brought about by the library that raises it: all are recognised, none by a guess."""

from __future__ import annotations

import errno
import gc
import json
import os
import pickle
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import gguf
import httpx2
import numpy as np
import pytest
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.utils import hf_raise_for_status
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import embedding, layer_norm, scaled_dot_product_attention

from backend.causes import is_out_of_memory, recognised
from backend.diagnostics import diagnose_generation_failure
from backend.wire import Control, Failure, FailureError, FailureKind, GenerationRequest
from tests.disks import small_disk

REQUEST = GenerationRequest("a cube", 2048, 1024, model="dev", controls=(Control("depth"), Control("line")))
PICTURE = "a picture of 2048 x 1024 pixels with 2 controls (depth, line)"
BF16, F16 = torch.bfloat16, torch.float16
ones = torch.ones


def diagnosed(act: Callable[[], object], request: GenerationRequest | None = REQUEST) -> Failure:
    """What is said of the error that `act` raises: a sentence and a step for a cause that is known."""
    with pytest.raises(Exception) as raised:
        act()
    assert recognised(raised.value, request) is not None, repr(raised.value)
    failure = diagnose_generation_failure(raised.value, request)
    for text in (failure.message, failure.hint):
        assert text.endswith(".") and "\n" not in text and "Traceback" not in text
    assert "Traceback" in failure.detail or isinstance(raised.value, FailureError)
    return failure


@pytest.mark.parametrize("act", [lambda: torch.empty(2**50, dtype=torch.uint8), lambda: np.empty(2**50)])
def test_too_little_main_memory(act: Callable[[], object]) -> None:
    failure = diagnosed(act)
    assert failure.kind == FailureKind.OUT_OF_MEMORY
    assert failure.message == f"The computer has too little main memory for {PICTURE}."
    assert failure.hint.startswith("Choose 1440 x 720 pixels or fewer controls")
    assert "this picture" in diagnosed(act, None).message


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no graphics card to fill: its sentence is tested below")
def test_too_little_memory_on_a_graphics_card() -> None:
    failure = diagnosed(lambda: torch.empty(2**45, dtype=torch.uint8, device="cuda"))
    assert failure.kind == FailureKind.OUT_OF_MEMORY and "graphics card" in failure.message
    assert "were free" in failure.message


def test_what_torch_says_of_a_full_graphics_card() -> None:
    """In torch's own class and words; the test above has the card say it."""

    def act() -> None:
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 512.00 MiB. GPU 0 has a total capacity of 7.79 GiB of which"
            " 101.19 MiB is free. Process 1 has 7.60 GiB memory in use."
        )

    failure = diagnosed(act)
    assert failure.kind == FailureKind.OUT_OF_MEMORY
    wanted = f"The graphics card has too little memory for {PICTURE} (101.19 MiB of 7.79 GiB were free)."
    assert failure.message == wanted and "use the graphics card" in failure.hint


def test_what_onednn_says_of_full_main_memory() -> None:
    """Word for word: whether it meets the end of memory first, or torch's allocator does, is chance."""
    assert is_out_of_memory(RuntimeError("could not create a primitive"))
    assert not is_out_of_memory(RuntimeError("could not create a primitive descriptor for a convolution"))


def test_a_small_picture_is_not_made_smaller() -> None:
    failure = diagnosed(lambda: torch.empty(2**50), GenerationRequest("a cube", 512, 512))
    assert failure.hint.startswith("Choose a model in a smaller number format,")


@pytest.mark.parametrize(
    "act",
    [
        lambda: ones(2, 2) + ones(2, 2, device="meta"),
        lambda: nn.Linear(2, 2, device="meta")(ones(2, 2)),
        lambda: ones(2, 2, device="meta").cpu(),
        lambda: nn.Linear(2, 2, device="meta").to("cpu"),
        lambda: torch.randn(2, generator=torch.Generator("cpu"), device="meta").cpu(),
    ],
)
def test_parts_on_two_devices(act: Callable[[], object]) -> None:
    failure = diagnosed(act)
    assert failure.kind == FailureKind.INTERNAL and "another device" in failure.message


@pytest.mark.parametrize(
    "act",
    [
        lambda: ones(2, 2) @ ones(2, 2, dtype=BF16),
        lambda: nn.Linear(2, 2, dtype=F16)(ones(2, 2)),
        lambda: nn.Conv2d(2, 2, 1, dtype=BF16)(ones(1, 2, 2, 2)),
        lambda: scaled_dot_product_attention(ones(1, 1, 2, 2), ones(1, 1, 2, 2, dtype=BF16), ones(1, 1, 2, 2)),
        lambda: layer_norm(ones(2, 2), (2,), ones(2, dtype=BF16), ones(2, dtype=BF16)),
        lambda: embedding(ones(2), ones(4, 2)),
    ],
)
def test_parts_in_two_number_formats(act: Callable[[], object]) -> None:
    failure = diagnosed(act)
    assert failure.kind == FailureKind.INTERNAL and "number formats" in failure.message


def test_layers_that_do_not_fit() -> None:
    for act in (
        lambda: nn.Linear(3, 2)(ones(2, 4)),
        lambda: ones(2, 4) + ones(2, 3),
        lambda: nn.Conv2d(3, 2, 1)(ones(1, 2, 2, 2)),
        lambda: nn.Linear(2, 2).load_state_dict({"weight": ones(3, 3), "bias": ones(2)}),
        lambda: torch.cat((ones(2, 2), ones(3, 3))),
    ):
        failure = diagnosed(act)
        assert failure.kind == FailureKind.MODEL_UNSUPPORTED and "the model 'dev'" in failure.message

    def apply_lora() -> torch.Tensor:
        return ones(2, 4) @ ones(3, 2)

    assert "A LoRA does not fit the model 'dev'" in diagnosed(apply_lora).message


def test_a_device_that_is_not_there() -> None:
    failure = diagnosed(lambda: torch.device("gpu"))
    assert failure.kind == FailureKind.DEVICE_UNUSABLE and "no device called 'gpu'" in failure.message
    assert diagnosed(lambda: ones(2, device="xpu")).message.startswith("This PyTorch was built without XPU")
    assert "without Metal" in diagnosed(lambda: ones(2, device="mps")).message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a driver here, and it works")
def test_no_driver() -> None:
    failure = diagnosed(torch.cuda.init)
    assert failure.kind == FailureKind.DEVICE_UNUSABLE
    assert "driver is not installed" in failure.message and "CPU" in failure.hint


def test_a_torch_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch tells its builds apart by whether its own library has this function."""
    monkeypatch.setattr(torch.cuda, "_initialized", False)
    monkeypatch.delattr(torch._C, "_cuda_getDeviceCount", raising=False)
    failure = diagnosed(torch.cuda.init)
    assert failure.kind == FailureKind.DEVICE_UNUSABLE
    assert "PyTorch was built without CUDA" in failure.message and "PyTorch with CUDA" in failure.hint


@contextmanager
def small_files(most: int) -> Iterator[None]:
    """No file may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def check_full(folder: Path) -> None:
    """Each library that writes files, on a disk that takes none of a million bytes."""
    values = torch.zeros(2**18)
    for act in (
        lambda: save_file({"a": values}, folder / "a.safetensors"),
        lambda: torch.save({"a": values}, folder / "a.pt"),
        lambda: values.numpy().tofile(folder / "a.npy"),
        lambda: (folder / "a").write_bytes(bytes(2**20)),
    ):
        failure = diagnosed(act)
        assert failure.kind == FailureKind.DISK_FULL and failure.message == "The disk is full.", failure
        for path in folder.iterdir():
            path.unlink()


def test_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        (disk / "rest").write_bytes(bytes(2**19))
        check_full(disk)
        # The errors hold the frames, and with them files that are open on the disk.
        gc.collect()


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    with small_files(2**16):
        check_full(tmp_path)


def test_files_that_are_cut_or_something_else(tmp_path: Path) -> None:
    whole, cut, page = (tmp_path / f"{name}.safetensors" for name in ("whole", "cut", "page"))
    save_file({"a": torch.zeros(2**10)}, whole)
    cut.write_bytes(whole.read_bytes()[:-100])
    page.write_bytes(b"<!DOCTYPE html><html>Not found</html>")
    packed = tmp_path / "cut.gguf"
    packed.write_bytes((Path(__file__).parent / "foreign" / "q8_0.gguf").read_bytes()[:-100])
    empty = tmp_path / "empty.gguf"
    empty.touch()
    old = tmp_path / "old.pth"
    old.write_bytes(pickle.dumps({"a": Path}, protocol=2))
    for act in (
        lambda: load_file(cut),
        lambda: load_file(page),
        lambda: gguf.GGUFReader(page),
        lambda: gguf.GGUFReader(packed),
        lambda: gguf.GGUFReader(empty),
        lambda: torch.load(old, weights_only=True),
    ):
        failure = diagnosed(act)
        assert failure.kind == FailureKind.MODEL_BROKEN and "Download it again" in failure.hint, failure


def test_files_that_are_not_there(tmp_path: Path) -> None:
    from diffusers import FluxTransformer2DModel

    named = diagnosed(lambda: load_file(tmp_path / "flux.safetensors"))
    assert named.kind == FailureKind.MODEL_MISSING and "flux.safetensors" in named.message
    for act in (
        lambda: FluxTransformer2DModel.from_pretrained(str(tmp_path), local_files_only=True),
        lambda: hf_hub_download("a/b", "c.json", local_files_only=True, cache_dir=tmp_path),
        lambda: (tmp_path / "config.json").read_text(),
    ):
        assert diagnosed(act).kind == FailureKind.MODEL_MISSING
    other = diagnosed(lambda: (tmp_path / "photo.png").read_bytes())
    assert other.kind == FailureKind.BAD_REQUEST and other.message == "The file photo.png is not there."


def test_a_folder_that_is_closed() -> None:
    """In a process without root's powers, which no folder is closed to."""
    code = "import os; os.getuid() or os.setuid(65534); open('/etc/grisaille', 'w')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "PermissionError" in done.stderr
    failure = diagnosed(
        lambda: (_ for _ in ()).throw(PermissionError(errno.EACCES, "Permission denied", "/etc/grisaille"))
    )
    assert failure.kind == FailureKind.NOT_WRITABLE and failure.message == "The file grisaille may not be used."


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does for a repository whose licence has to be accepted."""

    def do_GET(self) -> None:
        self.send_response(403 if "authorization" in self.headers else 401)
        if "gated" in self.path:
            self.send_header("X-Error-Code", "GatedRepo")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_model_that_is_gated(hub: str) -> None:
    def ask(path: str, **headers: str) -> Failure:
        with httpx2.Client(trust_env=False) as client:
            answer = client.get(f"{hub}/{path}/resolve/main/model.gguf", headers=headers)
        return diagnosed(lambda: hf_raise_for_status(answer))

    stranger = ask("someone/gated-model")
    assert stranger.kind == FailureKind.ACCESS_DENIED
    assert "someone/gated-model" in stranger.message and "there is no token" in stranger.message
    assert "Accept the licence" in stranger.hint and "HF_TOKEN" in stranger.hint
    known = ask("someone/gated-model", authorization="Bearer hf_aaaaaaaaaaaaaaaa")
    assert known.kind == FailureKind.ACCESS_DENIED and "the owner of this token has not" in known.message
    assert "hf_aaaaaaaaaaaaaaaa" not in known.detail


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
def test_a_process_that_was_killed() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    child.kill()
    code = child.wait()
    assert child.stdin is not None
    child.stdin.close()
    assert code == -9

    def act() -> None:
        raise subprocess.CalledProcessError(code, child.args)

    failure = diagnosed(act)
    assert failure.kind == FailureKind.BACKEND_DIED
    assert failure.message.startswith(f"The process was killed on the way to {PICTURE}")
    assert "1440 x 720" in failure.hint


def test_a_library_that_is_not_installed() -> None:
    failure = diagnosed(lambda: __import__("no_such_library"))
    assert failure.kind == FailureKind.BACKEND_NOT_FOUND and "no_such_library" in failure.message


def test_what_an_error_was_raised_from_is_recognised() -> None:
    def act() -> None:
        try:
            torch.empty(2**50)
        except RuntimeError as error:
            raise ValueError("loading failed") from error

    assert diagnosed(act).kind == FailureKind.OUT_OF_MEMORY

    def ours() -> None:
        try:
            raise FailureError.of(FailureKind.MODEL_MISSING, "It is not there.", "Download it.", "Traceback")
        finally:
            json.loads("{")

    assert diagnosed(ours).message == "It is not there."


def test_what_is_not_known_is_not_guessed() -> None:
    for error in (ValueError("x"), RuntimeError("mat1 and mat2"), KeyError("weight"), OSError(errno.EIO, "I/O error")):
        failure = diagnose_generation_failure(error, REQUEST)
        assert failure.kind == FailureKind.INTERNAL and type(error).__name__ in failure.message


def test_a_failure_from_another_process_learns_from_the_request() -> None:
    general = Failure(
        FailureKind.OUT_OF_MEMORY, "The computer has too little main memory for this picture.", "Wait.", "d"
    )
    assert diagnose_generation_failure(general) is general
    particular = diagnose_generation_failure(general, REQUEST)
    assert PICTURE in particular.message and particular.detail == "d"
    assert diagnose_generation_failure(particular, REQUEST) is particular
    other = Failure(FailureKind.MODEL_MISSING, "It is not there.", "Download it.")
    assert diagnose_generation_failure(other, REQUEST) is other
