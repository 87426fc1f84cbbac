"""A report for bug trackers: nothing that was planted, in any place where it can occur, is in it."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from backend.diagnostics import Finding, bug_report
from backend.diagnostics.redact import Redactor
from backend.wire import Control, FailureError, FailureKind, GenerationRequest, GenerationResult, stored

PROMPT = 'a marzipan "dragon" over Lüneburg'
OLD_PROMPT = "the secret rabbit\nof a client"
NEGATIVE = "no purple walruses"
TOKEN = "hf_QwErTyUiOpAsDfGh"
SECRET = "correct-horse-battery"
DOOR = "0123456789abcdef" * 4
PLANTED = (
    "jdoe", "Lüneburg", "marzipan", "rabbit", "walrus", TOKEN, SECRET, DOOR, "ws12", "studio.example", "ACME",
    "10.20.30.40", "jane@", "hunter2",
)  # fmt: skip
ENVIRONMENT = {
    "USER": "jdoe",
    "HOME": "/home/jdoe",
    "HOSTNAME": "ws12.studio.example",
    "HF_TOKEN": TOKEN,
    "RENDER_FARM_PASSWORD": SECRET,
    "GRISAILLE_MODELS": "/home/jdoe/ACME/models",
    "LD_LIBRARY_PATH": "/opt/ACME/lib",
}


@pytest.fixture
def someone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of someone on a machine of a studio's."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def check_nobody(text: str) -> None:
    assert [word for word in PLANTED if word.lower() in text.lower()] == [], text


def write_data(folder: Path, log: str) -> Path:
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "backend.log").write_text(log)
    (folder / "logs" / "backend.stderr.log").write_text(f"Fatal error in /home/jdoe/ACME/a b.blend: {OLD_PROMPT}\n")
    job_id, results = uuid.uuid4().hex, folder / "results"
    result = GenerationResult(GenerationRequest(OLD_PROMPT, negative_prompt=NEGATIVE), b"png")
    stored.write(stored.prepare(results, job_id), job_id, result, {})
    return folder


def failed_in_a_users_script(folder: Path) -> Exception:
    """An error whose traceback goes through a file of the user's, with the prompt in its lines."""
    script = folder / "ACME" / "paint.py"
    script.parent.mkdir()
    script.write_text("def paint(jdoe):\n    raise ValueError('marzipan' 'in /home/jdoe/ACME/x.blend')\n")
    names: dict[str, object] = {}
    exec(compile(script.read_text(), str(script), "exec"), names)
    with pytest.raises(ValueError) as raised:
        names["paint"](1)  # type: ignore[operator]
    raised.value.args = (f"the client's /mnt/ACME/walrus/x.blend, {TOKEN}",)
    return raised.value


def test_a_report_names_nobody(someone: None, tmp_path: Path) -> None:
    log = "\n".join((
        "2026-11-24 12:00:00,123 4711 INFO grisaille.production: loading /home/jdoe/ACME/models/flux on cuda",
        f"2026-11-24 12:00:01 ERROR x: prompt={PROMPT!r} Authorization: Bearer {TOKEN}",
        f"the secret is {DOOR}; {OLD_PROMPT!r}; http://jane:hunter2@proxy.studio.example:3128/?token=abcdef",
        f"ws12 (10.20.30.40) jane@studio.example password={SECRET}",
        "C:\\Users\\jdoe\\ACME\\x.blend, \\\\ws12\\ACME\\y.png",
        f"made 64 x 64, 4 steps, {SECRET}",
    ))  # fmt: skip
    data = write_data(tmp_path / "jdoe" / "data", log)
    request = GenerationRequest(PROMPT, negative_prompt=NEGATIVE, controls=(Control("depth"),), width=512)
    models = tmp_path / "jdoe" / "models"
    findings = [
        Finding("models folder", True, f"{models} can be read."),
        Finding(
            "model x", False, "It is cut off.", values={"detail": f"{models}/x/vae.safetensors: /home/jdoe/ACME/l.so"}
        ),
    ]
    error = failed_in_a_users_script(tmp_path / "jdoe")
    report = bug_report(findings, error, request, models_folder=models, data_folder=data)
    check_nobody(report)
    for kept in (
        "# Grisaille", "<models> can be read", "<models>/x/vae.safetensors", "width = 512", "'depth'", "ValueError",
        ".blend", "made 64 x 64, 4 steps", "2026-11-24 12:00:00,123 4711 INFO grisaille.production: loading",
    ):  # fmt: skip
        assert kept in report, report


