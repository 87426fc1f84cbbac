"""The model that was loaded last, kept for the pictures to come."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..models import ModelFolder
from .job import Job
from .keeping import Order
from .loras import use_loras
from .machine import prepare_libraries
from .stage_times import Loaded

if TYPE_CHECKING:
    import torch

    from ..flux.model import FluxModel, ModelFiles
    from ..flux.placement import Placement
    from ..flux.residency import Movable
    from .prompting import Text

log = logging.getLogger("grisaille.production")
GUEST = "guest"
"""The key of what is on the device beside a model's own parts."""


class ModelKeeper:
    """One model at the most, on one device.

    loaded: what the model was loaded from, and the model; None where there is none.
    """

    def __init__(self, device: str) -> None:
        """device: "auto" or a torch device's name."""
        self._device = device
        self.loaded: tuple[tuple[object, ...], FluxModel] | None = None
        self._guest: Movable | None = None

    @property
    def device(self) -> torch.device:
        """What computes."""
        from ..flux.device import choose_device

        return choose_device(self._device)[0]

    def ready(self, order: Order, ahead: Sequence[Text], controls: int, job: Job) -> FluxModel:
        """The model, placed as the order says, with its LoRAs.

        ahead: what is read for the next pictures. controls: how many those have together.
        """
        with job.stage("loading"):
            prepare_libraries()
            # torch and diffusers take seconds to import, so a process that only waits never does.
            from ..flux.device import without_gradients
            from ..flux.memory import reset_peak
            from ..flux.text import WeightedText

            with without_gradients():
                model = self._model(order.folder, order.memory.placement, job)
                model.places.rooms = order.memory.rooms
                use_loras(model, order.loras)
            if ahead:
                model.expect([WeightedText(*text) for text in ahead], controls)
            if order.passes[0].origin is None:
                # What a part of a picture takes counts with the picture's own.
                reset_peak(model.device)
        return model

    def in_memory(self, order: Order, texts: set[Text]) -> Loaded:
        """What of a run's needs is there already. texts: what is read in it, for the next ones too."""
        folder = order.folder
        if self.loaded is None or self.loaded[0][:2] != (folder, fingerprint(folder.files())):
            return Loaded(False, False, len(texts))
        model = self.loaded[1]
        strengths = {control.kind: control.strength for control in order.request.controls}
        nets = [choice.net for choice in order.choices if choice.net and strengths[choice.kind] > 0.0]
        are_read = {(words.text, words.spans) for words in model.prompts}
        return Loaded(True, all(net.folder in model.nets for net in nets), len(texts - are_read))

    def begin(self) -> None:
        """A new picture is to be painted, whatever its rungs and passes."""
        if self.loaded is not None:
            self.loaded[1].running.begin()

    def expect_nothing(self) -> None:
        """No pictures are to come that are known of."""
        if self.loaded is not None:
            self.loaded[1].expect([], 0)

    @contextmanager
    def beside(self, part: Movable) -> Iterator[Callable[[], None]]:
        """Counts a part among the model's own, so that each makes room for the others.

        Yields what brings it to the device, before each use, where it is not there.
        """
        self._guest = part
        self._take_in_guest()
        try:
            yield self._use_guest
        finally:
            self._guest = None
            if self.loaded is not None:
                self.loaded[1].places.residency.drop(GUEST)

    def _take_in_guest(self) -> None:
        if self.loaded is not None and self._guest is not None:
            self.loaded[1].places.residency.add(GUEST, self._guest)

    def _use_guest(self) -> None:
        if self.loaded is not None:
            self.loaded[1].places.begin("enhancing")
            self.loaded[1].places.residency.use(GUEST)
        elif self._guest is not None and not self._guest.is_here:
            self._guest.come()

    def forget(self) -> None:
        """Lets go of the model and the memory it took."""
        if self.loaded is not None:
            self.loaded = None
            release_memory()

    def _model(self, folder: ModelFolder, placement: Placement, job: Job) -> FluxModel:
        """The model, loaded now or still there from the last job; loaded again when a file of it has changed."""
        from ..flux.device import choose_device
        from ..flux.model import load_model

        device, dtype = choose_device(self._device)
        key = (folder, fingerprint(folder.files()), device)
        if self.loaded is not None and self.loaded[0] == key:
            if self.loaded[1].places.placement != placement:
                self._place(self.loaded[1], placement, job)
            return self.loaded[1]
        self.forget()
        log.info("loading %s on %s", folder.path, device)
        if self._guest is not None and self._guest.is_here:
            self._guest.leave()  # what is free now is what the model's parts may take
        model = load_model(model_files(folder), device, dtype, job.check, placement)
        self.loaded = (key, model)
        self._take_in_guest()
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


def fingerprint(paths: Iterable[Path]) -> str:
    """Changes when any of these files does."""
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat()
        digest.update(f"{path}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}\n".encode())
    return digest.hexdigest()
