"""Where the search for a trajectory begins: the best constant velocity, then peaks of smoothed cross-correlations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from focusnb.compiled import compiled
from focusnb.ops.backend import Array, array_namespace, fft_namespace, like, to_numpy
from focusnb.ops.fourier import fast_size
from focusnb.ops.motion.band import Band, move_phases, ring_sum, sum_moved, sum_power

FloatArray = NDArray[np.floating[Any]]

LONGEST_DRIFT = 200.0  # Å over the movie, for the constant velocity
FARTHEST = 60.0  # Å between a frame and where the velocity expects it
MOST_GROUPS = 16
ROUNDS = (0.15, 0.08, 0.05, 0.03)  # width of smoothing over time, as parts of the movie


def first_trajectory(band: Band, *, pixel_size: float) -> FloatArray:
    """Return a rough trajectory (t, 2): shifts to apply in pixels of the movie.

    band : low frequencies only; a tenth of a period of the finest is enough as a result
    """
    frames = len(band)
    if frames == 1:
        return np.zeros((1, 2))
    weights = whitening(band)
    grid = Grid(band, pixel_size)
    shifts = np.outer(np.arange(frames), _constant_velocity(band, weights, grid))
    for part in ROUNDS:
        width = max(part * frames, 0.7)
        phases = move_phases(band, shifts)
        maps = grid.correlate(band, phases, sum_moved(band, phases), weights, FARTHEST)
        smooth = scipy.ndimage.gaussian_filter1d(maps, width, axis=0, mode="nearest")
        shifts = shifts + np.array([grid.peak(values) for values in smooth])
    result: FloatArray = shifts - shifts[0]
    return result


def whitening(band: Band) -> Array:
    """Return weights that give each ring the same say."""
    power = ring_sum(band, sum_power(band) * band.use) / len(band)
    count = ring_sum(band, band.use)
    level = power / np.maximum(count, 1.0)
    inverse = np.where(level > 0, 1.0 / np.maximum(level, 1e-12), 0.0).astype(np.float32)
    return like(band.spectra, inverse[band.ring]) * band.use


def _constant_velocity(band: Band, weights: Array, grid: Grid) -> FloatArray:
    """Return the velocity (dy, dx) in pixels per frame that makes all pairs of frames agree best.

    Frames are summed in groups; the cross-correlations of all pairs of groups that are as far apart are summed, and
    read at that distance times each velocity.
    """
    frames = len(band)
    size = -(-frames // MOST_GROUPS)
    xp = array_namespace(band.spectra)
    groups = xp.stack([band.spectra[start : start + size].sum(axis=0) for start in range(0, frames - size + 1, size)])
    if len(groups) < 2:
        return np.zeros(2)
    reach = grid.reach(LONGEST_DRIFT)
    longest = len(groups) - 1
    ahead = np.arange(-reach[0], reach[0] + 1) / longest, np.arange(-reach[1], reach[1] + 1) / longest
    score = np.zeros((len(ahead[0]), len(ahead[1])))
    for lag in range(1, len(groups)):
        correlation = grid.window(grid.transform(_products(groups, lag) * weights), reach)
        at = [np.rint(lag * values).astype(int) + r for values, r in zip(ahead, reach, strict=True)]
        score += correlation[np.ix_(*at)]
    y, x = np.unravel_index(int(np.argmax(score)), score.shape)
    return np.array([ahead[0][y] * grid.step[0], ahead[1][x] * grid.step[1]]) / size


def _products(groups: Array, lag: int) -> Array:
    """Return the sum of the products of all spectra (g, rows, columns) with those so many places further."""
    if not isinstance(groups, np.ndarray):
        return (groups[:-lag] * groups[lag:].conj()).sum(axis=0)
    total = np.zeros(groups.shape[1:], np.complex64)
    _add_products(groups, lag, total)
    return total


class Grid:
    """Maps of cross-correlation over shifts: one and a half times as many samples as the band needs."""

    def __init__(self, band: Band, pixel_size: float) -> None:
        self.rows = np.rint(band.y * band.field[0]).astype(int)
        columns = round(float(band.x[-1]) * band.field[1])
        self.shape = (fast_size(3 * int(np.abs(self.rows).max()) + 2), fast_size(3 * columns + 2))
        self.step = band.field[0] / self.shape[0], band.field[1] / self.shape[1]
        self.pixel_size = pixel_size

    def reach(self, distance: float) -> tuple[int, int]:
        """Return a distance in Å as samples of the map, at most a quarter of it."""
        samples = [math.ceil(distance / (self.pixel_size * step)) for step in self.step]
        return min(samples[0], self.shape[0] // 4), min(samples[1], self.shape[1] // 4)

    def transform(self, product: Array) -> Array:
        """Return the map of a product of spectra (rows, columns), shift 0 first."""
        xp, fft = array_namespace(product), fft_namespace(product)
        full = xp.zeros((self.shape[0], self.shape[1] // 2 + 1), dtype=xp.complex64)
        full[like(product, self.rows % self.shape[0]), : product.shape[1]] = product
        return fft.irfft2(full, s=self.shape)

    def window(self, values: Array, reach: tuple[int, int]) -> FloatArray:
        """Return the part of a map around shift 0, shift 0 in the middle, on the host."""
        xp = array_namespace(values)
        rolled = xp.roll(values, reach, axis=(0, 1))
        part: FloatArray = to_numpy(rolled[: 2 * reach[0] + 1, : 2 * reach[1] + 1])
        return part

    def correlate(
        self, band: Band, phases: tuple[Array, Array], total: Array, weights: Array, distance: float
    ) -> FloatArray:
        """Return the maps (t, y, x) of how well each frame, moved further than by its phases, agrees with the others.

        phases, total : of ``move_phases`` and ``sum_moved``; distance : Å up to which a map goes
        """
        reach = self.reach(distance)
        if not isinstance(band.spectra, np.ndarray):
            return self.correlate_plain(band, phases, total, weights, distance)
        # few places of a map are wanted: waves are summed there, without a transform
        y = _waves(self.rows / self.shape[0], reach[0])
        x = _waves(np.arange(band.spectra.shape[2]) / self.shape[1], reach[1])
        x *= np.where(np.arange(band.spectra.shape[2]) > 0, 2.0, 1.0) / (self.shape[0] * self.shape[1])
        maps = np.empty((len(band), 2 * reach[0] + 1, 2 * reach[1] + 1))
        _correlate(
            band.spectra,
            phases[0],
            phases[1],
            total,
            weights,
            np.ascontiguousarray(y.real, np.float32),
            np.ascontiguousarray(y.imag, np.float32),
            x,
            maps,
        )
        return maps

    def correlate_plain(
        self, band: Band, phases: tuple[Array, Array], total: Array, weights: Array, distance: float
    ) -> FloatArray:
        """Plain twin of ``correlate``."""
        reach, maps = self.reach(distance), []
        for t in range(len(band)):
            moved = band.spectra[t] * phases[0][t][:, None] * phases[1][t][None, :]
            maps.append(self.window(self.transform(moved.conj() * (total - moved) * weights), reach))
        return np.stack(maps)

    def peak(self, values: FloatArray) -> FloatArray:
        """Return the shift (dy, dx) of the highest place in pixels of the movie, between samples by parabolas."""
        y, x = np.unravel_index(int(np.argmax(values)), values.shape)
        offset = [float(y - values.shape[0] // 2), float(x - values.shape[1] // 2)]
        for axis, (at, line) in enumerate(((y, values[:, x]), (x, values[y]))):
            if 0 < at < len(line) - 1:
                curvature = float(line[at - 1] - 2.0 * line[at] + line[at + 1])
                if curvature < 0:
                    offset[axis] += 0.5 * float(line[at - 1] - line[at + 1]) / curvature
        shift: FloatArray = np.array(offset) * np.array(self.step)
        return shift


def _waves(frequency: FloatArray, reach: int) -> NDArray[np.complex128]:
    """Return exp(2πi frequency · place) at the places 0 ... reach, (reach + 1, frequencies)."""
    waves: NDArray[np.complex128] = np.exp(2j * np.pi * np.outer(np.arange(reach + 1), frequency))
    return waves


@compiled
def _add_product(first: Array, second: Array, total: Array) -> None:
    for x in range(total.shape[0]):
        total[x] += first[x] * second[x].conjugate()


@compiled
def _add_products(groups: Array, lag: int, total: Array) -> None:
    for i in range(groups.shape[0] - lag):
        for y in range(total.shape[0]):
            _add_product(groups[i, y], groups[i + lag, y], total[y])


@compiled
def _compare(row: Array, phase: complex, phases: Array, total: Array, weights: Array, real: Array, imag: Array) -> None:
    """Fill real and imag with conj(moved) · (total - moved) · weight."""
    for x in range(row.shape[0]):
        moved = row[x] * (phase * phases[x])
        rest = total[x] - moved
        real[x] = (moved.real * rest.real + moved.imag * rest.imag) * weights[x]
        imag[x] = (moved.real * rest.imag - moved.imag * rest.real) * weights[x]


@compiled
def _add_wave(cosine: Any, sine: Any, real: Array, imag: Array, sums: Array) -> None:
    """Add a row times cosine and times sine, both parts of it."""
    a, b, c, d = sums[0], sums[1], sums[2], sums[3]
    for x in range(real.shape[0]):
        a[x] += real[x] * cosine
        b[x] += imag[x] * cosine
        c[x] += real[x] * sine
        d[x] += imag[x] * sine


@compiled
def _correlate(
    spectra: Array,
    phase_y: Array,
    phase_x: Array,
    total: Array,
    weights: Array,
    cosines: Array,
    sines: Array,
    waves: Array,
    maps: Array,
) -> None:
    """Sum the waves of each comparison at the places of its map: first over rows, then over columns."""
    columns = spectra.shape[2]
    real, imag = np.empty(columns, np.float32), np.empty(columns, np.float32)
    sums = np.empty((cosines.shape[0], 4, columns), np.float32)
    reach_y, reach_x = cosines.shape[0] - 1, waves.shape[0] - 1
    for t in range(spectra.shape[0]):
        sums[:] = 0.0
        for y in range(spectra.shape[1]):
            _compare(spectra[t, y], phase_y[t, y], phase_x[t], total[y], weights[y], real, imag)
            for j in range(reach_y + 1):
                _add_wave(cosines[j, y], sines[j, y], real, imag, sums[j])
        for j in range(reach_y + 1):
            a, b, c, d = sums[j, 0], sums[j, 1], sums[j, 2], sums[j, 3]
            for i in range(reach_x + 1):
                # (a + ib) ± i(c + id) at the places ±j along y, times the waves of ±i along x
                first = second = third = fourth = 0.0
                for x in range(columns):
                    u, v = waves[i, x].real, waves[i, x].imag
                    first += a[x] * u
                    second += d[x] * u
                    third += b[x] * v
                    fourth += c[x] * v
                maps[t, reach_y + j, reach_x + i] = first - second - third - fourth
                maps[t, reach_y - j, reach_x + i] = first + second - third + fourth
                maps[t, reach_y + j, reach_x - i] = first - second + third + fourth
                maps[t, reach_y - j, reach_x - i] = first + second + third - fourth
