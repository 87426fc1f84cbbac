"""LoRAs as scripts write them, where they lie, and those that paint in few steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend.wire import Failure, FailureError, FailureKind, GenerationRequest, LoRA
from backend.wire.few_steps import FEW_STEPS, PRESETS, few_steps_of, find_few_steps, parse_loras, with_few_steps
from backend.wire.lora_files import lora_metadata, lora_names, lora_path

HYPER = "Hyper-FLUX.1-dev-8steps-lora"


def safetensors(path: Path, header: object) -> Path:
    """A file with nothing but a table."""
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    return path


def refused(text: str) -> Failure:
    with pytest.raises(FailureError) as caught:
        parse_loras(text)
    return caught.value.failure


def test_loras_in_one_line() -> None:
    assert parse_loras("woodcut:0.8, ink (v2) ,sketch:-1") == (
        LoRA("woodcut", 0.8),
        LoRA("ink (v2)", 1.0),
        LoRA("sketch", -1.0),
    )
    assert parse_loras("none") == parse_loras("") == ()
    assert parse_loras(HYPER) == (LoRA(HYPER, 0.125),), "as its makers recommend"
    assert parse_loras(f"{HYPER}:1") == (LoRA(HYPER, 1.0),)


@pytest.mark.parametrize(
    ("text", "said"), [("a:much", "'much'"), ("a:9", "is 9.0"), ("../a", "'../a'"), ("a,a", "twice"), ("a:", "''")]
)
def test_lines_that_are_refused(text: str, said: str) -> None:
    failure = refused(text)
    assert failure.kind == FailureKind.BAD_REQUEST and said in failure.message and failure.hint.endswith(".")


def test_where_loras_lie(tmp_path: Path) -> None:
    assert lora_names(tmp_path, "tiny") == [] and lora_path(tmp_path, "tiny", "ink") is None
    for place in ("loras/ink", "loras/both", "tiny/loras/both", "tiny/loras/oil", "other/loras/chalk"):
        safetensors(tmp_path / f"{place}.safetensors", {})
    (tmp_path / "loras" / "notes.txt").write_text("none")
    (tmp_path / "loras" / "folder.safetensors").mkdir()
    (tmp_path / "loras" / ".hidden.safetensors").write_text("")
    assert lora_names(tmp_path, "tiny") == ["both", "ink"], "a folder without a model.json is no model"
    for name in ("tiny", "other"):
        (tmp_path / name / "model.json").write_text("{}")
    assert lora_names(tmp_path, "tiny") == ["both", "oil", "ink"]
    assert lora_path(tmp_path, "tiny", "both") == tmp_path / "tiny" / "loras" / "both.safetensors"
    assert lora_path(tmp_path, "other", "both") == tmp_path / "loras" / "both.safetensors"
    assert lora_path(tmp_path, "tiny", "../tiny/loras/oil") is None


def test_what_a_file_says_of_itself(tmp_path: Path) -> None:
    told = {"ss_output_name": "turbo_alpha", "rank": 64}
    path = safetensors(tmp_path / "a.safetensors", {"__metadata__": told, "w": {"dtype": "F32"}})
    assert lora_metadata(path) == {"ss_output_name": "turbo_alpha", "rank": "64"}
    for header in ({}, [], {"__metadata__": 3}):
        assert lora_metadata(safetensors(tmp_path / "b.safetensors", header)) == {}
    for data in (b"", b"short", b"\xff" * 64, (1 << 60).to_bytes(8, "little")):
        (tmp_path / "c.safetensors").write_bytes(data)
        assert lora_metadata(tmp_path / "c.safetensors") == {}
    assert lora_metadata(tmp_path / "nowhere.safetensors") == {}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("FLUX.1-Turbo-Alpha", "turbo-alpha"),
        ("flux1_turbo_alpha (v2)", "turbo-alpha"),
        (HYPER, "hyper-8"),
        ("Hyper-FLUX.1-dev-16steps-lora", "hyper-16"),
        ("hyper flux 8 steps", "hyper-8"),
        ("hyper-18steps", ""),
        ("hyperreal-portraits", ""),
        ("woodcut", ""),
    ],
)
def test_few_step_loras_by_their_names(name: str, kind: str) -> None:
    assert few_steps_of(name) == kind


def test_few_step_loras_by_what_they_say_of_themselves() -> None:
    name = "diffusion_pytorch_model"
    assert few_steps_of(name) == "" and few_steps_of(name, {"modelspec.title": "FLUX.1-Turbo-Alpha"}) == "turbo-alpha"
    assert few_steps_of(name, {"comment": "Not as Turbo-Alpha"}) == ""


@pytest.mark.parametrize("kind", FEW_STEPS)
def test_their_settings_beside_a_style(kind: str) -> None:
    few = FEW_STEPS[kind]
    request = GenerationRequest("a cube", steps=30, sampler="heun", loras=(LoRA("ink", 0.6), LoRA(HYPER, 0.125)))
    fast = with_few_steps(request, "mine", kind)
    fast.check()
    assert (fast.steps, fast.guidance, fast.sampler) == (few.steps, few.guidance, few.sampler)
    assert fast.loras == (LoRA("mine", few.strength), LoRA("ink", 0.6)), "one few-step LoRA, the styles as they were"
    assert fast.prompt == "a cube" and with_few_steps(fast, "mine", kind) == fast


def test_one_that_is_no_few_step_lora_has_no_settings() -> None:
    with pytest.raises(KeyError):
        with_few_steps(GenerationRequest("a cube"), "woodcut")


def test_a_preset_finds_its_file(tmp_path: Path) -> None:
    """By its name, or by what it says of itself; a hybrid is the same file."""
    safetensors(tmp_path / "loras" / f"{HYPER}.safetensors", {})
    safetensors(tmp_path / "loras" / "fast.safetensors", {"__metadata__": {"ss_output_name": "FLUX.1-Turbo-Alpha"}})
    safetensors(tmp_path / "loras" / "ink.safetensors", {})
    for name, lora in (("hyper-8", HYPER), ("turbo-alpha", "fast")):
        assert find_few_steps(name, tmp_path, "") == (lora, name)
        assert find_few_steps(f"{name}-8bit", tmp_path, "") == (lora, f"{name}-8bit")
        assert find_few_steps(lora, tmp_path, "") == (lora, name)
    assert find_few_steps("Turbo-Alpha", tmp_path, "")[1] == "turbo-alpha", "a name that tells is enough"


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("hyper-16-8bit", FailureKind.MODEL_MISSING, "ByteDance/Hyper-SD"),
        ("ink", FailureKind.BAD_REQUEST, ", ".join(PRESETS)),
        ("../ink", FailureKind.BAD_REQUEST, "ending"),
    ],
)
def test_few_steps_that_there_are_not(tmp_path: Path, name: str, kind: FailureKind, said: str) -> None:
    safetensors(tmp_path / "loras" / "ink.safetensors", {})
    with pytest.raises(FailureError) as caught:
        find_few_steps(name, tmp_path, "")
    failure = caught.value.failure
    assert failure.kind == kind and said in failure.hint and failure.message.endswith(".")
