"""Request -> Result: the one entry to everything below the door. Exceptions stop here and become Failures.

Importing this loads neither torch nor numpy; the first job does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..failures import failure_of
from ..models import ControlChoice, ModelFolder, check_family, choose_nets, find_loras, model_names
from ..wire import ControlMaps, Failure, FailureKind, GenerationRequest, GenerationResult, speeds
from ..wire.request import sources_of
from .choosing import model_for
from .detail import DetailPainter
from .enhance_only import enhanced_picture
from .enhancing import Enhancer, networks_of, plan_of_networks
from .finished import finished
from .forecast import Forecast
from .inputs import check_source, control_pictures, maps_used, plan_of
from .job import Job, OnProgress
from .keeping import EnhanceOrder, Kept, Order
from .machine import machine_of, numbers_of
from .model_keeper import ModelKeeper, fingerprint
from .painter import Painter
from .passes import Pass, passes_of
from .planned import plan_of_job, with_seconds
from .prompting import Prompting, texts_of
from .provenance import encode_png, map_digests
from .recent_orders import RecentOrders
from .result_cache import CACHE_BYTES
from .stage_times import RunClass

if TYPE_CHECKING:
    from .job import OnPreview

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
        self._keeper = ModelKeeper(device)
        self._painter = Painter(self._keeper)
        self._prompting = Prompting()
        self._kept = Kept(cache_folder, cache_bytes, maps_folder)
        self._recent = RecentOrders(models_folder)
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
        if not self._ahead:
            self._keeper.expect_nothing()

    def forget(self) -> None:
        """Lets go of the loaded model and the memory it took."""
        self._keeper.forget()

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
            order = EnhanceOrder(request, self._decided(job), map_digests(maps, sources_of(request), digests), networks)
            return enhanced_picture(order, maps, self._device, self._kept, self._keeper, job)
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
        job.note = f"{job.note} {speeds.note(request.speed, request.sampler)}".strip()
        used = map_digests(maps, maps_used(request, choices, maps), digests)
        order = self._order(request, folder, choices, passes, used, networks, job)
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
        networks: Mapping[str, Path],
        job: Job,
    ) -> Order:
        """What runs and how, decided before anything does. digests: of the maps that are used."""
        loras = find_loras(request.loras, self._models_folder, folder.name)
        memory = self._painter.too_large.avoided(
            plan_of_job(machine_of(self._device), request, folder, choices, loras, networks)
        )
        decided = {"model": folder.name, "variant": folder.variant, **self._decided(job), **plan_of(choices, job.note)}
        return Order(request, folder, choices, loras, passes, decided, digests, memory, networks).placed(memory)

    def _decided(self, job: Job) -> dict[str, str]:
        """Where and in which numbers will be computed, as far as a picture that is kept depends on it."""
        return numbers_of(self._device, job) if self._kept.results is not None else {}

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
        run, loaded = (
            RunClass.of(request, folder.name, self._device),
            self._keeper.in_memory(order, {(request.prompt, ())}),
        )
        # Before the prompt is read, so that the time left is told from the start; exactly, once it is.
        expected = self._kept.times.expected(run, order.passes, loaded)
        job.forecast, job.plan_lines = Forecast(expected), with_seconds(order.memory, expected).lines
        prompt = self._prompting.read(request, folder, job)
        ahead = self._prompting.ahead(self._ahead, folder)
        loaded = self._keeper.in_memory(order, {*texts_of(prompt, request), *ahead})
        job.forecast = Forecast(self._kept.times.expected(run, order.passes, loaded))
        files_before = fingerprint(order.files())
        controls = sum(len(one.controls) for one in self._ahead)
        if request.task != "enhance":
            order, pixels = self._painter.painted(order, maps, pictures, prompt, job, ahead, controls)
        else:
            assert maps.picture is not None  # `check_source`
            pixels = maps.picture
        device = self._keeper.device
        if request.enhancement is not None:
            # Nothing here holds the model, so that it can leave.
            detail = DetailPainter(order, maps, pictures, prompt, self._painter, job) if request.has_detail else None
            pixels = Enhancer(device, self._keeper).enhanced(pixels, order, job, maps.reference, detail)
            order = detail.order if detail is not None else order
        plan = {"model": folder.name, "variant": folder.variant, **self._painter.said, **prompt.plan()}
        plan |= {**plan_of_networks(order.networks), "placement": order.memory.as_run(self._painter.said["compiled"])}
        plan |= plan_of(choices, job.note, job.model_reason)
        result, digests = finished(order, pixels, plan, device, self._kept, job)
        self._kept.times.learn(run, order.passes, loaded, job.timings, job.step_unit)
        if fingerprint(order.files()) == files_before:
            # Else a file was changed while this ran, and the digests are not those of what was painted with.
            self._kept.keep(order, result, digests)
        return result
