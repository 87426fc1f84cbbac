"""What a text looks like that tells whose it is: prompts, tokens, addresses and folders, as patterns."""

from __future__ import annotations

import re

KNOWN_HOSTS = ("huggingface.co", "hf.co", "github.com", "pytorch.org", "nvidia.com", "python.org", "localhost")
FIELD = r"(?:negative[_-])?prompt(?:_2|s)?"
QUOTED = r"(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
LISTED = rf"\[\s*{QUOTED}(?:\s*,\s*{QUOTED})*\s*\]"
SECRET_FIELD = r"[\w-]*(?:token|secret|passw(?:or)?d|api[_-]?key|authorization|cookie|credential)s?"
BYTE = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_HOSTS = "|".join(map(re.escape, KNOWN_HOSTS))
_I = re.IGNORECASE

PROMPTS = (
    # "prompt": "a cat", prompt='a cat', prompts=["a cat", "a dog"], prompt = a cat, --prompt "a cat"
    (
        re.compile(rf"(['\"]?\b{FIELD}['\"]?\s*[=:]\s*)(?:{QUOTED}|{LISTED})", _I | re.DOTALL),
        r"\1<prompt>",
    ),
    (re.compile(rf"(--{FIELD}(?:=|\s+))(?:{QUOTED}|[^\n]+?(?=\s--|\n|$))", _I), r"\1<prompt>"),
    (re.compile(rf"(\b{FIELD}\b\s*[:=]\s*)(?![<'\"\[\s])[^\n]+", _I), r"\1<prompt>"),
    (re.compile(rf"(\b(?:GenerationRequest|quick_generate)\(\s*){QUOTED}"), r"\1<prompt>"),
)
SECRETS = (
    (re.compile(r"\bhf_[A-Za-z0-9]{6,}"), "<token>"),
    (re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|sk-|xox[abpr]-|AKIA)[A-Za-z0-9_-]{10,}"), "<token>"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*"), "<token>"),
    (re.compile(r"(\b(?:bearer|basic)\s+)[\w.~+/=-]{6,}", _I), r"\1<token>"),
    (
        re.compile(
            rf"(\b{SECRET_FIELD}['\"]?\s*[=:]\s*['\"]?)(?!<|bearer\b|basic\b|\d+\b(?![\w-]))[^\s'\",;}}]{{3,}}", _I
        ),
        r"\1<token>",
    ),
    (re.compile(r"([?&][\w.-]+=)[^&\s'\"]+"), r"\1<value>"),
    # The door's secret is 64 digits; what is as long may be one.
    (re.compile(r"\b[0-9a-f]{32,}\b", _I), "<digits>"),
)
ADDRESSES = (
    (re.compile(r"(\b\w+://)[^/\s@'\"]*@", _I), r"\1"),
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "<e-mail>"),
    (re.compile(r"\b(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b", _I), "<address>"),
    (re.compile(r"(?<![\w:.])(?:[0-9a-f]{1,4}:){4,7}[0-9a-f]{1,4}(?![\w:])", _I), "<address>"),
    (re.compile(rf"(?<![\w.])(?!127\.0\.0\.1\b|0\.0\.0\.0\b)(?:{BYTE}\.){{3}}{BYTE}(?![\w.])"), "<address>"),
    (re.compile(rf"(\bhttps?://)(?!(?:[\w-]+\.)*(?:{_HOSTS})\b|127\.0\.0\.1|<)[^/\s:'\"]+", _I), r"\1<host>"),
)
PART = r"[^\s/\\'\",;:<>()\[\]|]+"
WORDS = rf"{PART}(?: (?!~){PART}){{0,6}}"
FILE = rf"{PART}(?:(?: {PART}){{0,6}}\.(?:blend|png|exr|jpe?g|webp|safetensors|gguf|json|py|log|toml|txt))?"
PATHS = (
    re.compile(r"(?P<quote>['\"])(?P<path>(?:file://)?(?:/|~|[A-Za-z]:[\\/]|\\\\)[^'\"\n]*[\\/][^'\"\n]*)(?P=quote)"),
    re.compile(rf"(?<![\w.<>/:~\\-])(?P<path>(?:file://)?(?:/{WORDS}(?=/))+/(?:{FILE})?)"),
    re.compile(rf"(?<![\w/\\])(?P<path>(?:[A-Za-z]:|\\\\{PART})(?:[\\/]+{WORDS}(?=[\\/]))*[\\/]+(?:{FILE})?)"),
    re.compile(rf"(?<![\w<>])(?P<path>~[\w.-]*(?:/{WORDS}(?=/))*/(?:{FILE})?)"),
    # What lies below these is the user's own.
    re.compile(rf"(?<=<home>)(?P<path>(?:[\\/]+{WORDS}(?=[\\/]))*[\\/]+{FILE})"),
    re.compile(rf"(?<=<temporary>)(?P<path>(?:[\\/]+{WORDS}(?=[\\/]))*[\\/]+{FILE})"),
)
"""Folders and files by their whole path, quoted or not, with spaces in them where what follows shows it."""
SYSTEM = ("/dev/", "/proc/", "/sys/", "/usr/lib/", "/usr/bin/", "/lib/", "/lib64/", "/etc/ld.so")
"""Folders that every machine has."""
OWN_CODE = re.compile(r"(File \"[^\"\n]*<path>[^\"\n]*\", line \d+, in )[^\n]*\n[ ]+[^\n]+")
"""A line of the user's own script in a traceback: it may hold a prompt in any form."""


def without_path(match: re.Match[str]) -> str:
    """For `re.sub` with one of PATHS: the path's ending is left, since it says what kind of file it is."""
    path = match["path"]
    if path.startswith(SYSTEM) or "<" in path:
        return match[0]
    ending = re.search(r"\.[A-Za-z0-9]{1,12}$", path)
    slash = "/" if match[0] == path and path[0] in "/\\" and match.re in PATHS[-2:] else ""
    return match[0].replace(path, f"{slash}<path>{ending[0] if ending else ''}")
