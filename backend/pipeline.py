"""The backend from Python, without Blender and without sockets:

from backend import GenerationRequest, create_production_pipeline, quick_generate

quick_generate("a red glossy ball on a white floor").save("ball.png")

pipeline = create_production_pipeline(models_folder="/path/to/models")
request = pipeline.request("a red glossy ball", width=768, height=512, seed=3)
result = pipeline.generate(request, on_progress=lambda progress: print(progress.stage, progress.fraction))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .models import find_model, model_names
from .outputs import PaintedResult
from .production import Production
from .production.batch import paint_batch
from .production.choosing import no_model, with_own_settings
from .production.variations import contact_sheet, grid, grid_labels, with_prompts, with_seeds
from .wire import ControlMaps, Failure, FailureError, FailureKind, GenerationRequest, GenerationResult, Progress
from .wire.model_names import shipped_models


class ProductionPipeline:
    """Paints Requests one after another, and keeps the last model loaded. Not for several threads at once.

    model: the name of the model that paints, or "" where each Request's own does, or the best for it.
    """

    def __init__(
        self,
        model: str,
        models_folder: Path,
        device: str,
        *,
        maps_folder: Path | None = None,
        cache_folder: Path | None = None,
    ) -> None:
        if model:
            find_model(models_folder, model)
        self.model = model
        self._models_folder, self._device, self._keeps_maps = models_folder, device, maps_folder is not None
        self._production = Production(models_folder, device, cache_folder=cache_folder, maps_folder=maps_folder)

    def generate(
        self,
        request: GenerationRequest,
        maps: ControlMaps | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> PaintedResult:
        """Paints the Request with this pipeline's model, whatever the Request names; without one, with the Request's.

        request: fields, units and ranges in `GenerationRequest`. maps: what its controls and its task need, of the
        Request's size; see `ControlMaps` for axes and units. on_progress: called with a `Progress`, its fractions
        growing and below 1, in this thread. is_cancelled: asked between steps; True ends the picture.

        Returns a `GenerationResult` whose request names the model that ran, and whose `save` and `show` take the
        picture out. Raises `FailureError`, whose `failure` has a kind, one sentence and the next step.
        """
        maps = maps if maps is not None else ControlMaps()
        result = self._production.run(
            replace(request, model=self.model or request.model),
            maps,
            on_progress=on_progress,
            on_preview=lambda picture: None,
            is_cancelled=is_cancelled,
        )
        if isinstance(result, Failure):
            raise FailureError(result)
        return PaintedResult.of(result, None if self._keeps_maps else maps)

    def show_prompt(self, request: GenerationRequest) -> GenerationResult:
        """What the Request's prompt becomes with this pipeline's model, without painting and without its weights.

        The Result's plan has the final `prompt`, `tokens` as {"T5": [count, limit], "CLIP": …}, and, where there is
        something to say, a `note`. Raises `FailureError`.
        """
        return self.generate(replace(request, task="show_prompt", controls=(), stages=(), reference_strength=0.0))

    def generate_batch(
        self,
        requests: Sequence[GenerationRequest],
        maps: ControlMaps | Sequence[ControlMaps] | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> list[PaintedResult | Failure]:
        """Paints the Requests one after another, each as `generate` would, to the byte; what they share is made once.

        maps: for all of them, or one for each. on_progress: called with fractions of the whole. Returns the Results in
        the order of the Requests, and a Failure in the place of each that could not be made, or was cancelled.
        """
        if isinstance(maps, Sequence) and len(maps) != len(requests):
            raise FailureError.of(
                FailureKind.BAD_REQUEST,
                f"There are {len(requests)} Requests and {len(maps)} maps.",
                "Give one for each, or one for all.",
            )
        given = maps if isinstance(maps, Sequence) else [maps or ControlMaps()] * len(requests)
        own = [replace(request, model=self.model or request.model) for request in requests]
        results = paint_batch(self._production, own, given.__getitem__, on_progress, is_cancelled)
        return [
            result if isinstance(result, Failure) else PaintedResult.of(result, None if self._keeps_maps else maps)
            for result, maps in zip(results, given, strict=True)
        ]

    def variations(
        self,
        request: GenerationRequest,
        seeds: int = 4,
        prompts: Sequence[str] = (),
        maps: ControlMaps | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> list[PaintedResult | Failure]:
        """The Request with this many seeds, 1..1000, the first its own, or with these prompts; see `generate_batch`."""
        requests = with_prompts(request, prompts) if prompts else with_seeds(request, seeds)
        return self.generate_batch(requests, maps, on_progress, is_cancelled)

    def grid(
        self,
        request: GenerationRequest,
        rows: tuple[str, Sequence[Any]],
        columns: tuple[str, Sequence[Any]],
        maps: ControlMaps | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> tuple[list[PaintedResult | Failure], bytes]:
        """The Request with each pair of values of two of its fields, such as ("steps", [8, 20]) and ("seed", [1, 2]).

        Returns the Results row by row, and a PNG that shows them in a grid with labels; what failed is dark there.
        Raises `FailureError` (bad_request) for fields that there are not.
        """
        results = self.generate_batch(grid(request, rows, columns), maps, on_progress, is_cancelled)
        pngs = [b"" if isinstance(result, Failure) else result.png for result in results]
        return results, contact_sheet(pngs, grid_labels(rows), grid_labels(columns))

    def request(self, prompt: str, **settings: Any) -> GenerationRequest:
        """A Request with the model's own steps and guidance where `settings` says nothing else.

        settings: fields of `GenerationRequest`. Where the pipeline has no model, steps and guidance are those of the
        best for these settings, which `generate` will take. Raises `FailureError` where none can do them, `TypeError`
        for a field that there is not.
        """
        wanted = GenerationRequest(prompt, **{"model": self.model, **settings})
        return with_own_settings(wanted, settings, self._models_folder, self._device)


def create_production_pipeline(
    model_variant: str = "",
    models_folder: str | Path | None = None,
    device: str = "auto",
    maps_folder: str | Path | None = None,
    cache_folder: str | Path | None = None,
) -> ProductionPipeline:
    """A pipeline for the model `model_variant`: a folder in `models_folder`, or one that ships with Grisaille.

    model_variant: "" for the best there is for each Request on this machine. models_folder: None for what ships.
    device: "auto" or a torch device, such as "cpu" or "cuda:1". maps_folder: where the maps of all pictures are kept
    (`read_maps`); None to keep those of saved pictures beside them. cache_folder: where finished pictures are kept, so
    that none is painted twice; None for nowhere. Nothing is loaded before the first picture. Raises `FailureError`
    (model_missing, model_broken, model_unsupported) where there is no such model.
    """
    folder = Path(models_folder) if models_folder is not None else shipped_models()
    if not model_variant and not model_names(folder):
        raise FailureError(no_model(folder))
    return ProductionPipeline(
        model_variant,
        folder,
        device,
        maps_folder=Path(maps_folder) if maps_folder is not None else None,
        cache_folder=Path(cache_folder) if cache_folder is not None else None,
    )


def quick_generate(prompt: str, width: int = 512, height: int = 512, **settings: Any) -> PaintedResult:
    """One picture of `prompt` on the model that ships with Grisaille: `quick_generate("a cat").show()`.

    width, height: pixels, multiples of 16 within 64..4096. settings: other fields of `GenerationRequest`. Raises
    `FailureError`.
    """
    pipeline = create_production_pipeline()
    return pipeline.generate(pipeline.request(prompt, width=width, height=height, **settings))
