"""Request -> Result: the one entry to everything below the door. Exceptions stop here and become Failures.

Importing this loads neither torch nor numpy; the first job does.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..failures import failure_of
from ..models import ControlChoice, ModelFolder, check_family, choose_nets, find_loras, model_names
from ..outputs import MapStore
from ..wire import ControlMaps, Failure, FailureKind, GenerationRequest, GenerationResult
from .choosing import model_for
from .inputs import check_source, control_inputs, control_pictures, maps_used, pass_sources, plan_of
from .job import Job, OnProgress
from .loras import lora_digests, use_loras
from .passes import Pass, maps_at, passes_of
from .prompting import Prompting, engine_prompts
from .provenance import WeightDigests, encode_png, map_digests, provenance

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..flux.model import FluxModel, ModelFiles, PictureJob
    from ..prompts import FinalPrompt
    from .job import OnPreview

log = logging.getLogger("grisaille.production")


class Production:
    """Makes pictures, one at a time, and keeps the last model loaded between them."""

    def __init__(self, models_folder: Path, device: str = "auto", maps_folder: Path | None = None) -> None:
        """models_folder: holds one folder a model. device: "auto" or a torch device, such as "cpu" or "cuda:1".

        maps_folder: where the maps of finished pictures are kept (`MapStore`); None to keep none.
        """
        self._models_folder = models_folder
        self._device = device
        self._loaded: tuple[tuple[object, ...], FluxModel] | None = None
        self._digests = WeightDigests()
        self._prompting = Prompting()
        self._maps = MapStore(maps_folder) if maps_folder is not None else None

    def model_names(self) -> list[str]:
        return model_names(self._models_folder)

    def run(
        self,
        request: GenerationRequest,
        maps: ControlMaps,
        *,
        on_progress: OnProgress,
        on_preview: OnPreview,
        is_cancelled: Callable[[], bool],
    ) -> GenerationResult | Failure:
        """Makes the picture, or says why not; never raises.

        on_progress: called with growing fractions below 1. on_preview: called with (height, width, 3) uint8, sides
        of 128 pixels at most, after each step. is_cancelled: asked between steps and stages. All are called in the
        calling thread.
        """
        job = Job(on_progress, on_preview, is_cancelled)
        try:
            return self._run(request, maps, job)
        except BaseException as error:
            failure = failure_of(error, request)
            if failure.kind == FailureKind.OUT_OF_MEMORY:
                self.forget()
            level = logging.INFO if failure.kind == FailureKind.CANCELLED else logging.ERROR
            log.log(level, "%s: %s %s\n%s", failure.kind, failure.message, failure.hint, failure.detail)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            return failure

    def forget(self) -> None:
        """Lets go of the loaded model and the memory it took."""
        if self._loaded is not None:
            self._loaded = None
            from ..flux.memory import release

            release()

    def _run(self, request: GenerationRequest, maps: ControlMaps, job: Job) -> GenerationResult:
        request.check()
        maps.check(request.width, request.height)
        check_source(request, maps)
        chosen = model_for(request, self._models_folder, self._device)
        folder, job.model_reason = chosen.folder, chosen.reason
        request = replace(request, model=folder.name)
        if request.task == "show_prompt":
            return self._prompting.shown(request, folder, job)
        passes = passes_of(request, frozenset(folder.joined))
        for one in passes:
            check_family(one.request, folder)
        job.check()
        kinds = [control.kind for control in request.controls]
        choices = choose_nets(kinds, folder.controlnets, folder.name, folder.joined)
        job.note = " ".join(choice.note for choice in choices if choice.note)
        pictures = control_pictures(choices, maps, (request.width, request.height))
        if request.task == "show_controls":
            with job.stage("saving"):
                pngs = {kind: encode_png(picture, {}) for kind, picture in pictures.items()}
            return GenerationResult(request, control_pngs=pngs, plan=plan_of(choices, job), timings=job.timings)
        prompt = self._prompting.read(request, folder, job)
        return self._picture(request, prompt, maps, folder, choices, pictures, passes, job)

    def _picture(
        self,
        request: GenerationRequest,
        prompt: FinalPrompt,
        maps: ControlMaps,
        folder: ModelFolder,
        choices: list[ControlChoice],
        pictures: dict[str, NDArray[np.uint8]],
        passes: list[Pass],
        job: Job,
    ) -> GenerationResult:
        loras = find_loras(request.loras, self._models_folder, folder.name)
        with job.stage("loading"):
            # Read by the libraries when they are first imported. Waiting threads that spin make a picture on a CPU
            # that others use too (Blender's own drawing) ten times slower.
            os.environ["HF_HUB_OFFLINE"] = "1"
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
            # torch and diffusers take seconds to import, so a process that only waits never does.
            from ..flux.memory import peak_memory, reset_peak
            from ..flux.model import PictureJob, without_gradients

            with without_gradients():
                model = self._model(folder, job)
                use_loras(model, loras)
            reset_peak(model.device)
        with without_gradients():
            pixels: NDArray[Any] | None = None
            for one in passes:
                job.done, job.share = one.done, one.share
                is_whole = one.size == (request.width, request.height)
                drawn = pictures if is_whole else control_pictures(choices, maps_at(maps, one.size), one.size)
                inputs = control_inputs(one.request, choices, drawn)
                picture_job = PictureJob(model, one.request, inputs, engine_prompts(prompt))
                pixels = _make(picture_job, job, pass_sources(one, maps, pixels))
            assert pixels is not None  # there is always a pass
        with job.stage("saving"):
            used = map_digests(maps, maps_used(request, choices, maps))
            self._keep_maps({digest: maps.arrays()[name] for name, digest in used.items()})
            digests = {
                "request": request.digest(),
                "maps": used,
                "weights": self._digests.of(folder.files(), folder.path, job.check),
                **lora_digests(self._digests, loras, job.check),
            }
            plan = {"model": folder.name, "variant": folder.variant, **model.plan(), **prompt.plan()}
            plan |= plan_of(choices, job)
            transformer = folder.transformer.relative_to(folder.path).as_posix()
            png = encode_png(pixels, provenance(request, digests, plan, transformer))
        log.info("made %s x %s, %s steps, %s", request.width, request.height, request.steps, job.timings)
        return GenerationResult(request, png, plan=plan, timings=job.timings, peak_memory=peak_memory(model.device))

    def _keep_maps(self, by_digest: dict[str, NDArray[Any]]) -> None:
        if self._maps is None:
            return
        try:
            self._maps.put(by_digest)
        except OSError:
            # The picture is worth more than what would make it again.
            log.exception("the maps of a picture could not be kept in %s", self._maps.folder)

    def _model(self, folder: ModelFolder, job: Job) -> FluxModel:
        """The model, loaded now or still there from the last job; loaded again when a file of it has changed."""
        from ..flux.model import choose_device, load_model

        device, dtype = choose_device(self._device)
        key = (folder, _fingerprint(folder), device)
        if self._loaded is not None and self._loaded[0] == key:
            return self._loaded[1]
        self.forget()
        log.info("loading %s on %s", folder.path, device)
        model = load_model(model_files(folder), device, dtype, job.check)
        self._loaded = (key, model)
        return model


def model_files(folder: ModelFolder) -> ModelFiles:
    """What the engine loads of a described model."""
    from ..flux.model import ModelFiles

    return ModelFiles(
        folder.transformer,
        folder.transformer_config,
        max_text_tokens=folder.max_text_tokens,
        condition=folder.family.control,
        redux=folder.redux,
        control_lora=folder.control_lora,
        **folder.parts,
    )


def _make(picture_job: PictureJob, job: Job, maps: ControlMaps) -> NDArray[Any]:
    """Takes a picture through the stages of the engine, telling and asking in between."""
    steps, controls = picture_job.steps, picture_job.controls
    with job.stage("text"):
        picture_job.read_text()
    with job.stage("control", len(controls)):
        if maps.reference is not None and picture_job.request.reference_strength > 0.0:
            picture_job.read_reference(maps.reference)
        if maps.image is not None:
            picture_job.read_source(maps.image, maps.mask)
        for index, control in enumerate(controls):
            job.check()
            picture_job.read_control(control)
            job.tell("control", index + 1, len(controls))
    with job.stage("denoising", steps):

        def on_step(step: int, tokens: Any) -> None:
            job.tell("denoising", step + 1, steps)
            job.on_preview(picture_job.preview(tokens))
            job.check()

        picture_job.denoise(on_step)
    with job.stage("decoding"):
        return picture_job.decode()


def _fingerprint(folder: ModelFolder) -> str:
    """Changes when any file of the model does."""
    digest = hashlib.sha256()
    for path in folder.files():
        status = path.stat()
        digest.update(f"{path}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}\n".encode())
    return digest.hexdigest()
