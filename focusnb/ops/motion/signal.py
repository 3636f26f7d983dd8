"""Signal and noise of each patch, ring by ring, and what a frame's comparison with the others is then worth.

The frames of a patch hold one common signal, faded by damage as known, and independent noise. A frame's shift follows
from the score of that model; how far it can be trusted from its information (Grant & Grigorieff 2015 weigh frequencies
by one B-factor instead). Patches differ: a few particles may carry more than all the ice. So each patch has a spectrum
of its own, drawn towards that of all patches as far as it is uncertain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from focusnb.ops.backend import Array, like
from focusnb.ops.motion.band import compare_moved, move_phases, sum_moved
from focusnb.ops.motion.patches import Patches

FloatArray = NDArray[np.floating[Any]]

RING_WIDTH = 4.0  # rings of the whole field over which its signal and noise are smoothed
LEAST_RING_WIDTH = 0.6
OWN_WIDTH = 3.0  # rings of a patch, at least, over which its own signal is compared with that of all
SCATTER = 0.5  # of the own signal over the patch's strength, expected
WEAKEST, STRONGEST = 0.05, 20.0  # signal of a patch over that of the mean
STRENGTHS = 0.3, 4.0  # overlap of a patch over what its own signal makes expect


@dataclass(frozen=True)
class Measurement:
    """Where each patch in each frame should go, and how far that can be trusted.

    steps : (p, t, 2, 2) further shift (dy, dx), pixels of the movie, from even and from odd rows of the spectra
    weights : (p, t) inverse variance of a coordinate of the mean of both halves, 1/px²
    significance : overlap of all frames over the standard deviation that noise alone would give it
    overlap : (rings,) of all frames and patches with the others, as expected from signal and noise
    """

    steps: FloatArray
    weights: FloatArray
    significance: float
    overlap: FloatArray


@dataclass(frozen=True)
class _Signal:
    """Power of a component: of the signal in each patch (p, rings), and of the noise of all (rings,)."""

    own: FloatArray
    pooled: FloatArray
    noise: FloatArray
    seen: FloatArray
    """(rings,) sum over frames of what damage leaves of the signal's power."""


def measure_patches(patches: Patches, shifts: FloatArray, *, low_pass: FloatArray | None = None) -> Measurement:
    """Compare each patch in each frame with the sum of its other frames.

    shifts : (p, t, 2) of patches as assumed so far, pixels of the movie
    low_pass : (rings,) further weight of each ring, for instance of a B-factor
    """
    count, frames = shifts.shape[:2]
    phases = [move_phases(patches[p], shifts[p] - patches.taken) for p in range(count)]
    totals = [sum_moved(patches[p], phases[p]) for p in range(count)]
    signal = _measure_signal(patches, totals)
    fading = patches.fading**2
    number, along = patches.ring_sum(patches.use), (2.0 * np.pi) ** 2 * patches.ring_squares()
    steps, weights = np.empty((count, frames, 2, 2)), np.empty((count, frames))
    overlap, expected, variance = np.zeros(frames), np.zeros(frames), np.zeros(frames)
    by_ring = np.zeros(len(number))
    for p in range(count):
        weight = signal.own[p] / (signal.noise * (signal.noise + signal.seen * signal.own[p]))
        if low_pass is not None:
            weight = weight * low_pass
        values = like(patches.use, weight[patches.ring].astype(np.float32)) * patches.use
        compared = compare_moved(patches[p], phases[p], totals[p], values)
        # in expectation; each frequency kept stands for its twin, too
        amplitude = fading * (signal.seen - fading) * signal.own[p] * weight
        information = np.maximum(2.0 * amplitude @ along.T, 1e-12)
        both, likely = compared.sum(axis=1), amplitude @ number
        by_ring += amplitude.sum(axis=0) * number
        strength = float(np.clip(both[:, 0].sum() / max(float(likely.sum()), 1e-30), *STRENGTHS))
        # the others move, too: were each frame to go all the way to them, two frames would change places
        newton = 2.0 * (1.0 - 1.0 / frames) / (strength * information)
        # half of the rows hold half of the information
        steps[p] = 2.0 * compared[:, :, 1:3] * newton[:, None, :]
        weights[p] = 2.0 * strength**2 / (1.0 / information).sum(axis=-1)
        overlap += both[:, 0]
        expected += likely
        others = (signal.seen - fading) * (signal.noise + signal.seen * signal.own[p])
        variance += 0.5 * (fading * signal.noise * others * weight**2) @ number
    deviation = np.sqrt(np.maximum(variance, 1e-30))
    relative = _steady(overlap / np.maximum(expected, 1e-30), deviation / np.maximum(expected, 1e-30))
    # what a frame lacks in signal it lacks in weight, and its steps are too short
    steps /= relative[None, :, None, None]
    weights *= relative**2
    return Measurement(steps, weights, float(overlap.mean() / deviation.mean()), by_ring)


