"""The backend from Python, without Blender and without sockets:

from backend import GenerationRequest, create_production_pipeline, quick_generate

quick_generate("a red glossy ball on a white floor").save("ball.png")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from .models import find_model, model_names
from .production import Production
from .wire import ControlMaps, Failure, FailureError, FailureKind, GenerationRequest, GenerationResult, Progress
from .wire.model_names import shipped_models

SETTINGS: dict[str, type] = {"steps": int, "guidance": float}
"""What a model's description may have defaults for."""


class ProductionPipeline:
    """One model, kept loaded between pictures."""

    def __init__(self, model: str, models_folder: Path, device: str) -> None:
        self.model = model
        self._defaults = find_model(models_folder, model).defaults
        self._production = Production(models_folder, device)

    def generate(
        self,
        request: GenerationRequest,
        maps: ControlMaps | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> GenerationResult:
        """Paints the Request with this pipeline's model, whatever the Request names.

        maps: what its controls need, of the Request's size; see `ControlMaps` for axes and units. on_progress: called
        with growing fractions below 1. is_cancelled: asked between steps. Raises `FailureError`, whose `failure` has
        one sentence and the next step.
        """
        result = self._production.run(
            replace(request, model=self.model),
            maps if maps is not None else ControlMaps(),
            on_progress=on_progress,
            on_preview=lambda picture: None,
            is_cancelled=is_cancelled,
        )
        if isinstance(result, Failure):
            raise FailureError(result)
        return result

    def show_prompt(self, request: GenerationRequest) -> GenerationResult:
        """What the Request's prompt becomes with this pipeline's model, without painting and without its weights.

        The Result's plan has the final `prompt`, `tokens` as {"T5": [count, limit], "CLIP": …}, and, where there is
        something to say, a `note`. Raises `FailureError`.
        """
        return self.generate(replace(request, task="show_prompt", controls=(), stages=(), reference_strength=0.0))

    def request(self, prompt: str, **settings: Any) -> GenerationRequest:
        """A Request with the model's own steps and guidance where `settings` says nothing else."""
        own = {name: kind(self._defaults[name]) for name, kind in SETTINGS.items() if name in self._defaults}
        return GenerationRequest(prompt, model=self.model, **{**own, **settings})


def create_production_pipeline(
    model_variant: str = "", models_folder: str | Path | None = None, device: str = "auto"
) -> ProductionPipeline:
    """A pipeline for the model `model_variant`: a folder in `models_folder`, or one that ships with Grisaille.

    model_variant: "" for the first there is. device: "auto" or a torch device, such as "cpu" or "cuda:1". Nothing is
    loaded before the first picture. Raises `FailureError` where there is no such model.
    """
    folder = Path(models_folder) if models_folder is not None else shipped_models()
    names = model_names(folder)
    if not model_variant and not names:
        raise FailureError.of(
            FailureKind.MODEL_MISSING, f"There is no model in {folder}.", "Choose the folder that holds your models."
        )
    return ProductionPipeline(model_variant or names[0], folder, device)


def quick_generate(prompt: str, width: int = 512, height: int = 512, **settings: Any) -> GenerationResult:
    """One picture of `prompt` on the model that ships with Grisaille; settings: fields of GenerationRequest."""
    pipeline = create_production_pipeline()
    return pipeline.generate(pipeline.request(prompt, width=width, height=height, **settings))
