"""The most probable trajectory behind noisy measurements: smooth in time but free to jump.

The prior is a sum of Gaussian processes: any constant velocity; accelerations that die away after the first frames
(beam-induced motion settles); random steps; and single jumps where the measurements insist on them. How strong each is
follows from the measurements themselves, by their marginal likelihood (Rasmussen & Williams 2006, chapter 5); strengths
that explain them equally well are averaged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focusnb.compiled import compiled

FloatArray = NDArray[np.floating[Any]]

# Strengths tried, in units of the uncertainty of one measurement.
STEPS = 2.0 ** np.arange(-5.0, 3.1)
ACCELERATIONS = np.concatenate([[0.0], 2.0 ** np.arange(-4.0, 4.1)])
FREE = 1e6  # variance in px² of what is not restricted: where the path begins, its mean velocity, a jump
MOST_JUMPS = 5
LEAST_VARIANCE = 1e-6  # px²: a thousandth of a pixel


@dataclass(frozen=True)
class _Prior:
    """Covariances of trajectories (t, t) of unit strength, and the part that is always there."""

    steps: FloatArray
    accelerations: FloatArray
    free: FloatArray


@dataclass(frozen=True)
class _Fit:
    """Log-likelihoods of all strengths, the averaged trajectory and the best strengths."""

    evidence: float
    trajectory: FloatArray
    step: float
    acceleration: float


def smooth_trajectory(measured: FloatArray, variance: FloatArray) -> FloatArray:
    """Return the most probable trajectory (t, 2).

    measured : (t, 2) positions in pixels
    variance : (t,) of each coordinate of each measurement, px²
    """
    frames = len(measured)
    if frames < 3:
        return np.array(measured, float)
    # identical frames are measured without any error, and a covariance of nothing has no inverse
    variance = np.maximum(variance, LEAST_VARIANCE)
    prior = _make_prior(frames)
    fit = _fit(prior, measured, variance)
    for _ in range(min(MOST_JUMPS, frames // 4)):
        candidate = _likeliest_jump(prior, fit, measured, variance)
        trial = _fit(candidate, measured, variance)
        # a jump has a place and two components to choose freely; by chance it gains less than this
        if trial.evidence - fit.evidence < math.log(frames) + 3.0:
            break
        prior, fit = candidate, trial
    return fit.trajectory


def _make_prior(frames: int) -> _Prior:
    time = np.arange(frames)
    steps = np.minimum(time[:, None], time[None, :]).astype(float)
    # acceleration j acts on all later positions; an exponential settling has about 1 / (j + 1)
    response = np.maximum(time[:, None] - time[None, :], 0.0)[:, 1:] * (3.0 / (1.0 + time[1:]))
    line = (time - time.mean()) * (2.0 / frames)
    free = FREE * (1.0 + np.outer(line, line))
    return _Prior(steps, response @ response.T, free)


def _fit(prior: _Prior, measured: FloatArray, variance: FloatArray) -> _Fit:
    """Average over strengths, each weighted by how well it explains the measurements."""
    unit = float(np.median(variance))
    strengths = unit * np.array([(step**2, acceleration**2) for step in STEPS for acceleration in ACCELERATIONS])
    evidence, trajectories = _explain(prior, measured, variance, strengths)
    best = int(np.argmax(evidence))
    weights = np.exp(evidence - evidence[best])
    trajectory = np.tensordot(weights / weights.sum(), trajectories, axes=1)
    total = float(evidence[best] + np.log(weights.mean()))
    return _Fit(total, trajectory, float(strengths[best, 0]), float(strengths[best, 1]))


def _explain(
    prior: _Prior, measured: FloatArray, variance: FloatArray, strengths: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return log-likelihoods (n,) and most probable trajectories (n, t, 2) for variances (n, 2) of both processes."""
    evidence = np.empty(len(strengths))
    trajectories = np.empty((len(strengths), *measured.shape))
    root = np.empty((len(measured), len(measured)))
    for i, (step, acceleration) in enumerate(strengths):
        covariance = prior.free + step * prior.steps + acceleration * prior.accelerations
        covariance[np.diag_indices(len(measured))] += variance
        trajectories[i] = measured
        evidence[i] = _regress(covariance, variance, trajectories[i], root)
    return evidence, trajectories


# Compiled although small: matrices of this size make a threaded LAPACK spin on all cores.
@compiled
def _dot(first: FloatArray, second: FloatArray) -> float:
    total = 0.0
    for i in range(first.shape[0]):
        total += first[i] * second[i]
    return total


@compiled
def _regress(covariance: FloatArray, variance: FloatArray, positions: FloatArray, root: FloatArray) -> float:
    """Replace measured positions by the most probable ones; return the log-likelihood (Gaussian process regression).

    covariance : (t, t) of the measurements, noise included
    root : (t, t) room for the Cholesky factor
    """
    size = covariance.shape[0]
    likelihood = 0.0
    for i in range(size):
        for j in range(i):
            root[i, j] = (covariance[i, j] - _dot(root[i, :j], root[j, :j])) / root[j, j]
        root[i, i] = np.sqrt(covariance[i, i] - _dot(root[i, :i], root[i, :i]))
        # two coordinates share one covariance, so its determinant counts twice
        likelihood -= 2.0 * np.log(root[i, i])
    white = np.empty(size)
    for axis in range(2):
        for i in range(size):
            white[i] = (positions[i, axis] - _dot(root[i, :i], white[:i])) / root[i, i]
        likelihood -= 0.5 * _dot(white, white)
        for i in range(size - 1, -1, -1):
            white[i] /= root[i, i]
            for j in range(i):
                white[j] -= root[i, j] * white[i]
        for i in range(size):
            positions[i, axis] -= variance[i] * white[i]
    return likelihood


def _likeliest_jump(prior: _Prior, fit: _Fit, measured: FloatArray, variance: FloatArray) -> _Prior:
    """Return the prior with a free jump at the place where it explains most, the other steps being small."""
    candidates = []
    for place in range(1, len(measured)):
        after = (np.arange(len(measured)) >= place).astype(float)
        jump = _Prior(prior.steps, prior.accelerations, prior.free + FREE * 1e-2 * np.outer(after, after))
        strengths = np.array([(fit.step, fit.acceleration), (0.05 * fit.step, fit.acceleration)])
        candidates.append((float(_explain(jump, measured, variance, strengths)[0].max()), place, jump))
    return max(candidates, key=lambda candidate: candidate[:2])[2]
