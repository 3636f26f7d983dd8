"""Orient a gain reference to the movie, find the pixels it cannot correct, and measure the pattern it leaves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from focusnb.compiled import compiled
from focusnb.ops.backend import Array, array_namespace, ndimage_namespace

Shape = tuple[int, int]

# Correlations of unrelated noise scatter by 1 / sqrt(pixels); eight of these do not happen by chance.
MARGIN = 8.0

CENTRE = 1024
"""Side in pixels of the part in the middle of a frame that tells the orientation of its gain reference."""

WINDOW = 512
"""Side in pixels of the four parts of a frame that tell what pattern a session's gain reference leaves."""

# illumination and fringes are wider; a pattern of rows, columns or pixels is left whole but for 1 in 33
_SMOOTH = 33


@dataclass(frozen=True)
class Orientation:
    """A way to bring a gain reference into the frame of the movie: ``rot90(gain, rotation)``, then flip of axis 0."""

    rotation: int
    flip: bool


@dataclass(frozen=True)
class FoundOrientation:
    """How well the orientations of a gain reference fit a movie.

    best, second : the two that fit best (second is None where only one is allowed)
    correlation, second_correlation : of the mean raw frame with 1 / gain, high-pass filtered
    margin : by how much the best must beat the second, and 0
    certain : whether it does
    """

    best: Orientation
    second: Orientation | None
    correlation: float
    second_correlation: float
    margin: float
    certain: bool


@dataclass(frozen=True)
class GainFit:
    """Whether a gain reference lies to a movie as it is used, or another way.

    verdict : "as given", "another fits better", or "uncertain" where the counts do not suffice to tell
    best : the orientation that fits best; as given where that is uncertain
    correlation, given_correlation : of the mean raw frame with 1 / gain in the best and in the given orientation
    correlations : of every orientation that the shape allows, the largest first
    scale : what a correlation is multiplied by to tell how much of the pattern of 1 / gain the counts show: 1 where the
        reference is that of the camera, 0 where the counts do not know it, below 0 for its inverse
    pixels : number of pixels compared; unrelated noise gives correlations of 1 / sqrt(pixels)
    """

    verdict: str
    best: Orientation
    correlation: float
    given_correlation: float
    correlations: tuple[tuple[Orientation, float], ...] = ()
    scale: float = 0.0
    pixels: int = 0

    @property
    def pattern(self) -> float:
        """How much of the pattern of 1 / gain, as it was given, the counts show."""
        return self.scale * self.given_correlation


@dataclass(frozen=True)
class ResidualGain:
    """The pattern that stays in gain-corrected images, relative to their mean.

    covariance : of the halves' means, relative to the square of the mean; without bias by noise, so it may be negative
    uncertainty : standard deviation of that covariance by the noise of the halves
    """

    covariance: float
    uncertainty: float

    @property
    def fraction(self) -> float:
        """Root mean square of the pattern relative to the mean; 0 where the covariance is not positive."""
        return math.sqrt(max(self.covariance, 0.0))

    @property
    def limit(self) -> float:
        """The largest such fraction the noise allows for: three standard deviations of the covariance more."""
        return math.sqrt(max(self.covariance, 0.0) + 3.0 * self.uncertainty)


def orient_gain(gain: Array, *, rotation: int = 0, flip: bool = False) -> Array:
    """Rotate a gain reference (y, x) by quarter turns as ``rot90``, then flip its axis 0 if asked.

    rotation : number of quarter turns, as numpy counts them in the [y, x] frame
    """
    xp = array_namespace(gain)
    turned = xp.rot90(gain, rotation % 4)
    return xp.ascontiguousarray(xp.flip(turned, axis=0) if flip else turned)


def orientations(gain_shape: Shape, frame_shape: Shape) -> tuple[Orientation, ...]:
    """Return those of the 8 orientations that bring a gain of one shape to frames of another; none if it cannot fit."""
    return tuple(
        Orientation(rotation, flip)
        for flip in (False, True)
        for rotation in range(4)
        if tuple(gain_shape if rotation % 2 == 0 else gain_shape[::-1]) == tuple(frame_shape)
    )


def bad_gain_pixels(gain: Array) -> Array:
    """Return the mask (y, x) of the pixels a gain reference marks as bad with the value 0.

    Raises ValueError with their number where values are not finite or negative.
    """
    xp = array_namespace(gain)
    if isinstance(gain, np.ndarray) and gain.size and gain.min() >= 0 and gain.max() < math.inf:
        return gain == 0  # a value that is not a number is the smallest and the largest
    unusable = int((~xp.isfinite(gain)).sum())
    if unusable:
        raise ValueError(f"the gain reference has {unusable} values that are not finite; make a new one")
    negative = int((gain < 0).sum())
    if negative:
        raise ValueError(f"the gain reference has {negative} values below 0; is it an image instead of a gain?")
    return gain == 0


