"""Numpy or cupy, by the array given.

Functions in ``ops`` ask their first array for its namespaces and never name numpy for data:

    xp = array_namespace(image)
    fft = fft_namespace(image)
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
import scipy.ndimage

Array = Any


class Namespaces(NamedTuple):
    """The modules that work on one type of array."""

    xp: Any
    fft: Any
    ndimage: Any


_NUMPY = Namespaces(np, scipy.fft, scipy.ndimage)
_registered: dict[type, Namespaces] = {}


def register_array(array_type: type, namespaces: Namespaces) -> None:
    """Let arrays of another type through ``ops`` (tests register a strict stand-in)."""
    _registered[array_type] = namespaces


def namespaces(*arrays: Array) -> Namespaces:
    """Return the modules for these arrays; scalars and None are ignored.

    Raises TypeError when host and device arrays are mixed: a silent copy would hide the cost.
    """
    found: Namespaces | None = None
    cupy = sys.modules.get("cupy")  # never imported here: without it no array can be on a device
    for array in arrays:
        if array is None or isinstance(array, (int, float, complex, np.generic, list, tuple)):
            continue
        if type(array) in _registered:
            here = _registered[type(array)]
        elif cupy is not None and isinstance(array, cupy.ndarray):
            here = _cupy()
        elif isinstance(array, np.ndarray):
            here = _NUMPY
        else:
            raise TypeError(f"expected an array, got {type(array).__name__}")
        if found is not None and found.xp is not here.xp:
            raise TypeError(f"arrays of {found.xp.__name__} and {here.xp.__name__} are mixed in one call")
        found = here
    return found or _NUMPY


def _cupy() -> Namespaces:
    import cupy
    import cupyx.scipy.fft
    import cupyx.scipy.ndimage

    return Namespaces(cupy, cupyx.scipy.fft, cupyx.scipy.ndimage)


def array_namespace(*arrays: Array) -> Any:
    """Return numpy or cupy, whichever the arrays belong to."""
    return namespaces(*arrays).xp


def fft_namespace(*arrays: Array) -> Any:
    """Return scipy.fft or its cupy twin, whichever the arrays belong to."""
    return namespaces(*arrays).fft


def ndimage_namespace(*arrays: Array) -> Any:
    """Return scipy.ndimage or its cupy twin, whichever the arrays belong to."""
    return namespaces(*arrays).ndimage


def to_numpy(array: Array) -> np.ndarray:
    """Copy an array to the host; a numpy array is returned as it is."""
    if isinstance(array, np.ndarray):
        return array
    if type(array) in _registered:
        return np.asarray(array.unwrap())
    return np.asarray(array.get()) if hasattr(array, "get") else np.asarray(array)


def like(array: Array, values: Any, dtype: Any = None) -> Array:
    """Bring host values to where ``array`` lives."""
    return array_namespace(array).asarray(values, dtype=dtype)


def gpu_module() -> ModuleType | None:
    """Return cupy if it is installed and sees a device, else None."""
    try:
        import cupy
    except ImportError:
        return None
    return cupy if cupy.is_available() else None
