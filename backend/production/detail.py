"""Detail that the model paints into an enlarged picture, tile by tile, under the controls of the whole picture."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..models import detail_task
from ..wire import ControlMaps, GenerationRequest
from ..wire.request import SEED_MAX, SIZE_MIN, SIZE_MULTIPLE
from .job import Job
from .keeping import Order
from .painter import Painter
from .passes import Pass
from .window import Window

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..enhance.progressive import Box
    from ..prompts import FinalPrompt

    Floats = NDArray[np.float32]


class DetailPainter:
    """Paints over a tile at a time; see `progressive.Detail`.

    order: of the whole picture, and after a tile as that ran, where memory ran out. pictures: the controls', of the
    Request's size. prompt: what is read for each tile.
    """

    def __init__(
        self,
        order: Order,
        maps: ControlMaps,
        pictures: dict[str, NDArray[np.uint8]],
        prompt: FinalPrompt,
        painter: Painter,
        job: Job,
    ) -> None:
        self.order, self._maps, self._pictures, self._prompt = order, maps, pictures, prompt
        self._painter, self._job = painter, job

    def __call__(self, tile: Floats, box: Box) -> Floats:
        """(h, w, 3) float32, 0..1 -> the same place, painted over."""
        import numpy as np

        height, width = tile.shape[:2]
        rows, columns = (max(SIZE_MIN, -(-side // SIZE_MULTIPLE) * SIZE_MULTIPLE) for side in (height, width))
        # What the model's tokens need beyond the tile repeats its last pixels, in the controls too.
        filled = np.pad(tile, ((0, rows - height), (0, columns - width), (0, 0)), mode="edge")
        window = Window(box, rows, columns, self._is_tileable)
        pictures = {kind: window.cut(picture) for kind, picture in self._pictures.items()}
        mask = self._maps.mask if self._request.task == "inpaint" else None
        maps = ControlMaps(
            image=np.rint(filled * 255.0).astype(np.uint8),
            mask=window.cut_mask(mask) if mask is not None else None,
            reference=self._maps.reference,
        )
        one = self._pass(box, rows, columns)
        order = replace(self.order, request=one.request, passes=[one])
        job = Job(lambda progress: None, lambda picture: None, self._job.is_cancelled)
        ran, pixels = self._painter.painted(order, maps, pictures, self._prompt, job)
        self.order = self.order.placed(ran.memory)
        self._job.note = " ".join(filter(None, (self._job.note, job.note)))
        found: Floats = np.asarray(pixels / np.iinfo(pixels.dtype).max, np.float32)
        return np.ascontiguousarray(found[:height, :width])

    @property
    def _request(self) -> GenerationRequest:
        return self.order.request

    @property
    def _is_tileable(self) -> bool:
        return self._request.enhancement is not None and self._request.enhancement.tileable

    def _pass(self, box: Box, rows: int, columns: int) -> Pass:
        """As the last pass of the picture was painted, from the tile.

        The seed is another one than the picture's: the same noise would bring its pattern out twice.
        """
        last = self.order.passes[-1].request
        wanted = self._request.enhancement
        assert wanted is not None
        request = replace(
            last,
            width=columns,
            height=rows,
            seed=(last.seed + 1) % (SEED_MAX + 1),
            task=detail_task(self._request),
            strength=wanted.detail,
            stages=(),
            enhancement=None,
            bit_depth=self._request.bit_depth,
        )
        return Pass(request, (box.top, box.left))
