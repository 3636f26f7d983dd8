"""Memory that was freed and will be needed again: the C library of GNU is told to keep it for a while.

By default it gives every large array back to the system as soon as it is freed, and the system clears and maps each
page of the next one anew: about a quarter of the CPU time of a movie.
"""

from __future__ import annotations

import ctypes
import gc
import os
from typing import Any

ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
"""Variables for a process that is to be started: a thread's own arena holds no large array."""

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8  # of malloc.h
_MOST = 2**31 - 1
_STEP = 2**26


def _find(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):  # only the C library of GNU has it
        return None


_mallopt, _trim = _find("mallopt"), _find("malloc_trim")


def keep_freed_memory() -> None:
    """Let this process keep the memory of freed arrays for the next ones; elsewhere than on GNU systems do nothing."""
    for name in ONE_ARENA:
        os.environ.pop(name, None)  # it was for this process, not for the programs it starts
    if _mallopt is not None:
        for option, value in ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, _MOST), (_TOP_PAD, _STEP)):
            _mallopt(option, value)


def give_freed_memory_back() -> None:
    """Give back to the system what is free."""
    gc.collect()
    if _trim is not None:
        _trim(0)
