"""The diagnosis of a machine: what works is said, and what is broken, for real, is named with the next step."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from backend.diagnostics import Finding, run_full_diagnostic
from backend.diagnostics.finding import MARKS, PLAIN_MARKS, marks_for
from backend.diagnostics.folders import writable
from backend.diagnostics.models import model
from backend.diagnostics.tries import run
from backend.wire import FailureError
from tests.disks import small_disk

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = "random-weights"
SUBJECTS = [
    "python", "libraries", "torch", "driver", "device", "memory", "attention", "compile", "disk", "models folder",
    "data folder", "temporary folder", "socket", f"model {MODEL}", "model sample", f"run {MODEL}", "run sample",
]  # fmt: skip
"""A program may ask for each of them by name."""
KEYS = {"subject", "works", "said", "hint", "is_needed", "is_skipped", "values"}


def found(findings: list[Finding], subject: str) -> Finding:
    return next(finding for finding in findings if finding.subject == subject)


def diagnose(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The command, as a user calls it."""
    command = [sys.executable, "-m", "backend", "diagnose", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False, env={**os.environ, **environment})


def test_a_healthy_machine(models_folder: Path, tmp_path: Path) -> None:
    told: list[str] = []
    findings = run_full_diagnostic(
        models_folder, "cpu", data_folder=tmp_path / "data", on_finding=lambda finding: told.append(finding.subject)
    )
    assert [finding.subject for finding in findings] == told == SUBJECTS
    assert not [finding for finding in findings if finding.is_fault], findings
    assert all(finding.said.endswith(".") and "\n" not in finding.line() for finding in findings)
    assert found(findings, "attention").values == {"backends": ["sdpa"], "used": "sdpa"}
    assert found(findings, "memory").values["host_free"] > 0
    painted = found(findings, f"run {MODEL}")
    assert painted.values["seconds"] > 0 and painted.values["peak_memory"] > 0 and "64 x 64 pixels" in painted.said
    files = found(findings, f"model {MODEL}")
    assert files.values["faults"] == [] and files.values["files"] > 10 and "all whole" in files.said
    assert not list((tmp_path / "data" / "run").iterdir()), "the socket is gone"
    assert [path for path in (tmp_path / "data").iterdir() if path.is_file()] == []


def test_the_command_says_it_in_lines_and_in_json(models_folder: Path, tmp_path: Path) -> None:
    """One of them in a terminal that knows nothing but ASCII, and none of them paints."""
    folder = tmp_path / "Modèle ✓"
    shutil.copytree(models_folder, folder)
    (folder / "bad").mkdir()
    (folder / "bad" / "model.json").write_text("{")
    options = ("--models", folder, "--device", "cpu", "--quick")
    plain = diagnose(*options, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    lines = plain.stdout.decode("ascii").splitlines()
    assert plain.returncode == 1, plain.stderr
    assert "FAIL model bad: The description of the model 'bad' cannot be read. Download the model again." in lines
    assert [line for line in lines if line.startswith("skip run")] and "Mod\\xe8le" in plain.stdout.decode()
    done = diagnose(*options, "--json", PYTHONIOENCODING="cp1252")
    told = json.loads(done.stdout)
    assert (done.returncode, told["format"], told["works"]) == (1, 1, False)
    assert set(told) == {"format", "works", "findings", "report"}
    assert all(set(finding) == KEYS for finding in told["findings"])
    assert {finding["subject"] for finding in told["findings"]} >= set(SUBJECTS) - {"data folder"}
    assert str(folder) not in told["report"] and "<models>" in told["report"]


def test_a_terminal_that_can_write_marks_gets_them(models_folder: Path) -> None:
    done = diagnose("--models", models_folder, "--device", "cpu", "--quick", PYTHONIOENCODING="utf-8")
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0 and lines and all(line[0] in "✓-" for line in lines), lines
    assert marks_for("utf-8") == MARKS and marks_for("cp1252") == marks_for("ascii") == marks_for(None) == PLAIN_MARKS


def test_the_report_names_no_folder(models_folder: Path, tmp_path: Path) -> None:
    done = diagnose("--models", models_folder, "--data", tmp_path, "--device", "cpu", "--quick", "--report")
    report = done.stdout.decode()
    assert done.returncode == 0 and report.startswith("# Grisaille") and f"ok   model {MODEL}" in report
    assert str(models_folder) not in report and str(tmp_path) not in report


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("transformer.gguf", "transformer.gguf is cut off"),
        ("vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors is cut off"),
        ("controlnet/diffusion_pytorch_model.safetensors", "controlnet/diffusion_pytorch_model.safetensors is cut off"),
        ("text_encoder_2/config.json", "text_encoder_2/config.json is damaged"),
        ("tokenizer_2/tokenizer.json", "tokenizer_2"),
        ("scheduler/scheduler_config.json", "scheduler"),
    ],
)
def test_a_file_that_is_cut_off_or_missing(own_models_folder: Path, part: str, said: str) -> None:
    path = own_models_folder / MODEL / part
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    cut = model(own_models_folder, MODEL)
    assert not cut.works and said in cut.said and "ownload" in cut.hint, cut
    path.unlink()
    gone = model(own_models_folder, MODEL)
    assert not gone.works and "is not there" in gone.said and gone.values["faults"][0]["kind"] == "model_missing"
    path.write_bytes(whole)
    assert model(own_models_folder, MODEL).works


