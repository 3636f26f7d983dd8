"""Look at the camera in what it recorded: its frames, what an electron adds, its hot, dead and other bad pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from focusnb.ops.backend import Array, array_namespace, like, to_numpy
from focusnb.ops.defects import excess_over_mean
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
    xp = array_namespace(raw)
    good = None if bad is None else like(raw, ~to_numpy(bad[::stride, ::stride]))
    pairs = {int(first) for first in np.linspace(0, t - 2, min(_PAIRS, t - 1)).round()} if t > 1 else set()
    means, bands, scales = np.zeros(t), [], []
    before = None
    for index in range(t):
        frame = raw[index, ::stride, ::stride].astype(xp.float32)
        if good is not None:
            frame = xp.where(good, frame, xp.float32(0))
        rows = to_numpy(frame.sum(axis=1, dtype=xp.float64))
        means[index] = rows.sum()
        bands.append([float(part.sum()) for part in np.array_split(rows, min(_BANDS, len(rows)))])
        if index - 1 in pairs and before is not None:
            both = means[index] + means[index - 1]
            size = frame.size
            difference = frame - before
            square = float((difference * difference).sum(dtype=xp.float64))
            if both > 0:
                scales.append((square - (means[index] - means[index - 1]) ** 2 / size) / both)
        before = frame
    usual = float(np.median(means))
    if not usual > 0:
        # what has no counts, or none above an offset, tells nothing of its frames
        return FrameCounts(np.ones(t), np.zeros(t), None)
    scale = float(np.median(scales)) if scales else math.nan
    return FrameCounts(means / usual, _blank(np.array(bands)), scale if math.isfinite(scale) else None)


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
    xp = array_namespace(total, filled, hot, known)
    values, around = to_numpy(total), to_numpy(filled - excess_over_mean(filled))
    known_here, hot_here = to_numpy(known), to_numpy(hot)
    empty = (values <= 0) & ~known_here
    certain = around > math.log(values.size / DEAD_FALSE_ALARMS)
    dead = empty & certain
    # where most of the field has too few counts, none of it can be judged
    judged = 2 * np.count_nonzero(certain) > certain.size
    lines = sum(_bad_lines(to_numpy(filled.sum(axis=axis, dtype=xp.float64))) for axis in (0, 1))
    found = Pixels(int(np.count_nonzero(hot_here)), int(np.count_nonzero(dead)) if judged else None, lines)
    if listed is None:
        return found
    places = np.argwhere(to_numpy(listed))
    at, near = values[places[:, 0], places[:, 1]], around[places[:, 0], places[:, 1]]
    spread = 6.0 * np.sqrt(np.maximum(near, 1.0)) + 0.1 * near
    odd = (at > near + spread) | ((at < 0.15 * near) & (near > 8.0))
    strange = hot_here | dead | (known_here & ~to_numpy(listed))
    strange[places[odd, 0], places[odd, 1]] = True
    allowed = orientations(values.shape, values.shape)
    hits = tuple(int(np.count_nonzero(strange[_placed(places, values.shape, one)])) for one in allowed)
    return Pixels(found.hot, found.dead, found.lines, len(places), int(np.count_nonzero(odd)), allowed, hits)


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
