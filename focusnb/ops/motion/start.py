"""Where the search for a trajectory begins: the best constant velocity, then peaks of smoothed cross-correlations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from focusnb.ops.backend import Array, array_namespace, fft_namespace, like, to_numpy
from focusnb.ops.fourier import fast_size
from focusnb.ops.motion.band import Band, move_phases, ring_sum, sum_moved

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
    weights = _whitening(band)
    grid = _Grid(band, pixel_size)
    shifts = np.outer(np.arange(frames), _constant_velocity(band, weights, grid))
    for part in ROUNDS:
        width = max(part * frames, 0.7)
        phases = move_phases(band, shifts)
        total = sum_moved(band, phases)
        maps = []
        for t in range(frames):
            moved = band.spectra[t] * phases[0][t][:, None] * phases[1][t][None, :]
            maps.append(grid.correlate(moved, total - moved, weights, FARTHEST))
        smooth = scipy.ndimage.gaussian_filter1d(np.stack(maps), width, axis=0, mode="nearest")
        shifts = shifts + np.array([grid.peak(values) for values in smooth])
    result: FloatArray = shifts - shifts[0]
    return result


def _whitening(band: Band) -> Array:
    """Return weights that give each ring the same say."""
    xp = array_namespace(band.spectra)
    power = ring_sum(band, (xp.abs(band.spectra) ** 2).mean(axis=0) * band.use)
    count = ring_sum(band, band.use)
    level = power / np.maximum(count, 1.0)
    inverse = np.where(level > 0, 1.0 / np.maximum(level, 1e-12), 0.0).astype(np.float32)
    return like(band.spectra, inverse[band.ring]) * band.use


def _constant_velocity(band: Band, weights: Array, grid: _Grid) -> FloatArray:
    """Return the velocity (dy, dx) in pixels per frame that makes all pairs of frames agree best.

    Frames are summed in groups; the cross-correlations of all pairs of groups that are as far apart are summed, and
    read at that distance times each velocity.
    """
    frames = len(band)
    size = -(-frames // MOST_GROUPS)
    groups = [band.spectra[start : start + size].sum(axis=0) for start in range(0, frames - size + 1, size)]
    if len(groups) < 2:
        return np.zeros(2)
    reach = grid.reach(LONGEST_DRIFT)
    longest = len(groups) - 1
    ahead = np.arange(-reach[0], reach[0] + 1) / longest, np.arange(-reach[1], reach[1] + 1) / longest
    score = np.zeros((len(ahead[0]), len(ahead[1])))
    for lag in range(1, len(groups)):
        product = sum(groups[i] * groups[i + lag].conj() for i in range(len(groups) - lag))
        correlation = grid.window(grid.transform(product * weights), reach)
        at = [np.rint(lag * values).astype(int) + r for values, r in zip(ahead, reach, strict=True)]
        score += correlation[np.ix_(*at)]
    y, x = np.unravel_index(int(np.argmax(score)), score.shape)
    return np.array([ahead[0][y] * grid.step[0], ahead[1][x] * grid.step[1]]) / size


class _Grid:
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

    def correlate(self, moved: Array, others: Array, weights: Array, distance: float) -> FloatArray:
        """Return the map of how well a spectrum, moved further, agrees with others, up to a distance in Å."""
        return self.window(self.transform(moved.conj() * others * weights), self.reach(distance))

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
