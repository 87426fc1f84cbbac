"""Grisaille's inference backend: a process of its own, and a library for scripts. Importing it loads neither torch nor
numpy; what it offers by name is loaded when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .diagnostics import bug_report, diagnose_generation_failure, run_full_diagnostic
    from .models.settings import CONTROLNETS, MODEL_VARIANTS, PIPELINE_SETTINGS, RECOMMENDED_SAMPLING
    from .outputs import read_maps, read_request, save_picture
    from .pipeline import create_production_pipeline, quick_generate
    from .prompts import TEMPLATES, PromptParts, from_template
    from .wire import Control, ControlMaps, Failure, FailureError, GenerationRequest, GenerationResult, LoRA
    from .wire.few_steps import FEW_STEPS, with_few_steps
    from .wire.styles import STYLES

__version__ = "0.1.0"
__all__ = [
    "CONTROLNETS",
    "FEW_STEPS",
    "MODEL_VARIANTS",
    "PIPELINE_SETTINGS",
    "RECOMMENDED_SAMPLING",
    "STYLES",
    "TEMPLATES",
    "Control",
    "ControlMaps",
    "Failure",
    "FailureError",
    "GenerationRequest",
    "GenerationResult",
    "LoRA",
    "PromptParts",
    "bug_report",
    "create_production_pipeline",
    "diagnose_generation_failure",
    "from_template",
    "quick_generate",
    "read_maps",
    "read_request",
    "run_full_diagnostic",
    "save_picture",
    "with_few_steps",
]
_PLACES = {
    "create_production_pipeline": ".pipeline",
    "quick_generate": ".pipeline",
    "bug_report": ".diagnostics",
    "diagnose_generation_failure": ".diagnostics",
    "run_full_diagnostic": ".diagnostics",
    "PromptParts": ".prompts",
    "TEMPLATES": ".prompts",
    "from_template": ".prompts",
    "STYLES": ".wire.styles",
    "read_maps": ".outputs",
    "read_request": ".outputs",
    "save_picture": ".outputs",
    "CONTROLNETS": ".models.settings",
    "FEW_STEPS": ".wire.few_steps",
    "with_few_steps": ".wire.few_steps",
    "MODEL_VARIANTS": ".models.settings",
    "PIPELINE_SETTINGS": ".models.settings",
    "RECOMMENDED_SAMPLING": ".models.settings",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES.get(name, ".wire"), __name__), name)
