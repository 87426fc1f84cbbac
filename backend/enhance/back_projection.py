"""What keeps an enlarged picture true to the one it was made of.

A network that was trained to please paints what looks right: colours drift, and shading that it takes for noise goes.
Made small again, its picture is another one. Back-projection (Irani and Peleg, "Improving resolution by image
registration", CVGIP 53(3), 1991, section 3) adds what is missing there, so that only what is finer than the picture's
own pixels is the network's.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate


def back_projected(found: Tensor, image: Tensor, amount: float) -> Tensor:
    """An enlarged picture, drawn towards the one that it was made of.

    found: (1, c, h * scale, w * scale), image: (1, c, h, w), both float32, 0..1; scale is a whole number above 1.
    amount: 0 for `found` itself, 1 for one whole step: the means over each of the picture's pixels then differ from it
    by what bicubic interpolation of the difference leaves. Reads two pixels around each.
    """
    if amount == 0.0:
        return found
    missing = image.to(found.device) - avg_pool2d(found, found.shape[-1] // image.shape[-1])
    spread = interpolate(missing.contiguous(), size=found.shape[-2:], mode="bicubic", align_corners=False)
    return spread.mul_(amount).add_(found)
