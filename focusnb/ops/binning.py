"""Coarser pixels of a frame, corrected for the gain on the way: means over blocks, and halves by taps that alias less.

A compiled kernel stands beside its plain twin. A frame is read once, and the gain once for several frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from focusnb.compiled import compiled
from focusnb.ops.backend import Array, array_namespace
from focusnb.ops.prefetch import ask_for

TOGETHER = 8
"""Frames binned and halved at the same time: the gain is fetched from memory once for all of them."""

_TAPS = 8


def bin_frame(frame: Array, gain: Array | None, factor: int) -> Array:
    """Multiply a frame (y, x) by the gain and average blocks: (y // factor, x // factor) float32."""
    # half precision and other byte orders are ways to store
    if not isinstance(frame, np.ndarray) or frame.dtype == np.float16 or not frame.dtype.isnative:
        return bin_plain(frame, gain, factor)
    result = np.empty((frame.shape[0] // factor, frame.shape[1] // factor), np.float32)
    if gain is None:
        _bin(frame, result, factor)
    else:
        _bin_with_gain(frame, gain, result, factor)
    return result


def bin_plain(frame: Array, gain: Array | None, factor: int) -> Array:
    """Plain twin of ``bin_frame``."""
    xp = array_namespace(frame)
    ny, nx = int(frame.shape[0]) // factor, int(frame.shape[1]) // factor
    part = (slice(ny * factor), slice(nx * factor))
    values = frame[part].astype(xp.float32)
    if gain is not None:
        values = values * gain[part]
    return values.reshape(ny, factor, nx, factor).sum(axis=(1, 3)) / float(factor * factor)


def halve(image: Array) -> Array:
    """Return an image (y, x) with half as many rows and columns, by eight taps along each axis.

    A pixel lies in the middle of two, as a mean of both would; but what would alias is damped, what would not is kept:
    blocks of twice the size cost a quarter of the information that tells shifts.
    """
    if not isinstance(image, np.ndarray):
        return halve_plain(image)
    result = np.zeros((1, image.shape[0] // 2, image.shape[1] // 2), np.float32)
    add_halved(image[None], None, 1, result)
    return result[0]


def halve_plain(image: Array) -> Array:
    """Plain twin of ``halve``."""
    xp = array_namespace(image)
    taps = _taps()
    for _ in range(2):
        rows = 2 * (int(image.shape[0]) // 2)
        padded = xp.concatenate([image[:1]] * 3 + [image[:rows]] + [image[rows - 1 : rows]] * 3)
        lines = padded[0:rows:2] * float(taps[0])
        for i in range(1, len(taps)):
            lines = lines + padded[i : i + rows : 2] * float(taps[i])
        image = lines.T
    return image


def add_halved(
    frames: NDArray[Any],
    gain: NDArray[np.float32] | None,
    block: int,
    totals: NDArray[np.float32],
    *,
    first: int = 0,
    group: int = 1,
) -> None:
    """Add frames on the host, binned and halved, to sums over groups of them: ``halve(bin_frame(frame, gain, block))``.

    frames : (t, y, x) of any real type
    gain : (y, x) or None
    totals : (groups, y // block // 2, x // block // 2); frame i is added to that of number (first + i) // group
    """
    frames = np.ascontiguousarray(frames)
    factor = np.ones((1, frames.shape[2]), np.float32) if gain is None else np.ascontiguousarray(gain, np.float32)
    for start in range(0, len(frames), TOGETHER):
        _add_halved(frames[start : start + TOGETHER], factor, block, _taps(), totals, first + start, group)


def _taps() -> NDArray[np.float32]:
    """Return a windowed sinc that ends at half of Nyquist, of sum 1."""
    distance = np.arange(_TAPS) - 3.5
    taps = np.sinc(0.5 * distance) * np.i0(2.0 * np.sqrt(1.0 - (distance / 4.0) ** 2))
    result: NDArray[np.float32] = (taps / taps.sum()).astype(np.float32)
    return result


# Inner loops are functions of one-dimensional slices: two indices with their wrap-around keep numba from vectorising.
@compiled
def _add_product(row: Array, gain: Array, line: Array) -> None:
    for x in range(line.shape[0]):
        line[x] += np.float32(row[x]) * gain[x]


@compiled
def _set_two_products(rows: tuple[Array, Array], gains: tuple[Array, Array], line: Array) -> None:
    """Fill a line with the sum of two rows times their gain."""
    first, second = rows
    gain_first, gain_second = gains
    for x in range(line.shape[0]):
        line[x] = np.float32(first[x]) * gain_first[x] + np.float32(second[x]) * gain_second[x]


@compiled
def _add(row: Array, line: Array) -> None:
    for x in range(line.shape[0]):
        line[x] += np.float32(row[x])


@compiled
def _fold_two(line: Array, result: Array, scale: Any) -> None:
    for x in range(result.shape[0]):
        result[x] = (line[2 * x] + line[2 * x + 1]) * scale


@compiled
def _fold(line: Array, result: Array, factor: int) -> None:
    scale = np.float32(1.0 / (factor * factor))
    if factor == 2:
        _fold_two(line, result, scale)
        return
    for x in range(result.shape[0]):
        total = np.float32(0.0)
        for i in range(factor):
            total += line[x * factor + i]
        result[x] = total * scale


@compiled
def _bin_row(rows: Array, gain: Array, line: Array, result: Array, factor: int) -> None:
    """Average the blocks of as many rows as a block has; of the gain there may be one row for all."""
    width, last = line.shape[0], gain.shape[0] - 1
    begun = 0
    if factor % 2 == 0:
        _set_two_products((rows[0, :width], rows[1, :width]), (gain[0, :width], gain[min(1, last), :width]), line)
        begun = 2
    else:
        line[:] = 0.0
    for i in range(begun, factor):
        _add_product(rows[i, :width], gain[min(i, last), :width], line)
    _fold(line, result, factor)


@compiled
def _bin_with_gain(frame: Array, gain: Array, result: Array, factor: int) -> None:
    line = np.empty(result.shape[1] * factor, np.float32)
    for y in range(result.shape[0]):
        top = y * factor
        _bin_row(frame[top : top + factor], gain[top : top + factor], line, result[y], factor)


@compiled
def _bin(frame: Array, result: Array, factor: int) -> None:
    width = result.shape[1] * factor
    line = np.empty(width, np.float32)
    for y in range(result.shape[0]):
        line[:] = 0.0
        for i in range(factor):
            _add(frame[y * factor + i, :width], line)
        _fold(line, result[y], factor)


@compiled
def _part(line: Array, parted: Array) -> None:
    """Put the pixels of even number first, then those of odd number."""
    half = parted.shape[0] // 2
    for x in range(half):
        parted[x] = line[2 * x]
        parted[half + x] = line[2 * x + 1]


@compiled
def _filter_rows(room: Array, place: int, last: int, taps: Array, even: Array, odd: Array) -> None:
    """Weigh the rows ``place`` ... ``place`` + 7 of an image, of which room (8, x) holds the latest, parted."""
    a, b = room[min(max(place, 0), last) % 8], room[min(max(place + 1, 0), last) % 8]
    c, d = room[min(max(place + 2, 0), last) % 8], room[min(max(place + 3, 0), last) % 8]
    e, f = room[min(max(place + 4, 0), last) % 8], room[min(max(place + 5, 0), last) % 8]
    g, h = room[min(max(place + 6, 0), last) % 8], room[min(max(place + 7, 0), last) % 8]
    # the taps are alike on both sides
    p, q, r, s = taps[0], taps[1], taps[2], taps[3]
    half = even.shape[0]
    for x in range(half):
        even[x] = p * (a[x] + h[x]) + q * (b[x] + g[x]) + r * (c[x] + f[x]) + s * (d[x] + e[x])
    for i in range(half):
        x = half + i
        odd[i] = p * (a[x] + h[x]) + q * (b[x] + g[x]) + r * (c[x] + f[x]) + s * (d[x] + e[x])


@compiled
def _filter_columns(even: Array, odd: Array, taps: Array, total: Array) -> None:
    """Weigh eight columns about each pair: two more lie at both ends, so pixel 2x - 3 is odd[x], 2x - 2 even[x + 1]."""
    p, q, r, s = taps[0], taps[1], taps[2], taps[3]
    for x in range(total.shape[0]):
        total[x] += (
            p * (odd[x] + even[x + 4])
            + q * (even[x + 1] + odd[x + 3])
            + r * (odd[x + 1] + even[x + 3])
            + s * (even[x + 2] + odd[x + 2])
        )


@compiled
def _add_halved(frames: Array, gain: Array, block: int, taps: Array, totals: Array, first: int, group: int) -> None:
    """Add few frames to their totals; of the binned rows of each frame only the last eight are kept."""
    count, half = frames.shape[0], totals.shape[2]
    last = 2 * totals.shape[1] - 1
    room = np.empty((count, 8, 2 * half), np.float32)
    line, binned = np.empty(2 * half * block, np.float32), np.empty(2 * half, np.float32)
    even, odd = np.empty(half + 4, np.float32), np.empty(half + 4, np.float32)
    ready = 0
    for y in range(totals.shape[1]):
        while ready <= min(2 * y + 4, last):
            top = ready * block
            below = gain if gain.shape[0] == 1 else gain[top : top + block]
            for t in range(count):
                _bin_row(frames[t, top : top + block], below, line, binned, block)
                _part(binned, room[t, ready % 8])
                # frames lie far apart in memory: the next rows of this one are asked for while the others are binned
                ask_for(frames[t], top + block, 0, block, line.shape[0])
            ready += 1
        for t in range(count):
            _filter_rows(room[t], 2 * y - 3, last, taps, even[2:-2], odd[2:-2])
            even[:2], odd[:2] = even[2], even[2]
            even[-2:], odd[-2:] = odd[-3], odd[-3]
            _filter_columns(even, odd, taps, totals[(first + t) // group, y])
