"""Request -> Result: the one entry to everything below the door. Exceptions stop here and become Failures.

Importing this loads neither torch nor numpy; the first job does.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..failures import failure_of
from ..models import ControlChoice, ModelFolder, check_family, choose_nets, find_loras, model_names
from ..planning import MemoryPlan, step_down
from ..wire import ControlMaps, Failure, FailureKind, GenerationRequest, GenerationResult
from ..wire.request import sources_of
from .choosing import model_for
from .enhancing import enhanced, networks_of, plan_of_networks
from .forecast import Expected, Forecast
from .inputs import check_source, control_pictures, maps_used, plan_of
from .job import Job, OnProgress
from .keeping import AnyOrder, EnhanceOrder, Kept, Order, OrderDigests
from .loras import use_loras
from .machine import machine_of, prepare_libraries
from .painting import SoFar, paint
from .passes import Pass, passes_of
from .planned import TooLarge, plan_of_job, stepped_note, with_seconds
from .prompting import Prompting, engine_prompts, texts_of
from .provenance import encode_png, map_digests, provenance
from .recent_orders import RecentOrders
from .result_cache import CACHE_BYTES
from .stage_times import Loaded, RunClass

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from ..flux.model import FluxModel, ModelFiles
    from ..flux.placement import Placement
    from ..prompts import FinalPrompt
    from .job import OnPreview
    from .prompting import Text

log = logging.getLogger("grisaille.production")


class Production:
    """Makes pictures, one at a time, and keeps the last model loaded between them."""

    def __init__(
        self,
        models_folder: Path,
        device: str = "auto",
        *,
        cache_folder: Path | None = None,
        cache_bytes: int = CACHE_BYTES,
        maps_folder: Path | None = None,
    ) -> None:
        """models_folder: holds one folder a model. device: "auto" or a torch device, such as "cpu" or "cuda:1".

        cache_folder: where finished pictures are kept, so that none is painted twice, with digests of weights and what
        stages take on this machine; made when it is not there; processes may share it. None: nowhere. cache_bytes: of
        pictures, at most. maps_folder: where the maps of finished pictures are kept (`MapStore`); None to keep none.
        """
        self._models_folder = models_folder
        self._device = device
        self._loaded: tuple[tuple[object, ...], FluxModel] | None = None
        self._prompting = Prompting()
        self._kept = Kept(cache_folder, cache_bytes, maps_folder)
        self._recent = RecentOrders(models_folder)
        self._too_large = TooLarge()
        self._ahead: list[GenerationRequest] = []

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
        digests: Mapping[str, str] | None = None,
    ) -> GenerationResult | Failure:
        """Makes the picture, or says why not; never raises.

        on_progress: called with growing fractions below 1. on_preview: called with (height, width, 3) uint8, sides
        of 128 pixels at most, after each step. is_cancelled: asked between steps and stages. All are called in the
        calling thread. digests: `framing.array_digest` of maps, by name, where they were taken already.
        """
        job = Job(on_progress, on_preview, is_cancelled)
        try:
            return self._run(request, maps, digests or {}, job)
        except BaseException as error:
            failure = failure_of(error, request)
            if failure.kind == FailureKind.OUT_OF_MEMORY:
                self.forget()
            level = logging.INFO if failure.kind == FailureKind.CANCELLED else logging.ERROR
            log.log(level, "%s: %s %s\n%s", failure.kind, failure.message, failure.hint, failure.detail)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            return failure

    def expect(self, requests: Iterable[GenerationRequest]) -> None:
        """Says what is to be made next, so that each prompt and each map is read once; an empty list ends that."""
        self._ahead = list(requests)
        if not self._ahead and self._loaded is not None:
            self._loaded[1].expect([], 0)

    def forget(self) -> None:
        """Lets go of the loaded model and the memory it took."""
        if self._loaded is not None:
            self._loaded = None
            release_memory()

    def _run(
        self, request: GenerationRequest, maps: ControlMaps, digests: Mapping[str, str], job: Job
    ) -> GenerationResult:
        request.check()
        recent = self._recent.recall(request, digests)
        if recent is not None and (result := self._kept.look_up(recent[1], job)) is not None:
            self._kept.keep_maps(recent[0], maps)
            return result
        maps.check_shapes(request.width, request.height)
        check_source(request, maps)
        networks = networks_of(request, self._models_folder)
        if not request.is_painted:
            return self._enhanced(request, maps, networks, digests, job)
        asked = request
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
        if request.task == "show_controls":
            return self._shown_controls(request, maps, choices, job)
        used = map_digests(maps, maps_used(request, choices, maps), digests)
        order = replace(self._order(request, folder, choices, passes, used, job), networks=networks)
        key = self._kept.key(order)
        result = self._kept.look_up(key, job)
        if result is not None:
            self._recent.remember(asked, digests, order, key)
        else:
            result = self._picture(order, maps, job)
        self._kept.keep_maps(order, maps)
        return result

    def _order(
        self,
        request: GenerationRequest,
        folder: ModelFolder,
        choices: list[ControlChoice],
        passes: list[Pass],
        digests: Mapping[str, str],
        job: Job,
    ) -> Order:
        """What runs and how, decided before anything does. digests: of the maps that are used."""
        loras = find_loras(request.loras, self._models_folder, folder.name)
        memory = self._too_large.avoided(plan_of_job(machine_of(self._device), request, folder, choices, loras))
        decided = {"model": folder.name, "variant": folder.variant, **self._decided(job), **plan_of(choices, job.note)}
        return Order(request, folder, choices, loras, passes, decided, digests, memory).placed(memory)

    def _enhanced(
        self,
        request: GenerationRequest,
        maps: ControlMaps,
        networks: Mapping[str, Path],
        digests: Mapping[str, str],
        job: Job,
    ) -> GenerationResult:
        """The Result of a Request that enhances a picture and paints none."""
        maps.check(request.width, request.height)
        assert maps.picture is not None  # `check_source`
        used = map_digests(maps, sources_of(request), digests)
        order = EnhanceOrder(request, self._decided(job), used, networks)
        result = self._kept.look_up(self._kept.key(order), job)
        if result is None:
            job.forecast = Forecast([Expected("loading"), Expected("enhancing"), Expected("saving")])
            with job.stage("loading"):
                prepare_libraries()
                from ..flux.memory import reset_peak
                from ..flux.model import choose_device

                files_before = _fingerprint(order.files())
                device = choose_device(self._device)[0]
                reset_peak(device)
            plan = {**self._decided(job), **plan_of_networks(networks)}
            pixels = enhanced(maps.picture, order, device, job, self._make_room, maps.reference)
            plan |= {"note": job.note} if job.note else {}
            result, found = self._finished(order, pixels, plan, device, job)
            if _fingerprint(order.files()) == files_before:
                self._kept.keep(order, result, found)
        self._kept.keep_maps(order, maps)
        return result

    def _make_room(self) -> None:
        """Lets go of the model where it and a network for pictures would crowd the card."""
        from ..flux.memory import is_crowded

        if self._loaded is not None and is_crowded(self._loaded[1].device):
            self.forget()

    def _decided(self, job: Job) -> dict[str, str]:
        """Where and in which numbers will be computed, as far as a picture that is kept depends on it."""
        if self._kept.results is None:
            return {}
        if self._device == "cpu":  # the one whose numbers are known without torch, which takes seconds to import
            return {"device": "cpu", "dtype": "float32"}
        job.tell("loading")
        prepare_libraries()
        from ..flux.memory import device_name
        from ..flux.model import choose_device

        device, dtype = choose_device(self._device)
        return {"device": device_name(device), "dtype": str(dtype)}

    def _shown_controls(
        self, request: GenerationRequest, maps: ControlMaps, choices: list[ControlChoice], job: Job
    ) -> GenerationResult:
        maps.check(request.width, request.height)
        pictures = control_pictures(choices, maps, (request.width, request.height))
        with job.stage("saving"):
            pngs = {kind: encode_png(picture, {}) for kind, picture in pictures.items()}
        return GenerationResult(request, control_pngs=pngs, plan=plan_of(choices, job.note), timings=job.timings)

    def _picture(self, order: Order, maps: ControlMaps, job: Job) -> GenerationResult:
        request, folder, choices = order.request, order.folder, order.choices
        maps.check(request.width, request.height)
        pictures = control_pictures(choices, maps, (request.width, request.height))
        run, loaded = RunClass.of(request, folder.name, self._device), self._in_memory(order, {(request.prompt, ())})
        # Before the prompt is read, so that the time left is told from the start; exactly, once it is.
        expected = self._kept.times.expected(run, order.passes, loaded)
        job.forecast, job.plan_lines = Forecast(expected), with_seconds(order.memory, expected).lines
        prompt = self._prompting.read(request, folder, job)
        ahead = self._prompting.ahead(self._ahead, folder)
        loaded = self._in_memory(order, {*texts_of(prompt, request), *ahead})
        job.forecast = Forecast(self._kept.times.expected(run, order.passes, loaded))
        files_before = _fingerprint(order.files())
        order, pixels = self._painted(order, maps, pictures, prompt, ahead, job)
        assert self._loaded is not None, "it has just painted"
        plan, device = {**self._loaded[1].plan(), **prompt.plan()}, self._loaded[1].device
        if request.enhancement is not None:
            # Nothing here holds the model, so that it can make room.
            plan |= plan_of_networks(order.networks)
            pixels = enhanced(pixels, order, device, job, self._make_room, maps.reference)
        plan = {"model": folder.name, "variant": folder.variant, **plan, "placement": order.memory.decides()}
        plan |= plan_of(choices, job.note, job.model_reason)
        result, digests = self._finished(order, pixels, plan, device, job)
        self._kept.times.learn(run, order.passes, loaded, job.timings, job.step_unit)
        if _fingerprint(order.files()) == files_before:
            # Else a file was changed while this ran, and the digests are not those of what was painted with.
            self._kept.keep(order, result, digests)
        return result

    def _painted(
        self,
        order: Order,
        maps: ControlMaps,
        pictures: dict[str, NDArray[np.uint8]],
        prompt: FinalPrompt,
        ahead: list[Text],
        job: Job,
    ) -> tuple[Order, NDArray[Any]]:
        """The picture, and the order as it ran: a rung further down the memory plan each time that memory ran out.

        What was finished by then is not done again. Raises what the last rung raised.
        """
        so_far = SoFar()
        while True:
            try:
                model = self._ready(order, ahead, job)
                return order, paint(order, maps, pictures, model, engine_prompts(prompt), job, so_far)
            except BaseException as error:
                below = self._rung_below(order, error, job.stage_now)
                if below is None:
                    raise
            # Out here, where the error no longer holds what was on the device.
            job.note = " ".join(filter(None, (job.note, stepped_note(order.memory, below, so_far.steps))))
            log.warning("%s %s", order.folder.name, job.note)
            order, job.plan_lines = order.placed(below), below.lines
            release_memory()

    def _rung_below(self, order: Order, error: BaseException, stage: str) -> MemoryPlan | None:
        """The plan to go on with after an error; None where it was not the device's memory, or there is none."""
        is_of_host = isinstance(error, MemoryError) and order.memory.machine.has_own_memory
        if is_of_host or failure_of(error).kind != FailureKind.OUT_OF_MEMORY:
            return None
        self._too_large.remember(order.memory, stage)
        return step_down(order.memory, stage)

    def _ready(self, order: Order, ahead: list[Text], job: Job) -> FluxModel:
        """The model, placed as the order says, with its LoRAs."""
        with job.stage("loading"):
            prepare_libraries()
            # torch and diffusers take seconds to import, so a process that only waits never does.
            from ..flux.memory import reset_peak
            from ..flux.model import without_gradients
            from ..flux.text import WeightedText

            with without_gradients():
                model = self._model(order.folder, order.memory.placement, job)
                use_loras(model, order.loras)
            if ahead:
                model.expect([WeightedText(*text) for text in ahead], sum(len(one.controls) for one in self._ahead))
            reset_peak(model.device)
        return model

    def _finished(
        self, order: AnyOrder, pixels: NDArray[Any], plan: dict[str, Any], device: torch.device, job: Job
    ) -> tuple[GenerationResult, OrderDigests]:
        """The Result of what was made, with its provenance, and the digests of what was read for it."""
        from ..flux.memory import peak_memory

        request, transformer = order.request, ""
        if isinstance(order, Order):
            transformer = order.folder.transformer.relative_to(order.folder.path).as_posix()
        with job.stage("saving"):
            digests = self._kept.digests(order, job.check)
            said = {"request": request.digest(), "maps": dict(order.map_digests), **digests.to_json()}
            png = encode_png(pixels, provenance(request, said, plan, transformer))
        log.info("made %s x %s, %s steps, %s", request.width, request.height, request.steps, job.timings)
        result = GenerationResult(request, png, plan=plan, timings=job.timings, peak_memory=peak_memory(device))
        return result, digests

    def _in_memory(self, order: Order, texts: set[Text]) -> Loaded:
        """What of a run's needs is there already. texts: what is read in it, for the next ones too."""
        folder = order.folder
        if self._loaded is None or self._loaded[0][:2] != (folder, _fingerprint(folder.files())):
            return Loaded(False, False, len(texts))
        model = self._loaded[1]
        strengths = {control.kind: control.strength for control in order.request.controls}
        nets = [choice.net for choice in order.choices if choice.net and strengths[choice.kind] > 0.0]
        are_read = {(words.text, words.spans) for words in model.prompts}
        return Loaded(True, all(net.folder in model.nets for net in nets), len(texts - are_read))

    def _model(self, folder: ModelFolder, placement: Placement, job: Job) -> FluxModel:
        """The model, loaded now or still there from the last job; loaded again when a file of it has changed."""
        from ..flux.model import choose_device, load_model

        device, dtype = choose_device(self._device)
        key = (folder, _fingerprint(folder.files()), device)
        if self._loaded is not None and self._loaded[0] == key:
            if self._loaded[1].places.placement != placement:
                self._place(self._loaded[1], placement, job)
            return self._loaded[1]
        self.forget()
        log.info("loading %s on %s", folder.path, device)
        model = load_model(model_files(folder), device, dtype, job.check, placement)
        self._loaded = (key, model)
        return model

    def _place(self, model: FluxModel, placement: Placement, job: Job) -> None:
        try:
            model.place(placement, job.check)
        except BaseException:
            self.forget()  # it is neither here nor there
            raise


def release_memory() -> None:
    from ..flux.memory import release

    release()


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


def _fingerprint(paths: Iterable[Path]) -> str:
    """Changes when any of these files does."""
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat()
        digest.update(f"{path}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}\n".encode())
    return digest.hexdigest()
