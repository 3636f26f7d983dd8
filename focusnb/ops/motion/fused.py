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

FloatArray = NDArray[np.floating[Any]]

TOGETHER = 4  # frames interpolated before they are added: the sums are fetched from the cache once for all of them

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
) -> None:
    """Add moved frames to sums: totals[r] += Σ_t weights[r, t] · (raw[t] · gain)(place − shift_t(place)).

    raw : (t, y, x) of any real type, repaired
    gain : (y, x) float32 or None
    shifts : (t, 2, 6) of ``cells.polynomials``
    weights : (sums, t) float32
    taps : table of ``interpolation.design_taps``
    totals : (sums, rows, columns) float32, not smaller than a frame, whose corner is added to
    What lies outside a frame is mirrored. The result does not depend on the number of threads.
    """
    ny = raw.shape[1]
    factor = np.ones((1, raw.shape[2]), np.float32) if gain is None else gain

    def add(first_row: int) -> None:
        _add_tiles(raw, factor, shifts, weights, taps, totals, first_row, cells.rows, cells.columns, cells.spread)

    with ThreadPoolExecutor(max(threads, 1)) as pool:
        list(pool.map(add, range(0, ny, ROWS)))


# Inner loops are functions of one-dimensional slices: two indices with their wrap-around keep numba from vectorising.
@compiled
def _multiply(row: Array, gain: Array, line: Array) -> None:
    for x in range(line.shape[0]):
        line[x] = np.float32(row[x]) * gain[x]


# One array and offsets without a sign: each further array would be compared with the others, lest they overlap.
@compiled
def _filter(source: Array, step: int, taps: Array, slopes: Array, ramp: Array, line: Array) -> None:
    """Fill line[x] = Σ_j (taps[j] + x slopes[j]) source[x + j step]."""
    ta, tb, tc, td, te, tf = taps[0], taps[1], taps[2], taps[3], taps[4], taps[5]
    sa, sb, sc, sd, se, sf = slopes[0], slopes[1], slopes[2], slopes[3], slopes[4], slopes[5]
    b = np.uintp(step)
    c, d, e, f = b + b, b + b + b, b + b + b + b, b + b + b + b + b
    for x in range(np.uintp(line.shape[0])):
        i = ramp[x]
        line[x] = (
            (ta + i * sa) * source[x]
            + (tb + i * sb) * source[x + b]
            + (tc + i * sc) * source[x + c]
            + (td + i * sd) * source[x + d]
            + (te + i * se) * source[x + e]
            + (tf + i * sf) * source[x + f]
        )


@compiled
def _filter_steady(source: Array, step: int, taps: Array, line: Array) -> None:
    """Fill line[x] = Σ_j taps[j] source[x + j step]."""
    ta, tb, tc, td, te, tf = taps[0], taps[1], taps[2], taps[3], taps[4], taps[5]
    b = np.uintp(step)
    c, d, e, f = b + b, b + b + b, b + b + b + b, b + b + b + b + b
    for x in range(np.uintp(line.shape[0])):
        line[x] = (
            ta * source[x]
            + tb * source[x + b]
            + tc * source[x + c]
            + td * source[x + d]
            + te * source[x + e]
            + tf * source[x + f]
        )


@compiled
def _add_four(line: Array, source: Array, step: int, weights: Array) -> None:
    """Add four lines of the source, ``step`` apart."""
    wa, wb, wc, wd = weights[0], weights[1], weights[2], weights[3]
    b = np.uintp(step)
    c, d = b + b, b + b + b
    for x in range(np.uintp(line.shape[0])):
        line[x] += wa * source[x] + wb * source[x + b] + wc * source[x + c] + wd * source[x + d]


@compiled
def _add(line: Array, total: Array) -> None:
    for x in range(total.shape[0]):
        total[x] += line[x]


@compiled
def _mirror(i: int, size: int) -> int:
    i %= 2 * size
    return i if i < size else 2 * size - 1 - i


