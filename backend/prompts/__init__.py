"""Prompts: wildcards, weights, styles, enhancement, and what the text encoders read of them. Standard library only."""

from .budget import Reader
from .prepare import FinalPrompt, prepare
from .templates import TEMPLATES, PromptParts, from_template
from .weights import Weighted

__all__ = ["TEMPLATES", "FinalPrompt", "PromptParts", "Reader", "Weighted", "from_template", "prepare"]
