"""What an exception means: the causes that are known by their type, or by what the libraries say of them.

Importing this loads neither torch nor any other library: an error of theirs is there only if they are.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..wire import Failure, FailureError
from . import access, device, files, memory, parts
from .case import Case
from .memory import is_out_of_memory

if TYPE_CHECKING:
    from ..wire import GenerationRequest

__all__ = ["is_out_of_memory", "recognised"]
RULES: tuple[Callable[[Case], Failure | None], ...] = (
    memory.out_of_memory,
    device.device_unusable,
    files.disk_full,
    access.no_access,
    files.damaged,
    files.missing,
    files.not_permitted,
    parts.other_device,
    parts.other_number_format,
    parts.other_shape,
    parts.killed,
    parts.not_installed,
)
"""Asked in this order; what is particular goes before what is general."""


def recognised(error: BaseException, request: GenerationRequest | None = None) -> Failure | None:
    """The Failure of a known cause, of the error or of what it was raised from; None for a cause that is not known.

    request: what was to be painted, for sentences that say its size, its controls and its model.
    """
    detail = "".join(traceback.format_exception(error))
    for one in _chain(error):
        if isinstance(one, FailureError):
            return one.failure
        case = Case(one, str(one), detail, request)
        for rule in RULES:
            found = rule(case)
            if found is not None:
                return found
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from, and so on."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        yield one
        seen.add(id(one))
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
