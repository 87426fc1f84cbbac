"""Maps from files of any kind that is read here, by their names: arrays of numbers beside pictures and EXR."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..wire import ControlMaps, FailureError, FailureKind
from ..wire.maps import COLOURS, MAPS, SOURCES
from .map_files import read_colours, read_depth, read_grey, read_normal

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUMBERS = (".npy", ".npz")
PICTURES = (*COLOURS, "reference")
READERS: dict[str, Callable[[Path], Any]] = {
    "depth": read_depth,
    "normal": read_normal,
    "line": read_grey,
    "mask": read_grey,
    **dict.fromkeys(PICTURES, read_colours),
}
"""Of what is no file of numbers. A pose has no picture that it could be read from."""
BYTES_MAX = 2**30


def read_map_files(files: Mapping[str, Path]) -> ControlMaps:
    """The maps in these files, by the names of `ControlMaps`.

    .npy or .npz for any, as they are; else as `map_files` reads: depth from EXR, normals, lines, masks and colours from
    EXR and pictures. Their values and sizes are not checked here. Raises `FailureError` (bad_request), which names the
    file.
    """
    arrays = {}
    for name, path in files.items():
        if name not in (*MAPS, *SOURCES):
            _refuse(f"There is no map called {name!r}.", f"Use one of {', '.join((*MAPS, *SOURCES))}.")
        arrays[name] = _read(name, path)
    return ControlMaps(**arrays)


def _read(name: str, path: Path) -> NDArray[Any]:
    try:
        if path.stat().st_size > BYTES_MAX:
            _refuse(f"The file {path.name} is larger than a map can be.", "Give another file.")
        if path.suffix.lower() in NUMBERS:
            return _read_numbers(name, path)
    except FileNotFoundError:
        _refuse(f"The file {path.name} for the {name} map is not there.", "Correct its path.", str(path))
    except (OSError, ValueError, EOFError) as error:
        _refuse(f"The file {path.name} for the {name} map cannot be read.", "Write it again.", f"{path}: {error}")
    if name not in READERS:
        _refuse(f"The {name} map cannot be read from a file like {path.name}.", "Give it as .npy or .npz.")
    return READERS[name](path)


def _read_numbers(name: str, path: Path) -> NDArray[Any]:
    import zipfile

    import numpy as np

    try:
        # Opened here: of a damaged file numpy leaves its own open.
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return _as_map(name, loaded)
            if name not in loaded.files and len(loaded.files) != 1:
                _refuse(f"The file {path.name} holds no array called {name!r}.", "Name the array after the map.")
            return _as_map(name, loaded[name if name in loaded.files else loaded.files[0]])
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error


def _as_map(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Numbers of another precision in the map's own; a picture stays as it is, to be refused where it is not one."""
    import numpy as np

    if name not in PICTURES and array.dtype.kind == "f":
        return np.ascontiguousarray(array, np.float32)
    return np.ascontiguousarray(array)


def _refuse(message: str, hint: str, detail: str = "") -> NoReturn:
    raise FailureError.of(FailureKind.BAD_REQUEST, message, hint, detail)
