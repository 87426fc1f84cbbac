"""Files: a full disk, a model's file that is missing, damaged or something else, a folder that is closed."""

from __future__ import annotations

import errno
import os
import re
from pathlib import PurePath, PureWindowsPath

from ..wire import Failure, FailureKind
from .case import Case

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_WORDS = (
    r"no space left on device",
    r"disk quota exceeded",
    # Rust's libraries write the number of a system's error like this.
    rf"\(os error ({errno.ENOSPC}|{errno.EDQUOT}|{errno.EFBIG})\)",
    r"not enough space on the disk",
    # numpy and torch do not say why a file took less than it was given.
    r"\d+ requested and \d+ written",
    r"inline_container.*unexpected pos|pytorchstreamwriter failed",
)
DAMAGED_WORDS = (
    r"error while deserializing header|incomplete metadata|metadataincompletebuffer|invalidheader|headertoo",
    r"gguf magic invalid|cannot mmap an empty file|mmap length is greater than file size",
    r"pytorchstreamreader failed|invalid load key|weights only load failed",
)
MODEL_ENDINGS = (".safetensors", ".gguf", ".json", ".model", ".txt", ".bin", ".pth", ".pt", ".ckpt", ".sft")
NAME = r"([^\s'\"]+?\.(?:safetensors|gguf|json|model|txt|bin|pth|pt|ckpt|sft))\b"


def disk_full(case: Case) -> Failure | None:
    is_full = isinstance(case.error, OSError) and case.error.errno in FULL
    if not is_full and not case.says(*FULL_WORDS):
        return None
    return case.failure(FailureKind.DISK_FULL, "The disk is full.", "Free some space and try again.")


def damaged(case: Case) -> Failure | None:
    """What the libraries say of a file that was cut off, or is not what its name says."""
    # The reader of gguf takes the numbers of a file that was cut off and stumbles over them.
    is_from_gguf = isinstance(case.error, ValueError | IndexError) and case.passed_through("gguf_reader")
    is_damaged = is_from_gguf or case.is_a("SafetensorError", "UnpicklingError") or case.says(*DAMAGED_WORDS)
    if not is_damaged:
        return None
    if case.is_a("SafetensorError") and case.says(r"no such file|\(os error 2\)"):
        return None
    name = _named(case)
    return case.failure(
        FailureKind.MODEL_BROKEN,
        f"The model's file{name} is cut off, or is not what its name says.",
        "Download it again; if it stays, it is a file of another kind.",
    )


def missing(case: Case) -> Failure | None:
    is_hub = case.is_a("EntryNotFoundError", "RevisionNotFoundError")
    words = (r"no such file or directory", r"\(os error 2\)", r"no file named", r"is not the path to a directory")
    if not isinstance(case.error, FileNotFoundError) and not is_hub and not case.says(*words):
        return None
    name = _named(case)
    if is_hub or name.endswith(MODEL_ENDINGS) or not isinstance(case.error, FileNotFoundError):
        return case.failure(
            FailureKind.MODEL_MISSING,
            f"The model's file{name} is not there.",
            "Download the model again, or choose another one.",
        )
    return case.failure(FailureKind.BAD_REQUEST, f"The file{name} is not there.", "Check its name and its folder.")


def not_permitted(case: Case) -> Failure | None:
    if not isinstance(case.error, PermissionError):
        return None
    return case.failure(
        FailureKind.NOT_WRITABLE,
        f"The file{_named(case)} may not be used.",
        "Change the folder's permissions, or choose another folder in the preferences.",
    )


def _named(case: Case) -> str:
    """The name of the file that it is about, with a space before it, without its folder; "" where none is said."""
    given = getattr(case.error, "filename", None)
    found = re.search(NAME, case.text)
    path = os.fsdecode(given) if isinstance(given, str | bytes) and given else found[1] if found else ""
    name = PureWindowsPath(path).name if "\\" in path else PurePath(path).name
    return f" {name}" if name else ""
