"""Align the frames of a movie as a whole.

Each frame is compared with the sum of the others (leave one out; Li et al. 2013, Grant & Grigorieff 2015) over a band
of frequencies. How much each frequency counts follows from signal and noise measured in the movie itself, ring by ring;
the trajectory is the most probable one, given how far each frame's measurement can be trusted (``smoothing``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from focusnb.ops.backend import Array, array_namespace, like, to_numpy
from focusnb.ops.frames import CorrectedFrames
from focusnb.ops.motion.band import (
    Band,
    BinnedFrames,
    bin_frames,
    compare_moved,
    move_phases,
    ring_sum,
    sum_moved,
    sum_power,
    transform_frames,
)
from focusnb.ops.motion.evidence import MOSTLY, Evidence, fine_part
from focusnb.ops.motion.smoothing import smooth_trajectory
from focusnb.ops.motion.start import first_trajectory

FloatArray = NDArray[np.floating[Any]]

RESOLUTION = 3.5  # Å; finer than this a single frame holds nothing that would help
ROUGH_RESOLUTION = 20.0  # Å; of the first search
MANY_WAVES = 130.0  # in a large field, which has plenty below that
ROUGH_PIXEL = 7.0  # Å of a pixel there
ROUGH_SIDE = 200  # pixels along a side there
ROUGH_ITERATIONS = 20
ROUGH_WAVES = 12.0  # in a small field, which has hardly any frequencies below that
RING_WIDTH = 4.0  # rings over which signal and noise are smoothed
LONGEST_STEP = 10.0  # Å a frame may move in one iteration
SIGNIFICANT = 5.0  # mean overlap of a frame with the others over its noise; aligned noise reaches 4.4
CLEARLY = 2.0  # times as significant as noise may be, where nothing else is asked of a path
SETTLING = 6  # iterations after which steps are halved, lest two trajectories alternate


@dataclass(frozen=True)
class Alignment:
    """The whole-frame motion of a movie.

    shifts : (t, 2) (dy, dx) to apply, pixels of the movie: output(r) = frame_t(r - shift_t); zero in the first frame
    correlation : (t,) of each frame with the sum of the others, weighted as in the alignment
    uncertainty : expected root mean square error of a single measurement before smoothing, pixels
    iterations : done at full resolution
    converged : whether the last iteration changed no shift by more than the tolerance
    significance : mean overlap of a frame with the others over its noise
    fine : part of the overlap at waves so short that a summit beside the right one may have been climbed
    Where the frames have no more in common than noise, agree in several places alike, or hardly better than unmoved,
    all shifts are 0, ``uncertainty`` is infinite and ``converged`` False.
    """

    shifts: FloatArray
    correlation: FloatArray
    uncertainty: float
    iterations: int
    converged: bool
    significance: float
    fine: float

    @property
    def doubtful(self) -> bool:
        """Whether frames agree, but so weakly or at such short waves that they may do so elsewhere as well."""
        return is_doubtful(self.significance, self.fine) and bool(np.isfinite(self.uncertainty))


@dataclass(frozen=True)
class _Weights:
    """How much frequencies count, and what a trajectory's measurement then tells.

    values : (rows, columns) float32
    information : (2, 2) inverse covariance of one frame's measurement of mean strength, 1/px²
    overlap, scatter : expected mean and standard deviation of the weighted overlap of a frame with the others
    shared : (rows, columns) what frequencies contribute to that overlap, on the host
    """

    values: Array
    information: FloatArray
    overlap: float
    scatter: float
    shared: FloatArray


def is_doubtful(significance: float, fine: float) -> bool:
    """Return whether a path found from one start has to be compared with others, and with none at all."""
    return fine > MOSTLY or significance < CLEARLY * SIGNIFICANT


def estimate_shifts(
    frames: CorrectedFrames,
    *,
    pixel_size: float,
    b_factor: float | None = None,
    resolution: float = RESOLUTION,
    tolerance: float = 0.05,
    iterations: int = 20,
) -> Alignment:
    """Find the shift of each frame that brings it onto the others.

    pixel_size : Å/px of the movie
    b_factor : Å²; a further low-pass exp(-B k² / 4) on each frame; None leaves it to the measured signal
    resolution : Å, finest frequency used
    tolerance : stop when no shift changes by more, pixels of the movie
    Raises ValueError when a frame is constant, not finite, or too small.
    """
    binned = bin_frames(frames, pixel_size=pixel_size)
    if len(binned) == 1:
        return Alignment(np.zeros((1, 2)), np.ones(1), 0.0, 0, True, 0.0, 0.0)
    shifts = start_shifts(binned, pixel_size=pixel_size, b_factor=b_factor)
    band = transform_frames(binned, pixel_size=pixel_size, resolution=resolution)
    found = refine_shifts(band, shifts, pixel_size, b_factor, tolerance, iterations)
    if not found.doubtful:
        return found
    evidence = Evidence(band, pixel_size)
    others = other_starts(band, fine=found.fine, pixel_size=pixel_size)
    tried = [found, *(refine_shifts(band, path, pixel_size, b_factor, tolerance, iterations) for path in others)]
    best = max(tried, key=lambda each: evidence.worth(each.shifts, each.uncertainty))
    # what was looked for elsewhere as well is found more easily in noise
    trusted = best.significance >= (1.0 if best is found else CLEARLY) * SIGNIFICANT and evidence.proves(
        best.shifts, best.uncertainty, fine=best.fine, rough=shifts
    )
    return best if trusted else _still(best)


def other_starts(band: Band, *, fine: float, pixel_size: float) -> list[FloatArray]:
    """Return further paths (t, 2) to begin a doubtful search from.

    fine : part of the overlap at short waves; where it is large, each frame is looked for with all of them, too
    """
    still: FloatArray = np.zeros((len(band), 2))
    return [still, first_trajectory(band, pixel_size=pixel_size)] if fine > MOSTLY else [still]


def _still(found: Alignment) -> Alignment:
    """Return that nothing is moved: noise alone aligns itself to any path."""
    return replace(found, shifts=np.zeros_like(found.shifts), uncertainty=float("inf"), converged=False)


def start_shifts(binned: BinnedFrames, *, pixel_size: float, b_factor: float | None = None) -> FloatArray:
    """Find the trajectory (t, 2) by frequencies below 20 Å: within an ångström or two where there is any signal."""
    factor = max(1, int(ROUGH_PIXEL / (pixel_size * binned.factor)))
    while factor > 1 and min(binned.shape) // factor < ROUGH_SIDE:
        factor -= 1
    coarse = binned.coarser(factor)
    side = min(binned.shape) * binned.factor
    limit = max(min(pixel_size / ROUGH_RESOLUTION, MANY_WAVES / side), ROUGH_WAVES / side)
    low = transform_frames(coarse, pixel_size=pixel_size, resolution=pixel_size / limit)
    shifts = first_trajectory(low, pixel_size=pixel_size)
    rough = refine_shifts(low, shifts, pixel_size, b_factor, 0.5 / pixel_size, ROUGH_ITERATIONS)
    return rough.shifts if np.isfinite(rough.uncertainty) else shifts


def refine_shifts(
    band: Band, shifts: FloatArray, pixel_size: float, b_factor: float | None, tolerance: float, iterations: int
) -> Alignment:
    """Climb from shifts (t, 2) to the most probable trajectory near them, by the frequencies of a band."""
    power = _mean_power(band)
    filtering = np.exp(-0.5 * (b_factor or 0.0) / pixel_size**2 * (band.y[:, None] ** 2 + band.x[None, :] ** 2))
    low_pass = like(band.spectra, filtering.astype(np.float32)) * band.use
    correlation, uncertainty, change, significance = np.zeros(len(band)), float("inf"), float("inf"), 0.0
    shared: FloatArray = np.zeros(band.ring.shape)
    iteration = 0
    while iteration < iterations and change > tolerance:
        iteration += 1
        phases = move_phases(band, shifts)
        total = sum_moved(band, phases)
        weights = _weigh(band, total, power, low_pass)
        compared = compare_moved(band, phases, total, weights.values).sum(axis=1)
        correlation = compared[:, 0] / np.sqrt(np.maximum(compared[:, 3] * compared[:, 4], 1e-30))
        if weights.overlap <= 0.0:
            break
        significance, shared = float(compared[:, 0].mean()) / weights.scatter, weights.shared
        strength = _strengths(compared[:, 0], weights)
        covariance = np.linalg.inv(weights.information)
        # the others move, too: were each frame to go all the way to them, two frames would change places
        steps = (2.0 * (1.0 - 1.0 / len(band)) * compared[:, 1:3]) @ covariance / strength[:, None]
        longest = LONGEST_STEP / pixel_size
        steps *= np.minimum(1.0, longest / np.maximum(np.hypot(steps[:, 0], steps[:, 1]), 1e-9))[:, None]
        variance = 0.5 * np.trace(covariance) / strength**2
        smoothed = smooth_trajectory(shifts + steps, variance)
        if iteration > SETTLING:
            smoothed = 0.5 * (smoothed + shifts)
        smoothed = smoothed - smoothed[0]
        change = float(np.abs(smoothed - shifts).max())
        uncertainty = float(np.sqrt(2.0 * np.median(variance)))
        shifts = smoothed
    fine = fine_part(shared, np.hypot(band.y[:, None], band.x[None, :]), pixel_size)
    found = Alignment(shifts, correlation, uncertainty, iteration, change <= tolerance, significance, fine)
    return found if significance >= SIGNIFICANT else _still(found)


def _mean_power(band: Band) -> FloatArray:
    """Return the power of a frame summed over each ring."""
    return ring_sum(band, sum_power(band)) / len(band)


def _weigh(band: Band, total: Array, power: FloatArray, low_pass: Array) -> _Weights:
    """Weigh frequencies by signal and noise: the score of a Gaussian model of common signal and independent noise."""
    xp = array_namespace(band.spectra)
    frames = len(band)
    count = ring_sum(band, band.use)
    common = (ring_sum(band, xp.abs(total) ** 2) - frames * power) / (frames * (frames - 1.0))
    near = np.maximum(_smooth(count), 1e-9)
    signal = _smooth(common) / near
    noise = np.maximum(_smooth(power) / near - np.maximum(signal, 0.0), 1e-9)
    # rings of nothing but noise scatter around 0; what may be chance does not count
    chance = noise / (frames * np.sqrt(2.0 * np.sqrt(np.pi) * RING_WIDTH * np.maximum(count, 1.0)))
    signal = np.where(count > 0, np.maximum(signal - chance, 0.0), 0.0)
    ring = band.ring
    weights = (signal / (noise * (noise + frames * signal)))[ring]
    values = like(band.spectra, weights.astype(np.float32)) * low_pass
    # in expectation; each frequency kept stands for its twin, too
    host = weights * to_numpy(low_pass).astype(float)
    told = 2.0 * (frames - 1.0) * signal[ring] * host * (2.0 * np.pi) ** 2
    y, x = band.y[:, None], band.x[None, :]
    cross = float((told * y * x).sum())
    expected = np.array([[float((told * y * y).sum()), cross], [cross, float((told * x * x).sum())]])
    shared = (frames - 1.0) * signal[ring] * host
    overlap = float(shared.sum())
    variance = 0.5 * (frames - 1.0) * noise[ring] * (noise[ring] + (frames - 1.0) * signal[ring]) * host**2
    return _Weights(values, expected, overlap, float(np.sqrt(variance.sum())), shared)


def _strengths(overlap: FloatArray, weights: _Weights) -> FloatArray:
    """Return the strength of each frame's signal around 1, taken from its neighbours where it is uncertain itself."""
    measured = overlap / max(float(overlap.mean()), 1e-3 * weights.overlap)
    trend = scipy.ndimage.gaussian_filter1d(measured, 3.0, mode="nearest")
    deviation = (measured - trend) ** 2
    certain = deviation / (deviation + 4.0 * (weights.scatter / weights.overlap) ** 2)
    strength: FloatArray = np.clip(trend + certain * (measured - trend), 0.1, 4.0)
    return strength


def _smooth(values: FloatArray) -> FloatArray:
    smooth: FloatArray = scipy.ndimage.gaussian_filter1d(values, RING_WIDTH, mode="constant")
    return smooth