@compiled
def _load(frame: Array, gain: Array, top: int, left: int, block: Array, height: int, width: int) -> None:
    """Fill a block with the corrected counts from row ``top`` and column ``left``, mirrored outside the frame."""
    ny, nx = frame.shape
    inside_from, inside_to = min(max(-left, 0), width), max(min(nx - left, width), 0)
    for i in range(height):
        y = _mirror(top + i, ny)
        g = y % gain.shape[0]
        if inside_to > inside_from:
            start, stop = left + inside_from, left + inside_to
            _multiply(frame[y, start:stop], gain[g, start:stop], block[i, inside_from:inside_to])
        for j in range(min(inside_from, width)):
            x = _mirror(left + j, nx)
            block[i, j] = np.float32(frame[y, x]) * gain[g, x]
        for j in range(max(inside_to, inside_from), width):
            x = _mirror(left + j, nx)
            block[i, j] = np.float32(frame[y, x]) * gain[g, x]


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
    block: Array, cells: Array, table: Array, low: tuple[int, int], rows: int, columns: int, taps: Array, moved: Array
) -> None:
    """Interpolate a tile from its block, cell by cell."""
    line = np.empty(columns + TAPS - 1, np.float32)
    ramp = np.arange(columns + TAPS - 1).astype(np.float32)
    flat = block.reshape(-1)
    across, s_across, along, s_along = taps[0], taps[1], taps[2], taps[3]
    k = 0
    for cy in range(ROWS // rows):
        for cx in range(COLUMNS // columns):
            x = cx * columns
            start = x + int(cells[k, 1]) - low[1]
            above = int(cells[k, 0]) - low[0]
            slope_y, slope_x = cells[k, 4], cells[k, 5]
            _interpolate_taps(table, cells[k, 2], slope_y, columns, across, s_across)
            _interpolate_taps(table, cells[k, 3], slope_x, columns, along, s_along)
            for j in range(TAPS):
                across[j] -= BEFORE * s_across[j]
            steady_y, steady_x = abs(slope_y) * columns < STEADY, abs(slope_x) * columns < STEADY
            for y in range(cy * rows, (cy + 1) * rows):
                source = flat[(y + above) * block.shape[1] + start :]
                result = moved[y, x : x + columns]
                if steady_y:
                    _filter_steady(source, block.shape[1], across, line)
                else:
                    _filter(source, block.shape[1], across, s_across, ramp, line)
                if steady_x:
                    _filter_steady(line, 1, along, result)
                else:
                    _filter(line, 1, along, s_along, ramp, result)
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
    moved: Array,
    local: Array,
) -> None:
    """Interpolate all frames at one tile and add them to its local sums."""
    rows, columns = size
    shape = raw.shape[1:]
    cells = np.empty(((ROWS // rows) * (COLUMNS // columns), 6))
    taps = np.empty((4, TAPS), np.float32)
    four = np.zeros(TOGETHER, np.float32)
    flat = moved.reshape(-1)
    for first in range(0, raw.shape[0], TOGETHER):
        count = min(TOGETHER, raw.shape[0] - first)
        for g in range(count):
            t = first + g
            _place_cells(shifts[t], shape, corner[0], corner[1], rows, columns, cells)
            low = (int(cells[:, 0].min()), int(cells[:, 1].min()))
            height = int(cells[:, 0].max()) - low[0] + ROWS + TAPS - 1
            width = int(cells[:, 1].max()) - low[1] + COLUMNS + TAPS - 1
            _load(raw[t], gain, corner[0] + low[0] - BEFORE, corner[1] + low[1] - BEFORE, block, height, width)
            _move(block, cells, table, low, rows, columns, taps, moved[g])
        for r in range(weights.shape[0]):
            four[:] = 0.0
            four[:count] = weights[r, first : first + count]
            for y in range(ROWS):
                _add_four(local[r, y], flat[y * COLUMNS :], ROWS * COLUMNS, four)


@compiled
def _add_tiles(
    raw: Array,
    gain: Array,
    shifts: Array,
    weights: Array,
    table: Array,
    totals: Array,
    top: int,
    rows: int,
    columns: int,
    spread: int,
) -> None:
    """Add all frames to the tiles of one row of tiles."""
    ny, nx = raw.shape[1:]
    block = np.empty((ROWS + TAPS - 1 + spread, COLUMNS + TAPS - 1 + spread), np.float32)
    moved = np.zeros((TOGETHER, ROWS, COLUMNS), np.float32)
    local = np.empty((weights.shape[0], ROWS, COLUMNS), np.float32)
    for left in range(0, nx, COLUMNS):
        local[:] = 0.0
        _add_tile(raw, gain, shifts, weights, table, (top, left), (rows, columns), block, moved, local)
        width = min(COLUMNS, nx - left)
        for r in range(weights.shape[0]):
            for y in range(min(ROWS, ny - top)):
                _add(local[r, y, :width], totals[r, top + y, left : left + width])
