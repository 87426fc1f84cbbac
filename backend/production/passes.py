"""A Request's stages -> the passes over the picture that the engine makes, and what goes from one to the next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..wire import ControlMaps, GenerationRequest, Stage
from ..wire.request import SEED_MAX, SIZE_MIN, SIZE_MULTIPLE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Pass:
    """One run of the engine. request: without stages. origin: see `PictureJob`."""

    request: GenerationRequest
    origin: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.request.width, self.request.height


def passes_of(request: GenerationRequest, whole: frozenset[str] = frozenset()) -> list[Pass]:
    """At least one. A Request without stages is its own pass.

    whole: kinds of controls that the model takes whole and always, whatever a stage says of them.

    Each pass has noise of its own: the same noise on the same picture would bring its pattern out twice.
    """
    if not request.stages or request.task == "show_controls":
        return [Pass(request)]
    return [Pass(_request_of(request, index, stage, whole)) for index, stage in enumerate(request.stages)]


def _request_of(request: GenerationRequest, index: int, stage: Stage, whole: frozenset[str]) -> GenerationRequest:
    width, height = (_side(side, stage.scale) for side in (request.width, request.height))
    task, strength = request.task, request.strength
    if index > 0:
        task, strength = "inpaint" if task == "inpaint" else "image_to_image", stage.strength
    controls = request.controls if stage.controls is None else stage.controls
    is_last = index == len(request.stages) - 1
    always = [control for control in request.controls if control.kind in whole]
    return replace(
        request,
        width=width,
        height=height,
        seed=(request.seed + index) % (SEED_MAX + 1),
        steps=stage.steps,
        task=task,
        strength=strength,
        controls=(*always, *(control for control in controls if control.kind not in whole)),
        stages=(),
        # What the next pass starts from has 8 bits, as every picture to start from.
        bit_depth=request.bit_depth if is_last else 8,
    )


def _side(side: int, scale: float) -> int:
    return max(SIZE_MIN, round(side * scale / SIZE_MULTIPLE) * SIZE_MULTIPLE)


def resized(picture: Picture, size: tuple[int, int]) -> Picture:
    """A (height, width, 3) uint8 picture at another size (width, height); as it is where it has that size."""
    import numpy as np
    from PIL import Image

    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def resized_mask(mask: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """A (height, width) mask, 0..1, at another size. What any part of a pixel keeps is less free, never more."""
    import numpy as np
    from PIL import Image

    if (mask.shape[1], mask.shape[0]) == size:
        return mask
    scaled = np.array(Image.fromarray(mask).resize(size, Image.Resampling.BOX))
    return scaled.clip(0.0, 1.0)


def maps_at(maps: ControlMaps, size: tuple[int, int]) -> ControlMaps:
    """What controls are drawn from, at another size (width, height), so that a line is as bright there, and as thin.

    Depth and normals are those of the nearest pixels: between a thing and the sky there is nothing.
    """
    import numpy as np

    def nearest(array: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        if array is None:
            return None
        places = [
            ((np.arange(n) + 0.5) * old / n).astype(np.intp) for n, old in zip(size[::-1], array.shape, strict=False)
        ]
        return np.ascontiguousarray(array[np.ix_(*places)])

    line = maps.line
    if line is not None:
        for axis, n in enumerate(size[::-1]):
            line = np.maximum.reduceat(line, np.arange(n) * line.shape[axis] // n, axis=axis)
    colour = resized(maps.colour, size) if maps.colour is not None else None
    return ControlMaps(nearest(maps.depth), nearest(maps.normal), line, colour, maps.pose)


def next_image(
    so_far: Picture, size: tuple[int, int], original: Picture | None, mask: NDArray[np.float32] | None
) -> Picture:
    """The picture that a pass starts from: the one so far, at the pass's size.

    What the mask keeps is the artist's own picture again, which a smaller pass has seen only coarsely.
    """
    import numpy as np

    image = resized(so_far, size)
    if original is None or mask is None:
        return image
    return np.where((mask == 0.0)[..., None], resized(original, size), image)
