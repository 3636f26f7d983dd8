"""Simple numbers of an exposure: counts, dose, spread, stripes, and whether it is too dark or too bright.

Counts and doses refer to physical detector pixels, also where a movie was recorded in super-resolution or binned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from focusnb.compiled import sums_about
from focusnb.errors import ParameterError
from focusnb.ops.backend import Array, array_namespace


@dataclass(frozen=True, slots=True)
class Brightness:
    """Verdict on the counts of an exposure: "ok", "dark" or "bright", and why in words."""

    verdict: str
    reason: str


def mean_counts(
    unaligned_sum: Array, *, frames: int, detector_pixels: float = 1.0, counts_per_electron: float = 1.0
) -> float:
    """Return the mean of an exposure in electrons per physical pixel and frame.

    unaligned_sum : (y, x), sum over the frames of the gain-corrected movie; give ``frames=1`` for a mean over frames
    detector_pixels : physical pixels covered by a pixel of this image (0.25 for super-resolution, 4 after binning by
    2 that adds, 1 after a Fourier crop or a binning that keeps the mean)
    counts_per_electron : what one electron adds to the recording (1 for counting, 12 for SerialEM's scaled TIFF)
    """
    if frames < 1 or not detector_pixels > 0 or not counts_per_electron > 0:
        raise ParameterError(
            f"mean counts need frames ≥ 1 and positive factors, not {frames}, {detector_pixels}, {counts_per_electron}"
        )
    return mean_and_deviation(unaligned_sum)[0] / (frames * detector_pixels * counts_per_electron)


def dose_rate(counts: float, frame_time: float) -> float:
    """Return e⁻/px/s from e⁻ per physical pixel and frame, and seconds per frame."""
    if not frame_time > 0:
        raise ParameterError(f"a frame lasts {frame_time} s; it must be positive")
    return counts / frame_time


def dose_from_counts(counts: float, pixel_size: float, *, factor: float = 1.0) -> float:
    """Return e⁻/Å² per frame from counts per physical pixel and frame.

    pixel_size : Å per physical pixel; factor : electrons on the specimen for each one counted (coincidence loss)
    """
    if not pixel_size > 0 or not factor > 0:
        raise ParameterError(f"dose needs a positive pixel size and factor, not {pixel_size} Å/px and {factor}")
    return counts * factor / pixel_size**2


def image_stddev_relative(unaligned_sum: Array) -> float | None:
    """Return the standard deviation over the mean of the unaligned sum (y, x); None where the mean is not positive."""
    mean, deviation = mean_and_deviation(unaligned_sum)
    return deviation / mean if mean > 0 else None


def stripe_measure(unaligned_sum: Array) -> float | None:
    """Return 100·σ / (max − min) of the unaligned sum (y, x) as Focus does; stripes and half-dark images exceed 30.

    A uniform distribution gives 28.9, two equal halves 50, an ordinary image with its few extreme pixels 5 to 15.
    None for a constant image.
    """
    span = float(unaligned_sum.max()) - float(unaligned_sum.min())
    return 100.0 * mean_and_deviation(unaligned_sum)[1] / span if span > 0 else None


def mean_and_deviation(image: Array) -> tuple[float, float]:
    """Return the mean and the standard deviation of an image (y, x), to the digits of double precision."""
    if not isinstance(image, np.ndarray) or image.dtype == np.float16 or not image.dtype.isnative or not image.size:
        return mean_and_deviation_plain(image)
    image = np.ascontiguousarray(image)
    # about a value of the image, so that a small deviation on a large mean keeps its digits
    centre = float(image[0, 0]) if np.isfinite(image[0, 0]) else 0.0
    total, squares = sums_about(image, centre)
    offset = float(total) / image.size
    return centre + offset, math.sqrt(max(float(squares) / image.size - offset**2, 0.0))


def mean_and_deviation_plain(image: Array) -> tuple[float, float]:
    """Plain twin of ``mean_and_deviation``."""
    xp = array_namespace(image)
    return float(image.mean(dtype=xp.float64)), float(image.std(dtype=xp.float64))


def judge_brightness(
    counts: float,
    *,
    expected: float | None = None,
    session_median: float | None = None,
    darkest: float = 0.1,
    dark_fraction: float = 0.4,
    bright_fraction: float = 1.6,
) -> Brightness:
    """Judge the counts of an exposure (e⁻ per physical pixel and frame).

    expected : counts the recorded dose should give; session_median : that of the session so far; None where unknown
    darkest : below it an exposure is dark whatever is expected
    dark_fraction, bright_fraction : of ``expected`` and of ``session_median``

    Thick ice and carbon darken, an empty hole is a little brighter; a shutter, a misaligned beam or a broken file
    changes the counts by more.
    """
    if not math.isfinite(counts) or counts < darkest:
        return Brightness("dark", f"{counts:.3g} e⁻/px/frame, below {darkest:.3g}")
    for name, reference in (("the recorded dose", expected), ("the session's median", session_median)):
        if reference is None or not reference > 0:
            continue
        if counts < dark_fraction * reference:
            return Brightness("dark", f"{counts:.3g} e⁻/px/frame where {name} gives {reference:.3g}")
        if counts > bright_fraction * reference:
            return Brightness("bright", f"{counts:.3g} e⁻/px/frame where {name} gives {reference:.3g}")
    return Brightness("ok", "")
