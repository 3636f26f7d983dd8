"""Sum moved frames in real space, all sums in one pass over the movie: the kernel of the host.

A tile of the sums stays in the cache while all frames are read: each frame's counts around the tile are multiplied by
the gain, interpolated along y, then along x, and added to every sum with the weight it has there. The shift varies over
the tile by cells: within a cell whole pixels are the same, the taps change linearly along x.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focusnb.compiled import compiled
from focusnb.ops.backend import Array
from focusnb.ops.motion.cells import COLUMNS, ROWS, Cells
from focusnb.ops.motion.interpolation import BEFORE, MARGIN, PHASES, TAPS
from focusnb.ops.prefetch import ask_for

FloatArray = NDArray[np.floating[Any]]

TOGETHER = 4  # frames interpolated before they are added: the sums are fetched from the cache once for all of them

LANES = 16  # pixels of a register, in whose multiples rows of the room are laid out

STEADY = 0.02  # px of change over a cell that need not be followed


def add_moved(
    raw: Array,
    gain: Array | None,
    shifts: FloatArray,
    weights: Array,
    taps: Array,
    totals: Array,
    cells: Cells,
    *,
    threads: int = 1,
    begin: bool = False,
) -> None:
    """Add moved frames to sums: totals[r] += Σ_t weights[r, t] · (raw[t] · gain)(place − shift_t(place)).

    raw : (t, y, x) of any real type, repaired
    gain : (y, x) float32 or None
    shifts : (t, 2, 6) of ``cells.polynomials``
    weights : (sums, t) float32
    taps : table of ``interpolation.design_taps``
    totals : (sums, rows, columns) float32, not smaller than a frame, whose corner is added to
    begin : what that corner held before does not count
    What lies outside a frame is mirrored. The result does not depend on the number of threads.
    """
    raw, ny = np.ascontiguousarray(raw), raw.shape[1]
    factor = np.ones((1, raw.shape[2]), np.float32) if gain is None else np.ascontiguousarray(gain)

    def add(first_row: int) -> None:
        _add_tiles(raw, factor, shifts, weights, taps, totals, first_row, cells, begin)

    with ThreadPoolExecutor(max(threads, 1)) as pool:
        list(pool.map(add, range(0, ny, ROWS)))


# Kernels take flat arrays and offsets without a sign: slices are counted references, which cost more than the pixels
# of a register, and a second index with its wrap-around keeps numba from vectorising.
@compiled
def _multiply(
    frame: Array,
    at: int,
    gain: Array,
    gain_at: int,
    step: int,
    gain_step: int,
    block: Array,
    into: int,
    size: tuple[int, int],
) -> None:
    """Fill rows of a block with counts times the gain; ``step`` apart in the frame, ``gain_step`` in the gain."""
    stride = block.shape[1]
    flat = block.reshape(-1)
    for y in range(size[0]):
        a, g, b = np.uintp(at + y * step), np.uintp(gain_at + y * gain_step), np.uintp(into + y * stride)
        for x in range(np.uintp(size[1])):
            flat[b + x] = np.float32(frame[a + x]) * gain[g + x]


@compiled
def _filter(source: Array, at: int, step: int, taps: Array, slopes: Array, line: Array, into: int, width: int) -> None:
    """Fill line[into + x] = Σ_j (taps[j] + x slopes[j]) source[at + x + j step]."""
    ta, tb, tc, td, te, tf = taps[0], taps[1], taps[2], taps[3], taps[4], taps[5]
    sa, sb, sc, sd, se, sf = slopes[0], slopes[1], slopes[2], slopes[3], slopes[4], slopes[5]
    a, s, o = np.uintp(at), np.uintp(step), np.uintp(into)
    b = a + s
    c = b + s
    d = c + s
    e = d + s
    f = e + s
    for x in range(np.uintp(width)):
        i = np.float32(np.int32(x))
        line[o + x] = (
            (ta + i * sa) * source[a + x]
            + (tb + i * sb) * source[b + x]
            + (tc + i * sc) * source[c + x]
            + (td + i * sd) * source[d + x]
            + (te + i * se) * source[e + x]
            + (tf + i * sf) * source[f + x]
        )


@compiled
def _filter_steady(source: Array, at: int, step: int, taps: Array, line: Array, into: int, width: int) -> None:
    """Fill line[into + x] = Σ_j taps[j] source[at + x + j step]."""
    ta, tb, tc, td, te, tf = taps[0], taps[1], taps[2], taps[3], taps[4], taps[5]
    a, s, o = np.uintp(at), np.uintp(step), np.uintp(into)
    b = a + s
    c = b + s
    d = c + s
    e = d + s
    f = e + s
    for x in range(np.uintp(width)):
        line[o + x] = (
            ta * source[a + x]
            + tb * source[b + x]
            + tc * source[c + x]
            + td * source[d + x]
            + te * source[e + x]
            + tf * source[f + x]
        )


@compiled
def _add_to_five(moved: Array, weights: Array, first: int, sums: Array) -> None:
    """Add four moved tiles to five sums from the first one on: each tile is fetched once for all of them."""
    w = weights
    size = np.uintp(ROWS * COLUMNS)
    o = np.uintp(first) * size
    p = o + size
    q = p + size
    r = q + size
    s = r + size
    i, f = size, np.uintp(first)
    for x in range(size):
        a, b, c, d = moved[x], moved[i + x], moved[i + i + x], moved[i + i + i + x]
        sums[o + x] += w[f, 0] * a + w[f, 1] * b + w[f, 2] * c + w[f, 3] * d
        sums[p + x] += w[f + 1, 0] * a + w[f + 1, 1] * b + w[f + 1, 2] * c + w[f + 1, 3] * d
        sums[q + x] += w[f + 2, 0] * a + w[f + 2, 1] * b + w[f + 2, 2] * c + w[f + 2, 3] * d
        sums[r + x] += w[f + 3, 0] * a + w[f + 3, 1] * b + w[f + 3, 2] * c + w[f + 3, 3] * d
        sums[s + x] += w[f + 4, 0] * a + w[f + 4, 1] * b + w[f + 4, 2] * c + w[f + 4, 3] * d


@compiled
def _add_to_one(moved: Array, weights: Array, first: int, sums: Array) -> None:
    """Add four moved tiles to one sum."""
    wa, wb, wc, wd = weights[first, 0], weights[first, 1], weights[first, 2], weights[first, 3]
    size = np.uintp(ROWS * COLUMNS)
    o, i = np.uintp(first) * size, size
    for x in range(size):
        sums[o + x] += wa * moved[x] + wb * moved[i + x] + wc * moved[i + i + x] + wd * moved[i + i + i + x]


@compiled
def _add(line: Array, total: Array) -> None:
    for x in range(total.shape[0]):
        total[x] += line[x]


@compiled
def _set(line: Array, total: Array) -> None:
    for x in range(total.shape[0]):
        total[x] = line[x]


@compiled
def _mirror(i: int, size: int) -> int:
    if 0 <= i < size:
        return i
    i %= 2 * size
    return i if i < size else 2 * size - 1 - i


@compiled
def _load(frame: Array, gain: Array, top: int, left: int, block: Array, height: int, width: int) -> None:
    """Fill a block with the corrected counts from row ``top`` and column ``left``, mirrored outside the frame."""
    ny, nx = frame.shape
    flat, gains = frame.reshape(-1), gain.reshape(-1)
    gain_step = nx if gain.shape[0] > 1 else 0
    if top >= 0 and left >= 0 and top + height <= ny and left + width <= nx:
        _multiply(flat, top * nx + left, gains, top * gain_step + left, nx, gain_step, block, 0, (height, width))
        return
    before, stop = min(max(-left, 0), width), max(min(nx - left, width), 0)
    for i in range(height):
        y = _mirror(top + i, ny)
        at, gain_at = y * nx, y * gain_step
        if stop > before:
            first = left + before
            _multiply(
                flat, at + first, gains, gain_at + first, 0, 0, block, i * block.shape[1] + before, (1, stop - before)
            )
        for j in range(min(before, width)):
            x = _mirror(left + j, nx)
            block[i, j] = np.float32(flat[at + x]) * gains[gain_at + x]
        for j in range(max(stop, before), width):
            x = _mirror(left + j, nx)
            block[i, j] = np.float32(flat[at + x]) * gains[gain_at + x]


@compiled
def _place_cells(
    shifts: Array, shape: tuple[int, int], top: int, left: int, rows: int, columns: int, cells: Array
) -> None:
    """Fill (cell, 6): whole pixels to the source in y and x, fractions where the cell begins in x, their slopes."""
    ny, nx = shape
    k = 0
    for cy in range(ROWS // rows):
        for cx in range(COLUMNS // columns):
            Y = (top + cy * rows + 0.5 * (rows - 1)) / ny - 0.5
            X = (left + (cx + 0.5) * columns) / nx - 0.5
            for axis in range(2):
                c = shifts[axis]
                source = -(c[0] + X * (c[1] + X * c[3] + Y * c[5]) + Y * (c[2] + Y * c[4]))
                slope = -(c[1] + 2.0 * X * c[3] + Y * c[5]) / nx
                whole = math.floor(source)
                cells[k, axis] = whole
                cells[k, 2 + axis] = source - whole - 0.5 * columns * slope
                cells[k, 4 + axis] = slope
            k += 1


@compiled
def _interpolate_taps(table: Array, fraction: float, slope: float, columns: int, taps: Array, slopes: Array) -> None:
    """Take the taps at the first column of a cell and their change from column to column."""
    last = table.shape[0] - 1
    first = min(max(int((fraction + MARGIN) * PHASES + 0.5), 0), last)
    second = min(max(int((fraction + slope * columns + MARGIN) * PHASES + 0.5), 0), last)
    for j in range(TAPS):
        taps[j] = table[first, j]
        slopes[j] = (table[second, j] - table[first, j]) / np.float32(columns)


@compiled
def _move(
    block: Array,
    cells: Array,
    table: Array,
    low: tuple[int, int],
    size: tuple[int, int],
    room: tuple[Array, Array],
    moved: Array,
    into: int,
) -> None:
    """Interpolate a tile from its block, cell by cell."""
    rows, columns = size
    taps, line = room
    stride, flat = block.shape[1], block.reshape(-1)
    across, s_across, along, s_along = taps[0], taps[1], taps[2], taps[3]
    k = 0
    for cy in range(ROWS // rows):
        for cx in range(COLUMNS // columns):
            x = cx * columns
            at = (cy * rows + int(cells[k, 0]) - low[0]) * stride + x + int(cells[k, 1]) - low[1]
            slope_y, slope_x = cells[k, 4], cells[k, 5]
            _interpolate_taps(table, cells[k, 2], slope_y, columns, across, s_across)
            _interpolate_taps(table, cells[k, 3], slope_x, columns, along, s_along)
            for j in range(TAPS):
                across[j] -= BEFORE * s_across[j]
            steady_y, steady_x = abs(slope_y) * columns < STEADY, abs(slope_x) * columns < STEADY
            for y in range(rows):
                # a register more than the columns holds what the taps along x reach for
                if steady_y:
                    _filter_steady(flat, at + y * stride, stride, across, line, 0, columns + LANES)
                else:
                    _filter(flat, at + y * stride, stride, across, s_across, line, 0, columns + LANES)
                result = into + (cy * rows + y) * COLUMNS + x
                if steady_x:
                    _filter_steady(line, 0, 1, along, moved, result, columns)
                else:
                    _filter(line, 0, 1, along, s_along, moved, result, columns)
            k += 1


@compiled
def _add_tile(
    raw: Array,
    gain: Array,
    shifts: Array,
    weights: Array,
    table: Array,
    corner: tuple[int, int],
    size: tuple[int, int],
    block: Array,
    room: tuple[Array, Array],
    moved: Array,
    local: Array,
) -> None:
    """Interpolate all frames at one tile and add them to its local sums, flat."""
    rows, columns = size
    shape = raw.shape[1:]
    cells = np.empty(((ROWS // rows) * (COLUMNS // columns), 6))
    four = np.zeros((weights.shape[0], TOGETHER), np.float32)
    for first in range(0, raw.shape[0], TOGETHER):
        count = min(TOGETHER, raw.shape[0] - first)
        for g in range(count):
            t = first + g
            _place_cells(shifts[t], shape, corner[0], corner[1], rows, columns, cells)
            low = (int(cells[:, 0].min()), int(cells[:, 1].min()))
            # of the last tiles only what lies in the field
            height = int(cells[:, 0].max()) - low[0] + min(ROWS, shape[0] - corner[0]) + TAPS - 1
            width = int(cells[:, 1].max()) - low[1] + min(COLUMNS, shape[1] - corner[1]) + TAPS - 1
            top, left = corner[0] + low[0] - BEFORE, corner[1] + low[1] - BEFORE
            _load(raw[t], gain, top, left, block, height, width)
            # rows of a tile are too short for the processor to see them coming: the next frame is asked for now, or
            # the next tile, whose gain is asked for bit by bit
            if t + 1 < raw.shape[0]:
                ask_for(raw[t + 1], top, left, height, width)
            else:
                ask_for(raw[0], top, left + COLUMNS, height, width)
            if gain.shape[0] > 1:
                row, until = t * height // raw.shape[0], (t + 1) * height // raw.shape[0]
                ask_for(gain, top + row, left + COLUMNS, until - row, width)
            _move(block, cells, table, low, size, room, moved, g * ROWS * COLUMNS)
        four[:] = 0.0
        four[:, :count] = weights[:, first : first + count]
        r = 0
        while r + 5 <= weights.shape[0]:
            _add_to_five(moved, four, r, local)
            r += 5
        for one in range(r, weights.shape[0]):
            _add_to_one(moved, four, one, local)


@compiled
def _aligned(size: int) -> Array:
    """Return zeros, (size,) float32, that begin where a line of the cache does."""
    room = np.zeros(size + LANES, np.float32)
    start = (-(room.ctypes.data // 4)) % LANES
    return room[start : start + size]


@compiled
def _add_tiles(
    raw: Array,
    gain: Array,
    shifts: Array,
    weights: Array,
    table: Array,
    totals: Array,
    top: int,
    cells: Cells,
    begin: bool,
) -> None:
    """Add all frames to the tiles of one row of tiles."""
    ny, nx = raw.shape[1:]
    rows, columns, spread = cells
    # what lies beyond the counts in a row is read, but not used
    stride = -(-(COLUMNS + LANES + spread) // LANES) * LANES
    height = ROWS + TAPS - 1 + spread
    block = _aligned(height * stride).reshape((height, stride))
    room = (np.empty((4, TAPS), np.float32), _aligned(COLUMNS + LANES))
    moved = _aligned(TOGETHER * ROWS * COLUMNS)
    local = _aligned(weights.shape[0] * ROWS * COLUMNS)
    for left in range(0, nx, COLUMNS):
        local[:] = 0.0
        _add_tile(raw, gain, shifts, weights, table, (top, left), (rows, columns), block, room, moved, local)
        width = min(COLUMNS, nx - left)
        for r in range(weights.shape[0]):
            for y in range(min(ROWS, ny - top)):
                start = (r * ROWS + y) * COLUMNS
                total = totals[r, top + y, left : left + width]
                if begin:
                    _set(local[start : start + width], total)
                else:
                    _add(local[start : start + width], total)
