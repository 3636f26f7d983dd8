"""Prepare a measured spectrum for fitting: the half plane within the band, its background removed.

All of this runs on the host: a spectrum is a megabyte, and the fit needs a few thousand numbers of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import BSpline

from focusnb.ops.ice import BESIDE_RING, RING
from focusnb.ops.spectrum import frequency_radius, rotational_average

SECTORS = 24

STRONG_ICE = 1.5
"""Amplitude of the ring over that on both sides from which on it is left out of the fit; good ice has 1.0."""

BLURRED = 16
"""Rings by which the sharp end of a spectrum is blurred."""

ICE_WING = 4.3
"""Å: the wings of a strong ring reach from there."""


@dataclass(frozen=True, slots=True)
class Points:
    """The pixels of a spectrum a CTF is fitted to: one half plane, within the band, axes left out.

    frequency : |k| in 1/Å; cosine, sine : of twice the azimuth, which runs from +x towards +y
    ring, sector : integer bins, from 0; step : width of a ring in 1/Å
    power : squared amplitude over the background (noise fluctuates about 1, rings are added to it)
    background : the smooth background each was divided by
    """

    frequency: np.ndarray
    cosine: np.ndarray
    sine: np.ndarray
    ring: np.ndarray
    sector: np.ndarray
    power: np.ndarray
    background: np.ndarray
    step: float

    @property
    def rings(self) -> int:
        """Number of rings in the band."""
        return int(self.ring.max()) + 1


@dataclass(frozen=True, slots=True)
class Cells:
    """Points averaged over rings within sectors: (sectors, rings), background trend removed.

    squared_frequency : (rings,) mean k² of each ring; direction : (sectors,) azimuth of each sector's middle
    weight : number of pixels in each cell, 0 for an empty one
    """

    squared_frequency: np.ndarray
    direction: np.ndarray
    value: np.ndarray
    weight: np.ndarray
    basis: np.ndarray
    noise: float


@lru_cache(maxsize=4)
def _geometry(
    box: int, pixel_size: float, low: float, high: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return flat index, |k|, cosine and sine of twice the azimuth, ring and sector of the half plane in a band."""
    radius, azimuth = frequency_radius(box, pixel_size)
    step = 1.0 / (box * pixel_size)
    # the cross through the origin holds what lines and columns of a detector share, not rings
    off_axis = (np.abs(np.arange(box) - box // 2) > 1)[:, None] & (np.abs(np.arange(box) - box // 2) > 1)[None, :]
    inside = np.flatnonzero((radius >= low) & (radius <= high) & (azimuth >= 0) & (azimuth < np.pi) & off_axis)
    frequency, angle = radius.ravel()[inside], azimuth.ravel()[inside]
    ring = np.rint((frequency - low) / step).astype(np.int64)
    sector = np.minimum((angle * (SECTORS / np.pi)).astype(np.int64), SECTORS - 1)
    return inside, frequency, np.cos(2 * angle), np.sin(2 * angle), ring, sector


def spline_basis(position: np.ndarray, number: int) -> np.ndarray:
    """Return (positions, number) cubic B-splines that span ``position`` evenly; ``number`` is 4 at least."""
    low, high = float(position.min()), float(position.max())
    inner = np.linspace(low, high, max(number - 2, 2))
    knots = np.concatenate([[low] * 3, inner, [high] * 3])
    return np.asarray(BSpline.design_matrix(np.clip(position, low, high), knots, 3).toarray())


def measure_points(amplitude: np.ndarray, pixel_size: float, low: float, high: float) -> Points:
    """Pick the pixels between two frequencies and divide them by a smooth background.

    The background is a spline through the logarithm of the ring averages: it follows the steep fall at low
    frequency and stays positive, and the origin never enters it. It is stiff: one that bends with the rings takes
    part of them away, most of all the first, and shifts the defocus.
    """
    box = amplitude.shape[0]
    inside, frequency, cosine, sine, ring, sector = _geometry(box, pixel_size, low, high)
    # the square of the mean amplitude follows the mean power, in which CTF² is linear, yet resists bright tiles
    power = amplitude.ravel()[inside].astype(np.float64) ** 2
    count = np.bincount(ring)
    filled = np.maximum(count, 1)
    average = np.bincount(ring, power) / filled
    ring_frequency = np.bincount(ring, frequency) / filled
    basis = spline_basis(np.sqrt(ring_frequency), 6)
    weight = np.sqrt(count)
    level = np.log(np.maximum(average, 1e-12 * average.max()))
    smooth = np.exp(basis @ np.linalg.lstsq(basis * weight[:, None], level * weight, rcond=None)[0])
    background = np.interp(frequency, ring_frequency, smooth)
    relative = power / background
    scatter = np.median(np.abs(relative - np.median(relative))) * 1.4826
    # single bright pixels (crystal spots, hot lines) must not pull the rings they lie on
    relative = np.clip(relative, None, np.interp(frequency, ring_frequency, average / smooth) + 4.0 * scatter)
    return Points(frequency, cosine, sine, ring, sector, relative, background, 1.0 / (box * pixel_size))


def last_frequency(amplitude: np.ndarray, pixel_size: float) -> float:
    """Return the frequency in 1/Å up to which a spectrum holds anything.

    An image that was filtered sharply or enlarged in Fourier space is empty beyond some ring; the corner of that
    ring, blurred by the fading of the image's edges, would look like a strong Thon ring.
    """
    frequency, average = rotational_average(amplitude, pixel_size)
    usual = float(np.median(average[len(average) // 8 : len(average) // 3]))
    empty = np.flatnonzero((average < 0.03 * usual) & (frequency > 0.25 * frequency[-1]))
    last = float(frequency[max(int(empty[0]) - BLURRED, 1)]) if empty.size else math.inf
    return min(last, 0.96 / (2 * pixel_size))


def average_cells(points: Points, trend: int) -> Cells:
    """Average points over the rings of each sector and remove a spline trend of ``trend`` terms in each sector."""
    rings = points.rings
    flat = points.sector * rings + points.ring
    weight = np.bincount(flat, minlength=SECTORS * rings).reshape(SECTORS, rings).astype(np.float64)
    total = np.bincount(flat, points.power, minlength=SECTORS * rings).reshape(SECTORS, rings)
    value = np.asarray(total / np.maximum(weight, 1))
    pixels = np.maximum(weight.sum(axis=0), 1)
    squared = np.bincount(points.ring, points.frequency**2, minlength=rings) / pixels
    basis = spline_basis(np.sqrt(squared), trend)
    value = remove_trend(value, weight, basis)
    noise = _noise(value, weight)
    direction = (np.arange(SECTORS) + 0.5) * (np.pi / SECTORS)
    return Cells(squared, direction, value, weight, basis, noise)


def remove_trend(value: np.ndarray, weight: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Subtract from each row its weighted least-squares combination of the basis."""
    normal = np.einsum("rb,sr,rc->sbc", basis, weight, basis, optimize=True)
    normal += 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(basis.shape[1])
    right = np.einsum("rb,sr->sb", basis, weight * value, optimize=True)
    return np.asarray(value - np.linalg.solve(normal, right[..., None])[..., 0] @ basis.T)


def _noise(value: np.ndarray, weight: np.ndarray) -> float:
    """Return the standard deviation of one pixel, from the difference of neighbouring sectors."""
    good = (weight[1:] > 0) & (weight[:-1] > 0)
    scaled = (value[1:] - value[:-1]) / np.sqrt(1 / np.maximum(weight[1:], 1) + 1 / np.maximum(weight[:-1], 1))
    return max(float(1.4826 * np.median(np.abs(scaled[good]))), 1e-9)


def ends_at_ice(amplitude: np.ndarray, pixel_size: float) -> bool:
    """Tell whether a strong ring of crystalline ice at 3.7 Å stands in a spectrum; no CTF describes what lies there."""
    frequency, average = rotational_average(amplitude, pixel_size)
    level = [
        float(average[(frequency > 1 / longest) & (frequency < 1 / shortest)].mean())
        for shortest, longest in (RING, *BESIDE_RING)
        if frequency[-1] > 1 / shortest
    ]
    return len(level) == 3 and level[0] > STRONG_ICE * max(level[1:])