def test_every_fault_of_a_model_is_named(own_models_folder: Path) -> None:
    folder = own_models_folder / MODEL
    for part in ("vae", "text_encoder", "controlnet", "text_encoder_2"):
        (folder / part / "config.json").write_text("[]")
    finding = model(own_models_folder, MODEL)
    named = [fault["message"].split("/")[0] for fault in finding.values["faults"]]
    assert [name.rpartition(" ")[2] for name in named] == ["vae", "text_encoder", "text_encoder_2", "controlnet"]
    assert "And 1 more." in finding.said


def test_shards_that_are_not_complete(own_models_folder: Path) -> None:
    vae = own_models_folder / MODEL / "vae"
    [path] = vae.glob("*.safetensors")
    state = load_file(path)
    path.unlink()
    names = sorted(state)
    shards = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: state[name] for name in held}, vae / shard)
    index = {"weight_map": {name: shard for shard, held in shards.items() for name in held}}
    (vae / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    assert model(own_models_folder, MODEL).works
    save_file({name: state[name] for name in names[1:-2:2]}, vae / "two.safetensors")
    assert "weights that its files do not hold" in model(own_models_folder, MODEL).said
    (vae / "two.safetensors").unlink()
    assert "vae/two.safetensors is not there" in model(own_models_folder, MODEL).said


def test_each_family_paints_a_step(families_folder: Path) -> None:
    """What it takes (a map, a hole, a picture to edit) is made for it."""
    tasks = {}
    for name in ("random-depth-dev", "random-fill-dev", "random-kontext-dev"):
        finding = run(families_folder, name, "cpu")
        assert finding.works, finding
        tasks[name] = finding.values["task"]
    assert tasks["random-fill-dev"] == "inpaint" and tasks["random-depth-dev"] == "text_to_image"


def test_a_model_that_cannot_paint(own_models_folder: Path) -> None:
    [path] = (own_models_folder / MODEL / "vae").glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(FailureError, match="vae"):
        run(own_models_folder, MODEL, "cpu")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
def test_a_try_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from backend.diagnostics import tries
    from backend.diagnostics.finding import look

    (tmp_path / "victim.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    (tmp_path / "mute.py").write_text("print('{\"other\": 1}')\n")
    monkeypatch.setattr(tries, "ROOT", tmp_path)

    def tried(module: str) -> Finding:
        return look("run x", lambda: Finding("run x", True, str(tries._told(module, {}))))

    killed, mute = tried("victim"), tried("mute")
    assert not killed.works and "was killed" in killed.said and "memory" in killed.said and killed.hint
    assert not mute.works and "exit code 0" in mute.said


def test_a_models_folder_that_is_not_there(tmp_path: Path) -> None:
    findings = run_full_diagnostic(tmp_path / "nowhere", "cpu", quick=True)
    folder, sample = found(findings, "models folder"), found(findings, "model sample")
    assert folder.is_fault and "is not there" in folder.said and not sample.is_fault


def test_a_device_that_cannot_be_used(models_folder: Path) -> None:
    findings = run_full_diagnostic(models_folder, "cuda:7", quick=True)
    for subject in ("device", "memory", "attention"):
        finding = found(findings, subject)
        assert finding.is_fault and finding.hint and finding.values["kind"] == "device_unusable"


DRIVER = """
int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 11040; return 0; }
int cuGetProcAddress(const char *name, void **found, int version, unsigned long long flags) { *found = 0; return 500; }
int cuGetProcAddress_v2(const char *name, void **found, int version, unsigned long long flags, int *status)
{ *found = 0; return 500; }
"""
"""NVIDIA's driver, as far as torch asks it: one that knows CUDA 11.4."""
ASK = """
import json, torch
from backend.diagnostics import diagnose_generation_failure
from backend.diagnostics.machine import driver, why_no_card
try:
    torch.cuda.init()
except Exception as error:
    failure = diagnose_generation_failure(error)
print(json.dumps({"failure": failure.to_json(), "driver": driver("auto").to_json(), "why": why_no_card()}))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None,
    reason="builds a library for Linux in the place of NVIDIA's driver, with a C compiler",
)
def test_a_driver_that_is_too_old(tmp_path: Path) -> None:
    """torch itself says so, of a driver that is a few lines of C."""
    import torch

    if torch.version.cuda is None:
        pytest.skip("this torch asks no driver of NVIDIA's")
    (tmp_path / "driver.c").write_text(DRIVER)
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-w", "-o", library, tmp_path / "driver.c"], check=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", ASK], cwd=ROOT, env=environment, capture_output=True, check=False)
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["failure"]["kind"] == "device_unusable"
    for message in (told["failure"]["message"], told["why"]):
        wanted = f"is too old for this PyTorch, which needs CUDA {torch.version.cuda}."
        assert message == f"The NVIDIA driver (CUDA 11.4) {wanted}"
    assert not told["driver"]["works"] and "11.4" in told["driver"]["said"]
    assert "newer driver" in told["driver"]["hint"] and "newer driver" in told["failure"]["hint"]


def test_a_data_folder_on_a_full_disk(tmp_path: Path, models_folder: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        (disk / "rest").write_bytes(bytes(2**20 - 2**14))
        findings = run_full_diagnostic(models_folder, "cpu", data_folder=disk, quick=True)
    folder, free = found(findings, "data folder"), found(findings, "disk")
    assert folder.is_fault and "is full" in folder.said and "Free some space" in folder.hint
    assert free.is_fault and free.values["pictures_free"] < 2**20


CLOSED = """
import os, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from backend.diagnostics.finding import look
from backend.diagnostics.folders import writable
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
print(look("data folder", lambda: writable("data folder", Path({folder!r}))))
"""


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no folder that its owner may not write to")
def test_a_folder_that_cannot_be_written() -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    source = CLOSED.format(root=str(ROOT), folder=str(folder))
    done = subprocess.run([sys.executable, "-X", "utf8", "-c", source], capture_output=True, check=True, cwd="/")
    told = done.stdout.decode()
    assert told.startswith("✗ data folder") and "cannot be written to" in told and "permissions" in told
    folder.rmdir()


def test_a_folder_is_left_as_it_was(tmp_path: Path) -> None:
    assert writable("data folder", tmp_path / "new").works
    assert list((tmp_path / "new").iterdir()) == []
