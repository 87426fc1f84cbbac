"""Prompts from parts: what is shown, of what, in which light, seen how. Templates for what 3D artists paint often."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from ..wire import FailureError, FailureKind


@dataclass(frozen=True, slots=True)
class PromptParts:
    """The parts of a prompt, each free text, "" for none. style: a style in words, as "oil painting"; a style of the
    library goes in the Request's `style`.
    """

    subject: str = ""
    material: str = ""
    lighting: str = ""
    camera: str = ""
    style: str = ""

    def prompt(self) -> str:
        """One line: "STYLE of SUBJECT, made of MATERIAL, LIGHTING, CAMERA", of the parts that are there."""
        parts = {field.name: " ".join(getattr(self, field.name).split()).strip(" ,") for field in fields(self)}
        head = " of ".join(part for part in (parts["style"], parts["subject"]) if part)
        material = f"made of {parts['material']}" if parts["material"] else ""
        return ", ".join(part for part in (head, material, parts["lighting"], parts["camera"]) if part)


TEMPLATES = {
    "product": PromptParts(
        style="studio photograph", lighting="large softbox from the left", camera="85 mm lens at table height"
    ),
    "room": PromptParts(
        style="interior photograph", lighting="soft daylight through tall windows", camera="wide lens at eye level"
    ),
    "building": PromptParts(
        style="architectural photograph", lighting="low evening sun", camera="wide lens with straight verticals"
    ),
    "landscape": PromptParts(style="wide view", lighting="golden hour with long shadows", camera="distant viewpoint"),
    "character": PromptParts(style="full-body picture", lighting="soft key light and a rim light", camera="50 mm lens"),
    "portrait": PromptParts(style="portrait", lighting="window light from one side", camera="85 mm lens, close"),
    "vehicle": PromptParts(
        style="photograph", material="painted metal with clean reflections", lighting="overcast sky",
        camera="low three-quarter view",
    ),
    "creature": PromptParts(style="detailed picture", lighting="light from above", camera="near, at its eye level"),
    "prop": PromptParts(style="picture", lighting="even light on all sides", camera="three-quarter view on white"),
    "environment": PromptParts(style="establishing shot", lighting="atmospheric haze", camera="wide lens"),
    "material": PromptParts(style="close picture", lighting="raking light from the side", camera="macro lens"),
    "clay": PromptParts(style="clay render", material="plain grey clay", lighting="soft ambient light"),
}  # fmt: skip
"""By what is painted, without its subject."""


def from_template(name: str, subject: str, **parts: str) -> PromptParts:
    """The template with the subject, and other parts in the place of its own.

    parts: fields of `PromptParts`; "" leaves one out. Raises `FailureError` (bad_request) on a template or a part that
    there is not.
    """
    if name not in TEMPLATES:
        raise _unknown("template", name, list(TEMPLATES))
    known = [field.name for field in fields(PromptParts) if field.name != "subject"]
    for part in parts:
        if part not in known:
            raise _unknown("part of a prompt", part, known)
    return replace(TEMPLATES[name], subject=subject, **parts)


def _unknown(what: str, name: str, known: list[str]) -> FailureError:
    return FailureError.of(
        FailureKind.BAD_REQUEST, f"There is no {what} called {name!r}.", f"Use one of {', '.join(known)}."
    )
