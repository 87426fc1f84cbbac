"""The `parameters` text: a picture's settings as AUTOMATIC1111's web UI writes them and many tools read them.

The prompt, then a line that begins with "Negative prompt:" where there is one, then one line of "Name: value" pairs.
https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Features#png-info
"""

from __future__ import annotations

import json
from typing import Any

from ..wire import Control, GenerationRequest
from ..wire.request import has_strength, spoken

SAMPLERS = {
    "euler": "Euler",
    "heun": "Heun",
    "dpmpp_2m": "DPM++ 2M",
    "unipc": "UniPC",
    "lcm": "LCM",
    "euler_ancestral": "Euler a",
    "adaptive": "Adaptive",
}
"""Their names in those tools."""
DIGITS = 10
"""Of a model's SHA-256: what those tools look a model up by."""


def parameters_text(request: GenerationRequest, weights: dict[str, str], transformer: str, version: str) -> str:
    """The text. weights: SHA-256 in hex by file; transformer: the one of them that "Model hash" is of.

    "CFG scale" is true CFG, 1 without a negative prompt; FLUX's own guidance is "Distilled CFG Scale", as Forge says.
    """
    pairs: dict[str, Any] = {
        "Steps": request.steps,
        "Sampler": SAMPLERS.get(request.sampler, request.sampler),
        "Schedule type": request.schedule.capitalize(),
        "CFG scale": f"{request.true_cfg:g}",
        "Distilled CFG Scale": f"{request.guidance:g}",
        "Seed": request.seed,
        "Size": f"{request.width}x{request.height}",
    }
    if transformer in weights:
        pairs["Model hash"] = weights[transformer][:DIGITS]
    pairs["Model"] = request.model
    if has_strength(request.task):
        pairs["Denoising strength"] = f"{request.strength:g}"
    for index, control in enumerate(request.controls):
        pairs[f"ControlNet {index}"] = _control_text(control)
    pairs["Version"] = version
    lines = [request.prompt]
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    lines.append(", ".join(f"{name}: {_quoted(str(value))}" for name, value in pairs.items()))
    return "\n".join(lines)


def _control_text(control: Control) -> str:
    parts = {
        "Module": spoken(control.kind),
        "Weight": f"{control.strength:g}",
        "Guidance Start": f"{control.start:g}",
        "Guidance End": f"{control.end:g}",
    }
    return ", ".join(f"{name}: {value}" for name, value in parts.items())


def _quoted(value: str) -> str:
    """As it is, or as a JSON string where those tools would end it too soon."""
    return json.dumps(value, ensure_ascii=False) if any(mark in value for mark in ",:\n") else value