def test_a_failure_and_its_request_are_in_the_report(someone: None) -> None:
    error = FailureError.of(
        FailureKind.MODEL_BROKEN, "The model's file vae is cut off.", "Download it again.", "/home/jdoe/a/b"
    )
    report = bug_report(error=error, request=GenerationRequest(PROMPT))
    assert "model_broken: The model's file vae is cut off." in report and "steps = 20" in report
    assert "prompt" not in report
    check_nobody(report)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/home/jdoe/x y/My Scene.blend cannot be read", "<home>/<path>.blend cannot be read"),
        ("cannot open '/srv/ACME/a b/c.exr' now", "cannot open '<path>.exr' now"),
        ("~/ACME/x.blend and ~jdoe/y.blend", "<path>.blend and <path>.blend"),
        ("file:///srv/ACME/x.png", "<path>.png"),
        ("C:\\Users\\jdoe\\ACME\\x.blend is bad", "<path>.blend is bad"),
        ('"C:\\\\Users\\\\jdoe\\\\x.blend"', '"<path>.blend"'),
        ("\\\\ws12\\ACME\\a b\\c.png", "<path>.png"),
        ('"prompt": "a \\"b\\" dog", "width": 3', '"prompt": <prompt>, "width": 3'),
        ("GenerationRequest(prompt='a', negative_prompt=\"it's\", width=64)",
         "GenerationRequest(prompt=<prompt>, negative_prompt=<prompt>, width=64)"),
        ('generate --prompt "a b" --seed 3', "generate --prompt <prompt> --seed 3"),
        ("prompts=['a', \"b\"], steps=3", "prompts=<prompt>, steps=3"),
        ("prompt: a dog\nnext", "prompt: <prompt>\nnext"),
        (f"token {TOKEN}.", "token <token>."),
        (f"HF_TOKEN={SECRET}x", "HF_TOKEN=<token>x"),
        ("ws12.studio.example said", "<host> said"),
        ("user JDoe, group jdoe_all", "user <user>, group <user>_all"),
        ("10.20.30.40 but 127.0.0.1, driver 610.57", "<address> but 127.0.0.1, driver 610.57"),
        ("aa:bb:cc:dd:ee:ff at 12:30:45", "<address> at 12:30:45"),
        ("https://user:hunter2@huggingface.co/a/b?sig=abc", "https://huggingface.co/a/b?sig=<value>"),
    ],
)  # fmt: skip
def test_what_is_taken_out_and_what_stays(text: str, told: str) -> None:
    assert Redactor.of_this_machine(environment=ENVIRONMENT).clean(text) == told


def test_plain_sentences_stay_as_they_are() -> None:
    """What a report is for must be readable."""
    text = (
        "ok   attention: flash, math on cpu.\n2026-11-24 12:00:00 made 64 x 64, 1/2 of a/b, and/or.\n"
        "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0.\nThe prompt is empty. Tokens: 512.\n"
        "/usr/lib/libcuda.so.1, /dev/nvidia0, torch 2.15.0+cu132, sm_90, https://huggingface.co/someone/model\n"
    )
    assert Redactor.of_this_machine(environment=ENVIRONMENT).clean(text) == text


def test_a_prompt_in_any_form() -> None:
    redactor = Redactor.of_this_machine([PROMPT, OLD_PROMPT, "a"], environment={})
    for form in (
        PROMPT,
        repr(PROMPT),
        PROMPT.replace('"', '\\"'),
        OLD_PROMPT,
        repr(OLD_PROMPT),
        "the secret rabbit\\nof a client",
    ):
        cleaned = redactor.clean(f"before {form} after")
        check_nobody(cleaned)
        assert cleaned.startswith("before") and cleaned.endswith("after")
    assert redactor.clean("a cat") == "a cat", "a prompt of one letter is no name"