def _steady(relative: FloatArray, deviation: FloatArray) -> FloatArray:
    """Return the strength of each frame's signal around 1, taken from its neighbours where it is uncertain itself."""
    relative = relative / max(float(relative.mean()), 1e-3)
    trend = scipy.ndimage.gaussian_filter1d(relative, 3.0, mode="nearest")
    change = (relative - trend) ** 2
    certain = change / (change + 4.0 * deviation**2)
    steady: FloatArray = np.clip(trend + certain * (relative - trend), 0.1, 4.0)
    return steady


def _measure_signal(patches: Patches, totals: list[Array]) -> _Signal:
    """Separate signal and noise: the power of the sum holds the signal as often as there are pairs of frames."""
    count = patches.ring_sum(patches.use)
    fading = patches.fading**2
    seen, itself = fading.sum(axis=0), (fading**2).sum(axis=0)
    common = np.stack([patches.ring_sum(total.real**2 + total.imag**2) for total in totals]) - patches.own_power
    common /= np.maximum(seen**2 - itself, 1e-12)
    width = max(RING_WIDTH / math.sqrt(len(totals)), LEAST_RING_WIDTH)
    near = np.maximum(_smooth(count, width), 1e-9)
    pooled = np.maximum(_smooth(common.mean(axis=0), width) / near, 0.0)
    noise = (_smooth(patches.own_power.mean(axis=0), width) / near - pooled * itself) / seen
    noise = np.maximum(noise, 1e-9)
    # rings of nothing but noise scatter around 0; what may be chance does not count
    chance = noise / (seen * np.sqrt(2.0 * math.sqrt(math.pi) * width * np.maximum(count, 1.0) * len(totals)))
    pooled = np.where(count > 0, np.maximum(pooled - chance, 0.0), 0.0)
    own = np.stack([_own_signal(values, count, pooled, (noise + seen * pooled) / seen, width) for values in common])
    return _Signal(own, pooled, noise, seen)


def _own_signal(
    common: FloatArray, count: FloatArray, pooled: FloatArray, deviation: FloatArray, width: float
) -> FloatArray:
    """Return a patch's signal: that of all, times a strength, times a smooth ratio as far as it is certain.

    common, count : (rings,) power in common, summed over each ring, and frequencies in it
    deviation : (rings,) of the power of one frequency
    """
    told = count * (pooled / deviation) ** 2
    heard = common * pooled / deviation**2
    strength = float(np.clip(heard.sum() / max(float(told.sum()), 1e-30), WEAKEST, STRONGEST))
    width = max(4.0 * width, OWN_WIDTH)
    near = np.maximum(_smooth(told, width), 1e-30)
    uncertain = 1.0 / (near * 2.0 * math.sqrt(math.pi) * width)
    likely = (SCATTER * strength) ** 2
    ratio = (_smooth(heard, width) / near * likely + strength * uncertain) / (likely + uncertain)
    own: FloatArray = pooled * np.clip(ratio, WEAKEST, STRONGEST)
    return own


def _smooth(values: FloatArray, width: float) -> FloatArray:
    smooth: FloatArray = scipy.ndimage.gaussian_filter1d(values, width, mode="constant")
    return smooth
