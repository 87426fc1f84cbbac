"""Takes out of a text what says whose it is: names, folders, prompts, tokens, machines."""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
import socket
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from .redact_rules import ADDRESSES, OWN_CODE, PATHS, PROMPTS, SECRETS, without_path

ROOT = Path(__file__).resolve().parent.parent.parent
NOBODYS_NAMES = {
    "root", "user", "admin", "administrator", "runner", "ubuntu", "home", "localhost", "python", "host", "path",
    "token", "prompt", "models", "data", "temporary", "packages", "grisaille", "address", "blender",
}  # fmt: skip
"""Names that many have, and that are words of a report: a hundred `<user>` would hide what it says."""
SECRET_VARIABLE = re.compile(r"TOKEN|SECRET|PASSW|API_?KEY|_KEY$|CREDENTIAL|COOKIE|AUTH", re.IGNORECASE)
SECRET_SHORTEST = 6
PROMPT_SHORTEST, LINE_SHORTEST = 3, 12
"""Letters. A shorter prompt, or line of one, is a word that anyone may use."""
USER_VARIABLES = ("USER", "LOGNAME", "USERNAME", "SUDO_USER", "LNAME")
HOST_VARIABLES = ("HOSTNAME", "COMPUTERNAME", "HOST")
FOLDER_VARIABLES = ("HOME", "USERPROFILE")
_PATH_FLAGS = re.IGNORECASE if os.name == "nt" else re.NOFLAG


@dataclass(frozen=True)
class Redactor:
    """Knows this user, this machine and these prompts, and takes them out of texts.

    places: folders and the word that stands for each; what lies below one keeps its path from there, but for the home
    and the temporary folder. prompts: texts that users have written. names: of users and machines, and what stands for
    them. secrets: taken out wherever they are.
    """

    places: tuple[tuple[str, str], ...] = ()
    prompts: tuple[str, ...] = ()
    names: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of_this_machine(
        cls,
        prompts: Iterable[str] = (),
        places: Mapping[str, Path] | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> Redactor:
        """places: more folders, by the word that stands for each: "models", "data"."""
        secrets = {value for name, value in environment.items() if SECRET_VARIABLE.search(name)}
        known = {text.strip() for text in prompts if len(text.strip()) >= PROMPT_SHORTEST}
        return cls(
            tuple(_places(places or {}, environment)),
            tuple(sorted(known, key=len, reverse=True)),
            tuple(_names(environment)),
            tuple(sorted((text for text in secrets if len(text) >= SECRET_SHORTEST), key=len, reverse=True)),
        )

    def clean(self, text: str) -> str:
        """The text without what it should not tell."""
        for secret in self.secrets:
            text = text.replace(secret, "<token>")
        for prompt in self.prompts:
            for form in _forms(prompt):
                text = text.replace(form, "<prompt>")
        for folder, word in self.places:
            text = re.sub(rf"{re.escape(folder)}(?![\w.-])", f"<{word}>", text, flags=_PATH_FLAGS)
        for pattern, told in (*PROMPTS, *SECRETS, *ADDRESSES):
            text = pattern.sub(told, text)
        for pattern in PATHS:
            text = pattern.sub(without_path, text)
        text = OWN_CODE.sub(r"\1<name>\n    <code>", text)
        for name, word in self.names:
            domain = r"(?:\.[\w-]+)*" if word == "host" else ""
            text = re.sub(rf"(?<![^\W_]){re.escape(name)}(?![^\W_]){domain}", f"<{word}>", text, flags=re.IGNORECASE)
        return text


def _forms(prompt: str) -> list[str]:
    """How a prompt may stand in a log: as it is, as JSON and Python write it, whole and line by line."""
    whole = [prompt, *(json.dumps(prompt, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))]
    whole += [repr(prompt)[1:-1], ascii(prompt)[1:-1]]
    lines = [line.strip() for line in prompt.splitlines() if len(line.strip()) >= LINE_SHORTEST]
    return list(dict.fromkeys((*whole, *lines)))


def _places(more: Mapping[str, Path], environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """The deepest folders first, so that what lies below two of them is told from the nearer one."""
    found = {tempfile.gettempdir(): "temporary", str(Path.home()): "home"}
    found |= {environment[name]: "home" for name in FOLDER_VARIABLES if environment.get(name)}
    found |= {path: "packages" for path in sys.path if path.endswith("site-packages")}
    found |= dict.fromkeys((sys.prefix, sys.base_prefix, sys.exec_prefix), "python") | {str(ROOT): "grisaille"}
    for word, folder in more.items():
        found |= dict.fromkeys((str(folder), str(folder.absolute()), os.path.realpath(folder)), word)
    forms = {form: word for folder, word in found.items() for form in (folder, folder.replace("\\", "\\\\"))}
    return sorted(((folder, word) for folder, word in forms.items() if len(folder) > 3), key=lambda item: -len(item[0]))


def _names(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    users = {environment.get(name, "") for name in USER_VARIABLES} | {Path.home().name}
    users |= {Path(environment.get(name, "")).name for name in FOLDER_VARIABLES}
    with suppress(Exception):  # Windows and containers know their user by other means, or not at all.
        users.add(getpass.getuser())
    with suppress(ImportError, KeyError, AttributeError):
        import pwd

        users.add(pwd.getpwuid(os.getuid()).pw_gecos.split(",")[0])
    hosts = {socket.gethostname(), platform.node(), *(environment.get(name, "") for name in HOST_VARIABLES)}
    hosts |= {host.split(".")[0] for host in hosts}
    found = {(name, "user") for name in users} | {(name, "host") for name in hosts}
    fit = [(name, word) for name, word in found if len(name) > 1 and name.lower() not in NOBODYS_NAMES]
    return sorted(fit, key=lambda item: -len(item[0]))