def find_orientation(mean_of_raw_frames: Array, gain: Array) -> FoundOrientation:
    """Find how a gain reference lies to the movie, by correlating the mean raw frame with 1 / gain.

    mean_of_raw_frames : (y, x) mean over raw frames of one movie, or better of many
    gain : (y, x) as read; corrected = raw * gain
    Both are high-pass filtered, so that the specimen counts little and the pixel-to-pixel pattern much.
    Raises ValueError when no orientation fits the shape.
    """
    array_namespace(mean_of_raw_frames, gain)
    allowed = orientations(_shape(gain), _shape(mean_of_raw_frames))
    if not allowed:
        raise ValueError(
            f"a gain of {_shape(gain)} pixels fits frames of {_shape(mean_of_raw_frames)} in no orientation"
        )
    ranked, _ = _ranked(mean_of_raw_frames, gain, allowed)
    correlation, best = ranked[0]
    second_correlation, second = ranked[1] if len(ranked) > 1 else (0.0, None)
    margin = MARGIN / math.sqrt(mean_of_raw_frames.size)
    return FoundOrientation(
        best=best,
        second=second,
        correlation=correlation,
        second_correlation=second_correlation,
        margin=margin,
        certain=correlation - max(second_correlation, 0.0) > margin,
    )


def check_orientation(mean_of_corrected_frames: Array, gain: Array, *, given: Orientation) -> GainFit:
    """Tell from the middle of a movie whether its gain reference lies as it was given, or another way.

    mean_of_corrected_frames : (y, x) unaligned mean of raw * gain
    gain : (y, x) as it was multiplied, turned and flipped as ``given``
    The mean raw frame is the corrected one over the gain. An orientation is certain where it beats every other by more
    than noise does; with too few counts, or where the gain is flat or like its mirror image, none is.
    """
    xp = array_namespace(mean_of_corrected_frames, gain)
    shape = _shape(gain)
    # a part in the middle stays in its place under every orientation that the whole allows
    part = (_middle(shape[0]), _middle(shape[1]))
    corrected, multiplied = mean_of_corrected_frames[part], gain[part]
    good = multiplied > 0
    raw = xp.where(good, corrected / xp.where(good, multiplied, 1.0), corrected)
    read = xp.rot90(xp.flip(multiplied, axis=0) if given.flip else multiplied, -given.rotation % 4)
    allowed = orientations(shape if given.rotation % 2 == 0 else shape[::-1], shape)
    ranked, scale = _ranked(raw, read, allowed)
    (correlation, best), second = ranked[0], ranked[1][0]
    used = next(value for value, orientation in ranked if orientation == given)
    verdict = "as given" if best == given else "another fits better"
    if correlation - max(second, 0.0) <= MARGIN / math.sqrt(raw.size):
        verdict, best, correlation = "uncertain", given, used
    return GainFit(
        verdict,
        best,
        correlation,
        used,
        correlations=tuple((orientation, value) for value, orientation in ranked),
        scale=scale,
        pixels=int(raw.size),
    )


