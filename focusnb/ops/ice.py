"""Measure crystalline ice from the full transform of an unweighted, aligned average.

``iciness`` is what the Focus program computes (Biyani et al. 2017), ``iciness_paper`` what its paper describes; pure
noise gives 1 for both. Neither means anything for tilted images. A band that the pixels do not reach gives None.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import erf

from focusnb.errors import ParameterError
from focusnb.ops.backend import Array, array_namespace, fft_namespace, to_numpy
from focusnb.ops.fourier import fast_shape, pad_mean

Band = tuple[float, float]

REFERENCE: Band = (6.0, 30.0)
INNER: Band = (3.5, 4.0)
INNER_PAPER: Band = (3.5, 3.9)
OUTER: Band = (2.22, 2.32)
RING: Band = (3.62, 3.78)
BESIDE_RING: tuple[Band, Band] = ((3.25, 3.45), (4.05, 4.6))
RING_SEARCH: Band = (3.60, 3.95)
"""Å; cubic ice has its strongest ring at 3.67 Å, hexagonal ice at 3.90 and 3.67 Å."""
_RING_FIT: Band = (3.25, 4.6)
_RING_WIDTHS = (0.0012, 0.009)  # 1/Å, standard deviation: a single spot of large crystals, and small grains
_RING_STEP = 0.0015  # 1/Å: the ring spans ten, whatever the size of the image


@dataclass(frozen=True, slots=True)
class Ice:
    """How much crystalline ice an image shows; None where the pixels are too coarse for the band.

    iciness : mean amplitude at 3.5-4.0 Å over that at 6-30 Å; good below 1.0, unusable above 1.5
    iciness_paper : mean squared amplitude at 3.5-3.9 Å over that at 6-30 Å
    iciness_outer : mean amplitude at 2.22-2.32 Å over that at 6-30 Å
    ice_ring_excess : height of the 3.7 Å ring above the background on both sides, in standard deviations of it
    ice_ring_position : spacing in Å at which the strongest ring between 3.60 and 3.95 Å has its top; None without one
    ice_ring_strength : height of that ring over the background at its place; 0 none, 1 twice the amplitude
    """

    iciness: float | None
    iciness_paper: float | None
    iciness_outer: float | None
    ice_ring_excess: float | None
    ice_ring_position: float | None
    ice_ring_strength: float | None


@dataclass(frozen=True, slots=True)
class Amplitudes:
    """Fourier amplitudes of an image without its mean, in the layout of ``rfft2``.

    amplitude : (ny, nx // 2 + 1); ky, kx : frequency of its rows and columns in 1/Å, on the host; pixel_size : Å/px
    """

    amplitude: Array
    ky: np.ndarray
    kx: np.ndarray
    pixel_size: float

    def within(self, highest: float) -> Iterator[tuple[Array, Array]]:
        """Yield the parts of the amplitudes that reach a frequency, each with its frequencies; the rest is not read."""
        xp = array_namespace(self.amplitude)
        columns = int(np.count_nonzero(self.kx <= highest))
        rows = np.flatnonzero(np.abs(self.ky) <= highest)
        kx = xp.asarray(self.kx[:columns])
        for part in (rows[self.ky[rows] >= 0], rows[self.ky[rows] < 0]):
            if part.size:
                block = slice(int(part[0]), int(part[-1]) + 1)
                ky = xp.asarray(self.ky[block])
                yield self.amplitude[block, :columns], xp.sqrt(ky[:, None] ** 2 + kx[None, :] ** 2)


def amplitudes(image: Array, pixel_size: float) -> Amplitudes:
    """Transform an image (y, x) of any shape for the measures of this module."""
    if image.ndim != 2 or not pixel_size > 0:
        raise ParameterError(f"ice is measured on one image (y, x) with a pixel size, not {image.shape}, {pixel_size}")
    xp, fft = array_namespace(image), fft_namespace(image)
    padded = pad_mean(image.astype(xp.float32), fast_shape(image.shape))
    ny, nx = padded.shape
    transform = fft.rfft2(padded - padded.mean())
    ky = np.fft.fftfreq(ny, pixel_size).astype(np.float32)
    kx = np.fft.rfftfreq(nx, pixel_size).astype(np.float32)
    return Amplitudes(xp.abs(transform), ky, kx, pixel_size)


def measure_ice(image: Array, *, pixel_size: float) -> Ice:
    """Measure crystalline ice on the unweighted aligned average.

    image : (y, x), numpy or cupy; pixel_size : Å/px of this image
    """
    return measure_rings(amplitudes(image, pixel_size))


def measure_rings(spectrum: Amplitudes) -> Ice:
    """Measure crystalline ice on the amplitudes of an image's transform."""
    ring = find_ice_ring(spectrum)
    return Ice(
        iciness=iciness(spectrum),
        iciness_paper=iciness_paper(spectrum),
        iciness_outer=iciness_outer(spectrum),
        ice_ring_excess=ice_ring_excess(spectrum),
        ice_ring_position=None if ring is None else ring.position,
        ice_ring_strength=None if ring is None else ring.strength,
    )


def iciness(spectrum: Amplitudes) -> float | None:
    """Return mean |F| over 3.5 < d < 4.0 Å divided by mean |F| over 6 < d < 30 Å (as Focus computes it)."""
    return _ratio(_band_mean(spectrum, INNER), _band_mean(spectrum, REFERENCE))


def iciness_outer(spectrum: Amplitudes) -> float | None:
    """Return mean |F| over 2.22 < d < 2.32 Å divided by mean |F| over 6 < d < 30 Å."""
    return _ratio(_band_mean(spectrum, OUTER), _band_mean(spectrum, REFERENCE))


def iciness_paper(spectrum: Amplitudes) -> float | None:
    """Return mean |F|² over 3.5 < d < 3.9 Å divided by mean |F|² over 6 < d < 30 Å (as the paper describes it)."""
    return _ratio(_band_mean(spectrum, INNER_PAPER, power=2), _band_mean(spectrum, REFERENCE, power=2))


def ice_ring_excess(spectrum: Amplitudes) -> float | None:
    """Return the height of the 3.7 Å ring above the background, in standard deviations of the background.

    The background is a line through the logarithm of the rotational average on both sides of the ring (3.25-3.45 and
    4.05-4.6 Å); its standard deviation is that of the single ring averages, 0.0015 1/Å wide, about the line. A ring
    of 0.25 % of the background is the least scatter assumed, so that a perfect line gives a finite number.
    """
    average = _ring_average(spectrum)
    if average is None:
        return None
    frequency, level = average
    spacing = 1 / frequency
    beside = np.zeros(len(spacing), dtype=bool)
    for band in BESIDE_RING:
        beside |= (spacing > band[0]) & (spacing < band[1])
    ring = (spacing > RING[0]) & (spacing < RING[1])
    if beside.sum() < 6 or not ring.any():
        return None
    above = np.expm1(level - np.polyval(np.polyfit(frequency[beside], level[beside], 1), frequency))
    scatter = max(1.4826 * float(np.median(np.abs(above[beside]))), 0.0025)
    return float(above[ring].mean()) / scatter


@dataclass(frozen=True, slots=True)
class IceRing:
    """The strongest ring of ice.

    position : spacing of its top in Å; None where it does not rise above chance
    strength : its height over the background there, in amplitude; 0 or more
    error : standard error of the strength
    """

    position: float | None
    strength: float
    error: float


def ice_ring_position(spectrum: Amplitudes) -> float | None:
    """Return the spacing in Å at which the strongest ring between 3.60 and 3.95 Å has its top; None without a ring."""
    ring = find_ice_ring(spectrum)
    return None if ring is None else ring.position


def ice_ring_strength(spectrum: Amplitudes) -> float | None:
    """Return the height of the strongest ring between 3.60 and 3.95 Å over its background, in amplitude, 0 or more.

    None where pixels are too coarse or too few. Without a ring chance gives a few times the relative scatter of a ring
    average, about 0.01.
    """
    ring = find_ice_ring(spectrum)
    return None if ring is None else ring.strength


def find_ice_ring(spectrum: Amplitudes) -> IceRing | None:
    """Fit a ring of ice, a Gaussian of frequency times a smooth background, to the rotational average.

    The background is a line through its logarithm between 3.25 and 4.6 Å, fitted together with the ring. Averages over
    0.0015 1/Å flatten a narrow top; the fit averages likewise. None where pixels are too coarse or too few.
    """
    average = _ring_average(spectrum)
    if average is None:
        return None
    frequency, level = average
    start = min(
        ((_fit_ring(frequency, level, centre, width), centre, width) for centre in _centres() for width in _widths()),
        key=lambda fit: fit[0][0],
    )
    best, centre, width = start[0], float(start[1]), float(start[2])
    steps = [0.5 * float(np.diff(_centres())[0]), 0.35 * width]
    for _ in range(12):
        for axis in (0, 1):
            for sign in (1.0, -1.0):
                place = [centre, width]
                place[axis] += sign * steps[axis]
                if not 1 / RING_SEARCH[1] <= place[0] <= 1 / RING_SEARCH[0]:
                    continue
                if not _RING_WIDTHS[0] <= place[1] <= _RING_WIDTHS[1]:
                    continue
                found = _fit_ring(frequency, level, place[0], place[1])
                if found[0] < best[0]:
                    best, centre, width = found, place[0], place[1]
        steps = [0.6 * step for step in steps]
    _, height, error = best
    return IceRing(1 / centre if height > 4 * error and height > 0.005 else None, max(height, 0.0), error)


def _centres() -> np.ndarray:
    return np.linspace(1 / RING_SEARCH[1], 1 / RING_SEARCH[0], 19)


def _widths() -> np.ndarray:
    return np.geomspace(*_RING_WIDTHS, 5)


def _fit_ring(frequency: np.ndarray, level: np.ndarray, centre: float, width: float) -> tuple[float, float, float]:
    """Return the squares left, the height and its error for a ring of given place and width.

    The logarithm of the average is a line plus that of 1 + height · ring, which is solved by Gauss and Newton's method
    from below. A hollow is no ring: its height is 0, and what it leaves infinite.
    """
    edges = (frequency[:, None] + _RING_STEP * np.array([-0.5, 0.5]) - centre) / (math.sqrt(2.0) * width)
    ring = 0.5 * np.diff(erf(edges), axis=1)[:, 0] * math.sqrt(2 * math.pi) * width / _RING_STEP
    middle = frequency - frequency.mean()
    height, left, error = 0.0, math.inf, math.inf
    columns = np.stack([np.ones_like(middle), middle, ring], axis=1)
    for _ in range(20):
        raised = 1 + height * ring
        columns[:, 2] = ring / raised
        target = level - np.log(raised) + height * columns[:, 2]
        inverse = np.linalg.pinv(columns.T @ columns)
        found = inverse @ (columns.T @ target)
        left = float(((target - columns @ found) ** 2).sum())
        error = math.sqrt(max(left, 0.0) / max(len(level) - 5, 1) * max(float(inverse[2, 2]), 0.0))
        change = float(found[2]) - height
        height += change
        if height <= 0:
            return math.inf, 0.0, error
        if abs(change) < 1e-6 * (1 + abs(height)):
            break
    return left, height, error


def _ring_average(spectrum: Amplitudes) -> tuple[np.ndarray, np.ndarray] | None:
    """Return frequency in 1/Å and the logarithm of the rotational average from 4.6 to 3.25 Å."""
    if 2 * spectrum.pixel_size > _RING_FIT[0]:
        return None
    frequency, average = _rotational_average(spectrum, 1 / _RING_FIT[1], 1 / _RING_FIT[0])
    usable = average > 0
    if usable.sum() < 12:
        return None
    return frequency[usable], np.log(average[usable])


def _band_mean(spectrum: Amplitudes, band: Band, power: int = 1) -> float | None:
    """Average the amplitude (or its square) over a band of spacings in Å; None where the pixels do not reach it."""
    if 2 * spectrum.pixel_size > band[0]:
        return None
    xp = array_namespace(spectrum.amplitude)
    total = number = 0.0
    for amplitude, frequency in spectrum.within(1 / band[0]):
        inside = ((frequency > 1 / band[1]) & (frequency < 1 / band[0])).astype(xp.float32)
        number += float(inside.sum(dtype=xp.float64))
        values = amplitude * inside
        total += float((values if power == 1 else values * values).sum(dtype=xp.float64))
    return total / number if number else None


def _ratio(upper: float | None, lower: float | None) -> float | None:
    if upper is None or lower is None or not math.isfinite(upper) or not lower > 0:
        return None
    return upper / lower


def _rotational_average(spectrum: Amplitudes, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Average the amplitude over rings of fixed width between two frequencies; empty rings give 0."""
    frequencies, values = [], []
    for amplitude, radius in spectrum.within(high):
        inside = (radius > low) & (radius < high)
        frequencies.append(to_numpy(radius[inside]).astype(np.float64))
        values.append(to_numpy(amplitude[inside]))
    frequency = np.concatenate(frequencies)
    ring = ((frequency - low) / _RING_STEP).astype(np.int64)
    count = np.bincount(ring)
    filled = np.maximum(count, 1)
    # empty rings (of a tiny image) get a frequency all the same, and the average 0
    middle = np.where(
        count > 0, np.bincount(ring, frequency) / filled, low + (np.arange(len(count)) + 0.5) * _RING_STEP
    )
    return middle, np.bincount(ring, np.concatenate(values)) / filled
