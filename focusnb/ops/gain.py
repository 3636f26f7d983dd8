"""Orient a gain reference to the movie and find the pixels it cannot correct."""

from __future__ import annotations

import math
from dataclasses import dataclass

from focusnb.ops.backend import Array, array_namespace, ndimage_namespace

Shape = tuple[int, int]

# Correlations of unrelated noise scatter by 1 / sqrt(pixels); eight of these do not happen by chance.
MARGIN = 8.0


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
    xp = array_namespace(mean_of_raw_frames, gain)
    shape = (int(mean_of_raw_frames.shape[0]), int(mean_of_raw_frames.shape[1]))
    gain_shape = (int(gain.shape[0]), int(gain.shape[1]))
    allowed = orientations(gain_shape, shape)
    if not allowed:
        raise ValueError(f"a gain of {gain_shape} pixels fits frames of {shape} in no orientation")
    pattern = _local_contrast(mean_of_raw_frames)
    good = gain > 0
    response = _local_contrast(xp.where(good, 1.0 / xp.where(good, gain, 1.0), 0.0))
    norm = float(xp.sqrt((pattern**2).sum() * (response**2).sum())) or 1.0
    ranked = sorted(
        (
            (float((pattern * orient_gain(response, rotation=o.rotation, flip=o.flip)).sum()) / norm, i)
            for i, o in enumerate(allowed)
        ),
        reverse=True,
    )
    margin = MARGIN / math.sqrt(pattern.size)
    correlation, first = ranked[0]
    second_correlation, second = ranked[1] if len(ranked) > 1 else (0.0, -1)
    return FoundOrientation(
        best=allowed[first],
        second=allowed[second] if second >= 0 else None,
        correlation=correlation,
        second_correlation=second_correlation,
        margin=margin,
        certain=correlation - max(second_correlation, 0.0) > margin,
    )


def _local_contrast(image: Array) -> Array:
    """Return the difference from the neighbourhood, relative to it, with outliers clipped."""
    xp, ndimage = array_namespace(image), ndimage_namespace(image)
    image = image.astype(xp.float32)
    smooth = ndimage.uniform_filter(image, 9, mode="nearest")
    contrast = (image - smooth) / xp.maximum(smooth, 1e-6)
    # a hot or dead pixel would outweigh thousands of good ones
    limit = 4.0 * float(xp.median(xp.abs(contrast[::3, ::3]))) / 0.6745
    return xp.clip(contrast, -limit, limit)