def sample_windows(image: Array, *, size: int = WINDOW) -> Array | None:
    """Return the four windows in the middles of an image's quadrants, one above the other, relative to their mean.

    image : (y, x) unaligned mean of corrected frames
    Returns (4 * h, w) float32 with h and w at most ``size``; None where their mean is not positive.
    """
    xp = array_namespace(image)
    half = (int(image.shape[0]) // 2, int(image.shape[1]) // 2)
    height, width = min(size, half[0]), min(size, half[1])
    windows = []
    for y in (0, half[0]):
        for x in (0, half[1]):
            top, left = y + (half[0] - height) // 2, x + (half[1] - width) // 2
            windows.append(image[top : top + height, left : left + width])
    stacked = xp.concatenate(windows, axis=0)
    mean = float(stacked.mean(dtype=xp.float64)) if stacked.size else 0.0
    return (stacked / mean).astype(xp.float32) if mean > 0 else None


def gain_contrast(gain: Array) -> float:
    """Return the pattern of a gain reference (y, x) as ``residual_gain`` would measure it: RMS relative to the mean."""
    xp = array_namespace(gain)
    return _spread(_local_contrast(xp.where(gain > 0, gain, 1.0), width=_SMOOTH, outlier=6.0))


def residual_gain(even_mean: Array, odd_mean: Array) -> ResidualGain:
    """Measure the pattern that stays in gain-corrected images, by the covariance of the means of two halves of them.

    even_mean, odd_mean : (y, x) means of unaligned corrected movies of even and of odd number, in any unit
    Noise is independent in the halves and cancels; so does the specimen, as the movies show different places. Slow
    variation (illumination) is taken off, and what lies far outside the values of the others (bad pixels) is clipped.
    Raises ValueError where the shapes differ.
    """
    array_namespace(even_mean, odd_mean)
    if _shape(even_mean) != _shape(odd_mean):
        raise ValueError(f"halves of {_shape(even_mean)} and {_shape(odd_mean)} pixels are of different movies")
    even, odd = (_local_contrast(mean, width=_SMOOTH, outlier=6.0) for mean in (even_mean, odd_mean))
    covariance = float((even * odd).mean())
    spread = math.sqrt(float((even**2).mean()) * float((odd**2).mean()))
    return ResidualGain(covariance, spread / math.sqrt(even.size))


def _shape(image: Array) -> Shape:
    return int(image.shape[0]), int(image.shape[1])


def _middle(length: int) -> slice:
    width = min(length, CENTRE)
    width -= (length - width) % 2
    start = (length - width) // 2
    return slice(start, start + width)


def _ranked(raw: Array, gain: Array, allowed: tuple[Orientation, ...]) -> tuple[list[tuple[float, Orientation]], float]:
    """Return the correlation of raw counts (y, x) with 1 / gain for these orientations, the largest first.

    Beside it the spread of the counts over that of 1 / gain, by which a correlation becomes a slope.
    """
    xp = array_namespace(raw, gain)
    good = gain > 0
    pattern = _local_contrast(raw)
    response = _local_contrast(xp.where(good, 1.0 / xp.where(good, gain, 1.0), 0.0))
    there, wanted = float((pattern**2).sum()), float((response**2).sum())
    norm = math.sqrt(there * wanted) or 1.0
    values = [float((pattern * orient_gain(response, rotation=o.rotation, flip=o.flip)).sum()) / norm for o in allowed]
    ranked = sorted(zip(values, allowed, strict=True), key=lambda pair: pair[0], reverse=True)
    return ranked, math.sqrt(there / wanted) if wanted > 0 else 0.0


def _spread(contrast: Array) -> float:
    return math.sqrt(float((contrast**2).mean()))


def _local_contrast(image: Array, *, width: int = 9, outlier: float = 4.0) -> Array:
    """Return the difference from the neighbourhood, relative to it, with outliers clipped.

    width : of the neighbourhood, pixels; outlier : standard deviations
    """
    xp = array_namespace(image)
    image = image.astype(xp.float32)
    smooth = box_mean(image, width)
    contrast = (image - smooth) / xp.maximum(smooth, 1e-6)
    # a hot or dead pixel would outweigh thousands of good ones
    limit = outlier * float(xp.median(xp.abs(contrast[::3, ::3]))) / 0.6745
    return xp.clip(contrast, -limit, limit)


def box_mean(image: Array, width: int) -> Array:
    """Return the mean of the width x width pixels about each pixel, (y, x) float32; the edge is repeated.

    width : odd
    """
    if not isinstance(image, np.ndarray):
        return box_mean_plain(image, width)
    result = np.empty(image.shape, np.float32)
    _box_mean(image, width // 2, result)
    return result


def box_mean_plain(image: Array, width: int) -> Array:
    """Plain twin of ``box_mean``."""
    return ndimage_namespace(image).uniform_filter(image, width, mode="nearest")


@compiled
def _exchange(new: Array, old: Array, sums: Array) -> None:
    for x in range(sums.shape[0]):
        sums[x] += np.float64(new[x]) - np.float64(old[x])


@compiled
def _mean_along(sums: Array, half: int, result: Array) -> None:
    """Average sums of columns over a row by what enters and what leaves."""
    last, scale = sums.shape[0] - 1, 1.0 / (2 * half + 1) ** 2
    total = 0.0
    for x in range(-half, half + 1):
        total += sums[min(max(x, 0), last)]
    for x in range(result.shape[0]):
        result[x] = total * scale
        total += sums[min(x + half + 1, last)] - sums[max(x - half, 0)]


@compiled
def _box_mean(image: Array, half: int, result: Array) -> None:
    last = image.shape[0] - 1
    sums = np.zeros(image.shape[1])
    for y in range(-half, half + 1):
        row = image[min(max(y, 0), last)]
        for x in range(sums.shape[0]):
            sums[x] += row[x]
    for y in range(result.shape[0]):
        _mean_along(sums, half, result[y])
        _exchange(image[min(y + half + 1, last)], image[max(y - half, 0)], sums)
