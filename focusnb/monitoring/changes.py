"""Whether the last values of a series differ from its own history: by rank, so that no shape is assumed."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

ROBUST = 1.4826
"""Standard deviations in a median absolute deviation, of normal noise."""


class Baseline(NamedTuple):
    """What a series was: its median, its spread as a standard deviation, and how many values told so.

    young : few values since the last long pause, so that what was before it had to help
    """

    median: float
    spread: float
    values: int
    young: bool = False


class Change(NamedTuple):
    """The last values against a baseline: their median, and the chance that one of them is the larger.

    low, high : between which nearly all values of the history lie (2 and 98 %); last : the values themselves
    """

    median: float
    larger: float
    baseline: Baseline
    low: float
    high: float
    last: np.ndarray


def robust_spread(values: np.ndarray) -> float:
    """Median absolute deviation as a standard deviation; 0 for less than two values."""
    return ROBUST * float(np.median(np.abs(values - np.median(values)))) if len(values) > 1 else 0.0


def compare_last(
    time: np.ndarray,
    values: np.ndarray,
    *,
    window: int,
    history: int,
    least: int,
    pause: float,
    until: float | None = None,
) -> Change | None:
    """Compare the last values of a series with those before them.

    time : (n,) s, ascending; values : (n,) finite
    window : values looked at; history : values before them, at most; least : fewer make no baseline
    pause : a gap of more seconds begins a new chapter, such as another grid: its own values count, where there are
    enough of them
    until : history ends here, so that a fault that lasts does not become usual

    Returns None where there are too few values (Mann and Whitney 1947 for the chance).
    """
    if len(values) < window + least:
        return None
    last = values[-window:]
    stop = len(values) - window
    if until is not None:
        stop = min(stop, int(np.searchsorted(time, until)))
    if stop < least:
        return None
    start = max(0, stop - history)
    # gaps up to the window itself: a chapter that has only just begun has no history of its own
    gaps = np.flatnonzero(np.diff(time[start : len(values) - window + 1]) > pause)
    begun = start + int(gaps[-1]) + 1 if len(gaps) else start
    young = stop - begun < least
    before = values[start:stop] if young else values[begun:stop]
    baseline = Baseline(float(np.median(before)), robust_spread(before), len(before), young)
    low, high = (float(value) for value in np.percentile(before, (2, 98)))
    return Change(float(np.median(last)), chance_larger(last, before), baseline, low, high, last)


def chance_larger(last: np.ndarray, before: np.ndarray) -> float:
    """The chance that a value of the first series is larger than one of the second; ties count half."""
    if len(last) == 0 or len(before) == 0:
        return math.nan
    ordered = np.sort(before)
    below = np.searchsorted(ordered, last, "left") + np.searchsorted(ordered, last, "right")
    return float(below.mean() / 2 / len(before))
