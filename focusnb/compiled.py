"""Compile kernels for arrays on the host, and hold the one that files and measures share.

A kernel is serial and releases the GIL: numba's ``parallel=True`` called from two Python threads can abort the
process, so callers share rows or frames among their own threads instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Return the function compiled on first use and cached on disk; sums may be reordered, NaN is respected."""
    kernel: Function = numba.njit(
        cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "arcp", "nsz"}
    )(function)
    return kernel


@compiled
def _sums_of_row(row: Any, centre: Any) -> tuple[Any, Any]:
    total, squares = 0.0, 0.0
    for x in range(row.shape[0]):
        value = np.float64(row[x]) - centre
        total += value
        squares += value * value
    return total, squares


@compiled
def sums_about(image: Any, centre: Any) -> tuple[Any, Any]:
    """Return the sums over an image (y, x) of its differences from a value, and of their squares."""
    total, squares = 0.0, 0.0
    for y in range(image.shape[0]):
        added, squared = _sums_of_row(image[y], centre)
        total += added
        squares += squared
    return total, squares
