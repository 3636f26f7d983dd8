"""A movie corrected frame by frame, when it is asked for: raw counts stay integers in memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from focusnb.compiled import compiled
from focusnb.ops import transfer
from focusnb.ops.backend import Array, array_namespace
from focusnb.ops.binning import add_halved, bin_frame, halve
from focusnb.ops.defects import BadPixels, fill_bad_pixels, replace_bad_pixels
from focusnb.ops.fourier import pad_mean

COPIED = 16
"""Frames repaired at a time, where they have to be copied for it."""

_CHUNK = 16384
"""Pixels that are summed over all frames before the next ones: their counts stay in the nearest cache."""

_MOST_BYTES = 257
"""Bytes whose sum is within 16 bits."""


class CorrectedFrames:
    """A movie (t, y, x) whose frames are corrected for gain and bad pixels when they are taken.

    raw : (t, y, x) uint8, uint16, int16 or float32, numpy or cupy
    gain : (y, x) in the frame of the movie, corrected = raw * gain; None for a movie that is corrected already
    bad_pixels : replaced by drawn neighbours, before the gain
    seed : number of the exposure; it seeds the draw together with the number of the frame
    counts_scale : factor to counts, for linear recordings
    in_place : ``raw`` belongs to these frames: its bad pixels are replaced in it now, not in a copy of a frame whenever
        one is taken. An array that cannot be written to is left as it is.
    device, batch : module of the arrays that frames become when they are taken, for a movie on the host which does not
        fit on the device, and how many cross together; ``gain`` is there. By default they stay what ``raw`` is.
    Raises ValueError when shapes do not fit.
    """

    def __init__(
        self,
        raw: Array,
        *,
        gain: Array | None = None,
        bad_pixels: BadPixels | None = None,
        seed: int = 0,
        counts_scale: float = 1.0,
        in_place: bool = False,
        device: Any = None,
        batch: int = 1,
    ) -> None:
        xp = array_namespace(raw, gain) if device is None else device
        if raw.ndim != 3 or raw.shape[0] < 1:
            raise ValueError(f"a movie has frames, rows and columns; this array has the shape {tuple(raw.shape)}")
        frame_shape = (int(raw.shape[1]), int(raw.shape[2]))
        if gain is not None and tuple(gain.shape) != frame_shape:
            raise ValueError(f"the gain has {tuple(gain.shape)} pixels, the frames have {frame_shape}; is it turned?")
        if bad_pixels is not None and bad_pixels.shape != frame_shape:
            raise ValueError(f"the bad pixels are of frames of {bad_pixels.shape} pixels, these have {frame_shape}")
        # half precision and other byte orders are ways to store, not to compute: the compiled kernels do not take them
        stored = raw.dtype.newbyteorder("=")
        wanted = np.dtype(np.float32) if stored == np.float16 else stored
        self.raw = raw if raw.dtype == wanted else raw.astype(wanted)
        self._device, self._batch = device, batch
        self.here = self.raw if device is None else device.empty(0, dtype=np.float32)
        """An array of the kind that frames are given as."""
        self.bad_pixels = bad_pixels if bad_pixels is not None and len(bad_pixels) else None
        self.seed = seed
        self.first = 0  # recorded frames before these
        self._factor: Array | None = None
        if gain is not None:
            self._factor = xp.ascontiguousarray(gain, dtype=xp.float32)
            if counts_scale != 1.0:
                self._factor = self._factor * float(counts_scale)
            if self.bad_pixels is not None:
                # a neighbour's count is put there, so its gain belongs to it
                self._factor = fill_bad_pixels(self._factor, self.bad_pixels)
        elif counts_scale != 1.0:
            self._factor = xp.full(frame_shape, counts_scale, dtype=xp.float32)
        self._to_replace = self.bad_pixels
        flags = self.raw.flags
        # only of a contiguous array are flattened frames views
        if in_place and flags.c_contiguous and getattr(flags, "writeable", True):
            self._replace(self.raw)
            self._to_replace = None

    def between(self, first: int, stop: int) -> CorrectedFrames:
        """Return the frames first to stop (exclusive), corrected as they are here; nothing is copied."""
        if not 0 <= first < stop <= len(self):
            raise ValueError(f"frames {first} to {stop} are not within a movie of {len(self)}")
        part = copy.copy(self)
        part.raw = self.raw[first:stop]
        part.first = self.first + first
        return part

    def __len__(self) -> int:
        return int(self.raw.shape[0])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of frames, rows and columns."""
        t, y, x = self.raw.shape
        return int(t), int(y), int(x)

    def __getitem__(self, index: int) -> Array:
        """Return a corrected frame, (y, x) float32, an array of its own."""
        xp = array_namespace(self.here)
        frame = self.repaired_frame(index)
        if self._factor is not None:
            return xp.multiply(frame, self._factor, dtype=xp.float32)
        return frame.astype(xp.float32)

    def __iter__(self) -> Iterator[Array]:
        return (self[index] for index in range(len(self)))

    def repaired_frame(self, index: int) -> Array:
        """Return a raw frame (y, x) with its bad pixels replaced; not to be written to."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of a movie of {len(self)}")
        index %= len(self)
        frame = self.raw[index]
        if self._to_replace is not None:
            frame = frame.copy()
            replace_bad_pixels(frame, self._to_replace, exposure=self.seed, index=self.first + index)
        return frame if self._device is None else self._device.asarray(frame)

    def _replace(self, raw: Array) -> None:
        """Replace the bad pixels of all frames (t, y, x) in place."""
        if self._to_replace is not None:
            for t in range(len(self)):
                replace_bad_pixels(raw[t], self._to_replace, exposure=self.seed, index=self.first + t)

    @property
    def factor(self) -> Array | None:
        """What raw counts are multiplied by, (y, x) float32; None where they are as corrected."""
        return self._factor

    def batches(self) -> Iterator[tuple[int, Array]]:
        """Yield (index of the first, raw frames (t, y, x)) with their bad pixels replaced, contiguous, to be read only.

        All at once where they lie in memory as they are wanted. What is yielded may be overwritten later on.
        """
        if self._to_replace is None:
            raw = array_namespace(self.raw).ascontiguousarray(self.raw)
            yield from [(0, raw)] if self._device is None else transfer.batches(self._device, raw, self._batch)
            return
        step = COPIED if self._device is None else self._batch
        for start in range(0, len(self), step):
            part = self.between(start, min(start + step, len(self)))
            copied = array_namespace(self.raw).array(part.raw)
            part._replace(copied)
            yield start, copied if self._device is None else self._device.asarray(copied)

    def padded(self, index: int, shape: tuple[int, int], room: Array | None = None) -> Array:
        """Return a corrected frame enlarged at its far ends to ``shape``, filled with its mean.

        room : an array returned before, to be overwritten: fresh memory costs as much as the correction
        """
        frame = self.repaired_frame(index)
        if not isinstance(frame, np.ndarray):
            return pad_mean(self[index], shape)
        ny, nx = frame.shape
        if shape[0] < ny or shape[1] < nx:
            raise ValueError(f"cannot pad a frame of {ny} x {nx} pixels to {shape[0]} x {shape[1]}")
        result = np.empty(shape, np.float32) if room is None else room
        factor = np.ones((1, nx), np.float32) if self._factor is None else self._factor
        mean = _multiply(frame, factor, result) / (ny * nx)
        result[ny:, :] = mean
        result[:ny, nx:] = mean
        return result

    def binned(self, index: int, factor: int) -> Array:
        """Return a corrected frame as means over blocks of factor x factor pixels, (y // factor, x // factor) float32.

        Rows and columns that do not fill a block are left out.
        """
        return bin_frame(self.repaired_frame(index), self._factor, factor)

    def coarse_sums(self, factor: int, group: int = 1) -> Array:
        """Return sums over groups of corrected frames in coarser pixels, (groups, y // factor, x // factor) float32.

        An odd factor averages blocks of pixels; an even one blocks of half the size, which are then halved by taps.
        group : so many frames in a row are summed, the last ones with fewer
        """
        xp = array_namespace(self.here)
        _, ny, nx = self.shape
        totals = xp.zeros((-(-len(self) // group), ny // factor, nx // factor), dtype=xp.float32)
        for start, raw in self.batches():
            if factor % 2 == 0 and isinstance(raw, np.ndarray):
                add_halved(raw, self._factor, factor // 2, totals, first=start, group=group)
                continue
            for t in range(len(raw)):
                total = totals[(start + t) // group]
                if factor % 2:
                    total += bin_frame(raw[t], self._factor, factor)
                else:
                    total += halve(bin_frame(raw[t], self._factor, factor // 2))
        return totals

    def sum(self, start: int = 0, step: int = 1) -> Array:
        """Return the unaligned sum of corrected frames, (y, x) float32; step 2 with start 0 or 1 gives the halves."""
        xp = array_namespace(self.here)
        total = xp.zeros(self.raw.shape[1:], dtype=xp.float32)
        if isinstance(total, np.ndarray) and self._bytes_as_they_are:
            _sum_bytes(self.raw.reshape(len(self), -1), start, step, total.reshape(-1))
        elif isinstance(total, np.ndarray):
            for index in range(start, len(self), step):
                _accumulate(self.repaired_frame(index), total)
        else:
            for first, raw in self.batches():
                begin = start - first if first < start else (start - first) % step
                for i in range(begin, len(raw), step):
                    total += raw[i]
        if self._factor is not None:
            total *= self._factor
        return total

    @property
    def _bytes_as_they_are(self) -> bool:
        """Whether frames are bytes that lie in memory as they are wanted, so that many are added as integers."""
        return self.raw.dtype == np.uint8 and self._to_replace is None and bool(self.raw.flags.c_contiguous)

    def raw_mean(self) -> Array:
        """Return the mean raw frame, (y, x) float32, without the gain; repaired only where that was done in place."""
        return CorrectedFrames(self.raw, device=self._device, batch=self._batch).sum() / len(self)


# Inner loops are functions of one-dimensional slices: two indices with their wrap-around keep numba from vectorising.
@compiled
def _add(row: Array, line: Array) -> None:
    for x in range(line.shape[0]):
        line[x] += np.float32(row[x])


@compiled
def _multiply_row(row: Array, gain: Array, line: Array) -> float:
    total = np.float32(0.0)
    for x in range(row.shape[0]):
        value = np.float32(row[x]) * gain[x]
        line[x] = value
        total += value
    return total  # type: ignore[return-value]


@compiled
def _multiply(frame: Array, gain: Array, result: Array) -> float:
    """Fill the corner of ``result`` with frame x gain (one row of it for all, or as many as the frame) and sum it."""
    total = 0.0
    for y in range(frame.shape[0]):
        total += _multiply_row(frame[y], gain[y % gain.shape[0]], result[y, : frame.shape[1]])
    return total


@compiled
def _accumulate(frame: Array, total: Array) -> None:
    for y in range(frame.shape[0]):
        _add(frame[y], total[y])


@compiled
def _add_bytes(counts: Array, line: Array) -> None:
    for x in range(line.shape[0]):
        line[x] += np.uint16(counts[x])


@compiled
def _sum_bytes(frames: Array, start: int, step: int, total: Array) -> None:
    """Add flat frames (t, pixels) to a flat total, many frames at a time as integers of 16 bits."""
    room = np.empty(_CHUNK, np.uint16)
    for first in range(0, total.shape[0], _CHUNK):
        line = room[: min(_CHUNK, total.shape[0] - first)]
        last = first + line.shape[0]
        for begin in range(start, frames.shape[0], step * _MOST_BYTES):
            line[:] = 0
            for t in range(begin, min(begin + step * _MOST_BYTES, frames.shape[0]), step):
                _add_bytes(frames[t, first:last], line)
            _add(line, total[first:last])
