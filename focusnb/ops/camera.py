"""Look at the camera in what it recorded: its frames, what an electron adds, its hot, dead and other bad pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from focusnb.compiled import compiled
from focusnb.ops.backend import Array, array_namespace, like, to_numpy
from focusnb.ops.defects import excess_over_mean, sum_rows_around
from focusnb.ops.gain import Orientation, orientations

SAMPLE = 1 << 18
"""Pixels of a frame that tell its mean: 0.3 % at half an electron per pixel."""

_BANDS = 32
_PAIRS = 8
_FEWEST = 50.0  # counts of a band below which it may be empty by chance

DEAD_FALSE_ALARMS = 0.01
"""Good pixels of a movie that may pass for dead because no electron came."""

LINE = 0.05
"""How much a row or column must differ from its neighbours to be bad, relative to them."""


@dataclass(frozen=True)
class FrameCounts:
    """How the counts of a movie are spread over its frames.

    means : (t,) mean count of each frame relative to the median frame; 1 for all where that has none
    blank : (t,) part of each frame, in rows, that holds no counts where other frames do
    scale : variance over mean of what is counted: 1 for counted electrons, n where each adds n; None without counts
    """

    means: NDArray[np.float64]
    blank: NDArray[np.float64]
    scale: float | None


def measure_frames(raw: Array, *, bad: Array | None = None) -> FrameCounts:
    """Measure the frames of a movie on a sample of their pixels.

    raw : (t, y, x) as recorded, before pixels are replaced
    bad : (y, x) mask of pixels to leave out
    What an electron adds is told by noise: the variance of the difference of two frames over the sum of their means.
    """
    t, ny, nx = (int(length) for length in raw.shape)
    stride = max(1, math.isqrt(ny * nx // SAMPLE))
    pairs = np.unique(np.linspace(0, t - 2, min(_PAIRS, t - 1)).round().astype(int)) + 1 if t > 1 else np.zeros(0, int)
    paired = np.zeros(t, bool)
    paired[pairs] = True
    # half precision and other byte orders are ways to store
    compilable = isinstance(raw, np.ndarray) and raw.dtype != np.float16 and raw.dtype.isnative
    sampled = sample_rows if compilable else sample_rows_plain
    rows, squares, size = sampled(raw, bad, stride, paired)
    means, scales = rows.sum(axis=1), []
    for index in pairs:
        both = means[index] + means[index - 1]
        if 0 < both < math.inf:
            scales.append((squares[index] - (means[index] - means[index - 1]) ** 2 / size) / both)
    bands = [[float(part.sum()) for part in np.array_split(row, min(_BANDS, len(row)))] for row in rows]
    usual = float(np.median(means))
    if not usual > 0:
        # what has no counts, or none above an offset, tells nothing of its frames
        return FrameCounts(np.ones(t), np.zeros(t), None)
    scale = float(np.median(scales)) if scales else math.nan
    return FrameCounts(means / usual, _blank(np.array(bands)), scale if math.isfinite(scale) else None)


def sample_rows(
    raw: NDArray[Any], bad: Array | None, stride: int, paired: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Sum every n-th pixel of every n-th row of frames, and the squares of differences to the frame before.

    raw : (t, y, x); paired : (t,) frames whose differences are wanted
    bad : (y, x) mask of pixels that count as 0, wherever it lives
    Returns sums (t, rows), squares (t,), and the number of pixels of a frame that were looked at.
    """
    ny, nx = (-(-int(length) // stride) for length in raw.shape[1:])
    good = np.ones((ny, nx), bool) if bad is None else np.ascontiguousarray(~to_numpy(bad[::stride, ::stride]))
    rows, squares = np.zeros((len(raw), ny)), np.zeros(len(raw))
    _sample_rows(raw, good, stride, paired, np.zeros((2, ny, nx), np.float32), rows, squares)
    return rows, squares, ny * nx


def sample_rows_plain(
    raw: Array, bad: Array | None, stride: int, paired: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Plain twin of ``sample_rows``."""
    xp = array_namespace(raw)
    good = None if bad is None else like(raw, ~to_numpy(bad[::stride, ::stride]))
    rows, squares, before = [], np.zeros(len(paired)), None
    for t in range(len(paired)):
        frame = raw[t, ::stride, ::stride].astype(xp.float32)
        if good is not None:
            frame = xp.where(good, frame, xp.float32(0))
        rows.append(to_numpy(frame.sum(axis=1, dtype=xp.float64)))
        if paired[t]:
            squares[t] = float(((frame - before) ** 2).sum(dtype=xp.float64))
        before = frame
    return np.stack(rows), squares, int(frame.size)


@compiled
def _sample_row(row: Array, good: Array, stride: int, line: Array) -> Any:
    total = np.float64(0.0)
    for x in range(line.shape[0]):
        value = np.float32(row[x * stride]) if good[x] else np.float32(0.0)
        line[x] = value
        total += value
    return total


@compiled
def _square_difference(first: Array, second: Array) -> Any:
    total = np.float64(0.0)
    for x in range(first.shape[0]):
        difference = first[x] - second[x]
        total += np.float64(difference * difference)
    return total


@compiled
def _sample_rows(raw: Array, good: Array, stride: int, paired: Array, room: Array, rows: Array, squares: Array) -> None:
    for t in range(raw.shape[0]):
        now, before = room[t % 2], room[(t + 1) % 2]
        for y in range(good.shape[0]):
            rows[t, y] = _sample_row(raw[t, y * stride], good[y], stride, now[y])
            if paired[t]:
                squares[t] += _square_difference(now[y], before[y])


def _blank(bands: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the part of the bands of each frame, (t,), without counts where the median frame has enough of them."""
    usual = np.median(bands, axis=0)
    blank: NDArray[np.float64] = ((bands < 0.02 * usual) & (usual > _FEWEST)).mean(axis=1)
    return blank


@dataclass(frozen=True)
class Pixels:
    """What pixels of a camera are not as they should be.

    hot, dead : number of pixels found that are not known as bad; dead is None where the counts are too few to tell
    lines : number of whole rows and columns that differ from their neighbours and are not known as bad
    listed : number of pixels that a list of defects names; odd_listed : those of them that are hot or dead
    orientations : of the list, as it was given first; hits : pixels that are hot or dead at the places it then names
    """

    hot: int
    dead: int | None
    lines: int
    listed: int = 0
    odd_listed: int = 0
    orientations: tuple[Orientation, ...] = ()
    hits: tuple[int, ...] = ()


def inspect_pixels(total: Array, *, filled: Array, hot: Array, known: Array, listed: Array | None) -> Pixels:
    """Count the pixels of a camera that misbehave, and look whether a list of defects names them.

    total : (y, x) sum of gain-corrected frames in electrons, bad pixels as recorded
    filled : (y, x) the same with bad pixels replaced by their neighbours' mean
    hot : (y, x) mask of hot pixels found that are not in ``known``
    known : (y, x) mask of pixels that the gain reference or the list name; listed : of those that the list names
    """
    array_namespace(total, filled, hot, known)
    places = np.zeros((0, 2), np.int64) if listed is None else np.argwhere(to_numpy(listed))
    known_here, hot_here = to_numpy(known), to_numpy(hot)
    values = to_numpy(total)
    least = math.log(values.size / DEAD_FALSE_ALARMS)
    scanned = scan_surroundings if isinstance(filled, np.ndarray) else scan_surroundings_plain
    scan = scanned(filled, values, known_here, places, least)
    # where most of the field has too few counts, none of it can be judged
    judged = 2 * scan.certain > values.size
    lines = _bad_lines(scan.columns) + _bad_lines(scan.rows)
    found = Pixels(int(np.count_nonzero(hot_here)), int(np.count_nonzero(scan.dead)) if judged else None, lines)
    if listed is None:
        return found
    at, near = values[places[:, 0], places[:, 1]], scan.around
    spread = 6.0 * np.sqrt(np.maximum(near, 1.0)) + 0.1 * near
    odd = (at > near + spread) | ((at < 0.15 * near) & (near > 8.0))
    strange = np.zeros(values.shape, bool)
    strange[places[odd, 0], places[odd, 1]] = True
    allowed, hits = orientations(values.shape, values.shape), []
    for one in allowed:
        there = _placed(places, values.shape, one)
        known_otherwise = known_here[there] & ~to_numpy(listed)[there]
        hits.append(int(np.count_nonzero(strange[there] | hot_here[there] | scan.dead[there] | known_otherwise)))
    return Pixels(found.hot, found.dead, found.lines, len(places), int(np.count_nonzero(odd)), allowed, tuple(hits))


@dataclass(frozen=True)
class Scan:
    """What a sum of frames holds about its pixels, on the host.

    certain : number of pixels whose surroundings have so many counts that an empty one is dead
    dead : (y, x) mask of empty ones among them
    rows, columns : (y,) and (x,) sums over each row and each column
    around : (n,) mean of the 5 x 5 about each of the places asked for
    """

    certain: int
    dead: NDArray[np.bool_]
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    around: NDArray[np.float64]


def scan_surroundings(
    filled: NDArray[Any], values: NDArray[Any], known: NDArray[np.bool_], places: NDArray[np.int64], least: float
) -> Scan:
    """Compare the pixels of a sum of frames with their surroundings, in one pass.

    filled, values : (y, x) with bad pixels replaced, and as recorded; known : (y, x) mask of bad pixels
    places : (n, 2) in the order of the rows; least : counts from which on an empty pixel is no chance
    """
    dead = np.zeros(values.shape, bool)
    rows, columns, around = np.zeros(values.shape[0]), np.zeros(values.shape[1]), np.zeros(len(places))
    certain = _scan(filled, values, known, places, least, dead, rows, columns, around)
    return Scan(int(certain), dead, rows, columns, around)


def scan_surroundings_plain(
    filled: Array, values: NDArray[Any], known: NDArray[np.bool_], places: NDArray[np.int64], least: float
) -> Scan:
    """Plain twin of ``scan_surroundings``, for a filled sum wherever it lives."""
    xp = array_namespace(filled)
    around = to_numpy(filled - excess_over_mean(filled))
    certain = around > least
    rows, columns = (to_numpy(filled.sum(axis=axis, dtype=xp.float64)) for axis in (1, 0))
    dead = (values <= 0) & ~known & certain
    return Scan(
        int(np.count_nonzero(certain)), dead, rows, columns, around[places[:, 0], places[:, 1]].astype(np.float64)
    )


@compiled
def _scan_row(row: Array, line: Array, limit: Any, columns: Array) -> tuple[Any, Any]:
    """Add a row to the sums of columns; returns its own sum and the number of its pixels above the limit around."""
    total, certain = np.float64(0.0), np.int32(0)
    for x in range(row.shape[0]):
        around = line[x] + line[x + 1] + line[x + 2] + line[x + 3] + line[x + 4]
        certain += np.int32(around > limit)
        total += np.float64(row[x])
        columns[x] += np.float64(row[x])
    return total, certain


@compiled
def _count_empty(row: Array) -> int:
    count = np.int32(0)
    for x in range(row.shape[0]):
        count += np.int32(row[x] <= 0)
    return count  # type: ignore[return-value]


@compiled
def _scan(
    filled: Array,
    values: Array,
    known: Array,
    places: Array,
    least: float,
    dead: Array,
    rows: Array,
    columns: Array,
    around: Array,
) -> int:
    line = np.empty(filled.shape[1] + 4, np.float32)
    limit = np.float32(25.0 * least)
    certain, k = 0, 0
    for y in range(filled.shape[0]):
        sum_rows_around(filled, y, line)
        rows[y], count = _scan_row(filled[y], line, limit, columns)
        certain += count
        while k < places.shape[0] and places[k, 0] == y:
            around[k] = line[places[k, 1] : places[k, 1] + 5].sum() / 25.0
            k += 1
        if _count_empty(values[y]):
            for x in range(values.shape[1]):
                if values[y, x] <= 0 and not known[y, x]:
                    dead[y, x] = line[x : x + 5].sum() > limit
    return certain


def _placed(places: NDArray[np.int64], shape: tuple[int, int], orientation: Orientation) -> tuple[Any, Any]:
    """Return where places (n, 2) of an image come to lie when it is turned as ``orient_gain`` does."""
    (y, x), (ny, nx) = places.T, shape
    for _ in range(orientation.rotation):
        (y, x), (ny, nx) = (nx - 1 - x, y), (nx, ny)
    return (ny - 1 - y if orientation.flip else y), x


def _bad_lines(sums: NDArray[np.float64]) -> int:
    """Count rows or columns whose sum differs from that of the lines beside them."""
    if len(sums) < 9 or not (sums > 0).any():
        return 0
    usual = np.maximum(median_filter(sums, 9, mode="nearest"), 1.0)
    change = sums / usual - 1
    spread = np.maximum(1.4826 * float(np.median(np.abs(change))), 1 / np.sqrt(usual))
    return int(np.count_nonzero(np.abs(change) > np.maximum(8 * spread, LINE)))
