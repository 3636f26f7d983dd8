"""How the frames of a movie come from the host to a device: whole where they fit, else in batches while one is used.

Counts cross as the integers they are, from page-locked memory, over a stream of their own, into one of two buffers
while the other is used. On numpy there is nothing to do; a stand-in for a device copies at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from focusnb.ops.backend import Array

BUFFERS = 2
FIXED = 110
"""Bytes for each pixel of a frame that sums, their spectra and transforms take at their most, with halves."""
BINNED = 6.0
"""Bytes for each binned pixel of each frame, which its copy and the spectra of its patches take."""
SHARE = 0.9
"""Of the free memory that may be planned with: what is freed lies scattered."""


def device_memory(frames: int, pixels: int, itemsize: int, *, binning: int = 1, resident: bool = False) -> int:
    """Return the bytes of device memory that motion correction takes at its most.

    frames, pixels : of the movie, and of each of them
    itemsize : bytes of a count
    binning : pixels of the movie along a pixel of its alignment
    resident : whether all frames lie there; else as few as can
    """
    held = frames if resident else min(frames, BUFFERS)
    return int(pixels * (FIXED + BINNED * frames / binning**2 + itemsize * held))


def free_memory(xp: Any) -> int | None:
    """Return the bytes that are free on the device of an array module; None where it has none of its own."""
    if xp.__name__ != "cupy":
        return None
    free = int(xp.cuda.Device().mem_info[0])
    return free + int(xp.get_default_memory_pool().free_bytes())


@dataclass(frozen=True)
class Plan:
    """Where the frames of a movie lie while it is corrected.

    resident : on the device, all of them
    batch : frames that cross together otherwise
    """

    resident: bool
    batch: int


def plan_transfer(shape: tuple[int, int, int], itemsize: int, free: int | None, *, binning: int = 1) -> Plan:
    """Choose where the frames of a movie lie.

    shape : frames, rows, columns
    itemsize : bytes of a count
    binning : pixels of the movie along a pixel of its alignment
    free : bytes of device memory; None where there is no limit
    Raises ValueError, with both numbers, where not even single frames fit.
    """
    frames, pixels = shape[0], shape[1] * shape[2]
    if free is None:
        return Plan(True, frames)
    usable = SHARE * free
    if device_memory(frames, pixels, itemsize, binning=binning, resident=True) <= usable:
        return Plan(True, frames)
    least = device_memory(frames, pixels, itemsize, binning=binning)
    if least > usable:
        raise ValueError(
            f"{frames} frames of {shape[2]} x {shape[1]} pixels need {least / 1e9:.1f} GB of GPU memory, and "
            f"{usable / 1e9:.1f} GB are free; process without the GPU, or with fewer workers on it"
        )
    return Plan(False, int((usable - least) // (BUFFERS * pixels * itemsize)) + 1)


def host_room(xp: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return memory of the host to decode into: page-locked for a device, so that copies overlap with work."""
    if xp.__name__ == "cupy":
        # not of cupy's pool, which takes powers of two and keeps them
        kind, count = np.dtype(dtype), math.prod(shape)
        held = xp.cuda.PinnedMemoryPointer(xp.cuda.PinnedMemory(max(count * kind.itemsize, 1)), 0)
        return np.frombuffer(held, kind, count).reshape(shape)
    return np.empty(shape, dtype)


def upload_frames(xp: Any, shape: tuple[int, int, int], dtype: Any, frames: Iterable[tuple[int, np.ndarray]]) -> Array:
    """Fill an array of the device with frames of the host as they come, (index, frame), and return it."""
    if xp.__name__ != "cupy":
        host = np.empty(shape, dtype)
        for index, frame in frames:
            host[index] = frame
        return xp.asarray(host)
    result = xp.empty(shape, dtype)
    copying = xp.cuda.Stream(non_blocking=True)
    copying.wait_event(xp.cuda.get_current_stream().record())  # memory of the pool may still be in use
    rooms = [host_room(xp, shape[1:], dtype) for _ in range(BUFFERS)]
    copied = [xp.cuda.Event() for _ in rooms]
    try:
        for k, (index, frame) in enumerate(frames):
            room, done = rooms[k % BUFFERS], copied[k % BUFFERS]
            done.synchronize()
            np.copyto(room, frame)
            result[index].set(room, stream=copying)
            done.record(copying)
    finally:
        # nothing may be given back while it is being copied
        copying.synchronize()
    return result


def batches(xp: Any, raw: np.ndarray, batch: int) -> Iterator[tuple[int, Array]]:
    """Yield (first index, frames on the device) of frames (t, y, x) on the host; the next cross while these are used.

    What is yielded is overwritten two batches later.
    """
    starts = range(0, len(raw), batch)
    if xp.__name__ != "cupy":
        yield from ((start, xp.asarray(raw[start : start + batch])) for start in starts)
        return
    working = xp.cuda.get_current_stream()
    copying = xp.cuda.Stream(non_blocking=True)
    rooms = [xp.empty((batch, *raw.shape[1:]), raw.dtype) for _ in range(min(BUFFERS, len(starts)))]
    used = [working.record() for _ in rooms]
    copied: list[Any] = [None for _ in rooms]

    def begin(k: int) -> None:
        part, room = raw[starts[k] : starts[k] + batch], k % len(rooms)
        copying.wait_event(used[room])
        rooms[room][: len(part)].set(part, stream=copying)
        copied[room] = copying.record()

    try:
        begin(0)
        for k, start in enumerate(starts):
            if k + 1 < len(starts):
                begin(k + 1)
            working.wait_event(copied[k % len(rooms)])
            yield start, rooms[k % len(rooms)][: min(batch, len(raw) - start)]
            used[k % len(rooms)] = working.record()
    finally:
        # the rooms go back to the pool, whose next user works on another stream
        copying.synchronize()
