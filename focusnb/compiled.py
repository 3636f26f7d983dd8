"""Compile kernels for arrays on the host.

A kernel is serial and releases the GIL: numba's ``parallel=True`` called from two Python threads can abort the
process, so callers share rows or frames among their own threads instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Return the function compiled on first use and cached on disk; sums may be reordered, NaN is respected."""
    kernel: Function = numba.njit(
        cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "arcp", "nsz"}
    )(function)
    return kernel
