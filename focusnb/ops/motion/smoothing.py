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
JUMP = 1e-2 * FREE
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
    trajectories[:] = measured
    _regress_all(prior.free, prior.steps, prior.accelerations, variance, strengths, trajectories, evidence)
    return evidence, trajectories


# Compiled although small: matrices of this size make a threaded LAPACK spin on all cores.
@compiled
def _dot(first: FloatArray, second: FloatArray) -> float:
    total = 0.0
    for i in range(first.shape[0]):
        total += first[i] * second[i]
    return total


@compiled
def _factor(covariance: FloatArray, root: FloatArray) -> float:
    """Fill the Cholesky factor of a covariance; returns the logarithm of its determinant."""
    size = covariance.shape[0]
    logarithm = 0.0
    for i in range(size):
        for j in range(i):
            root[i, j] = (covariance[i, j] - _dot(root[i, :j], root[j, :j])) / root[j, j]
        root[i, i] = np.sqrt(covariance[i, i] - _dot(root[i, :i], root[i, :i]))
        logarithm += 2.0 * np.log(root[i, i])
    return logarithm


@compiled
def _regress(covariance: FloatArray, variance: FloatArray, positions: FloatArray, root: FloatArray) -> float:
    """Replace measured positions by the most probable ones; return the log-likelihood (Gaussian process regression).

    covariance : (t, t) of the measurements, noise included
    root : (t, t) room for the Cholesky factor
    """
    size = covariance.shape[0]
    # two coordinates share one covariance, so its determinant counts twice
    likelihood = -_factor(covariance, root)
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


@compiled
def _regress_all(
    free: FloatArray,
    steps: FloatArray,
    accelerations: FloatArray,
    variance: FloatArray,
    strengths: FloatArray,
    positions: FloatArray,
    evidence: FloatArray,
) -> None:
    """Regress with each pair of strengths (n, 2) of two covariances (t, t) beside one that is always there."""
    size = free.shape[0]
    covariance, root = np.empty((size, size)), np.empty((size, size))
    for n in range(strengths.shape[0]):
        for i in range(size):
            # of a symmetric matrix the lower half is looked at
            for j in range(i + 1):
                covariance[i, j] = free[i, j] + strengths[n, 0] * steps[i, j] + strengths[n, 1] * accelerations[i, j]
            covariance[i, i] += variance[i]
        evidence[n] = _regress(covariance, variance, positions[n], root)


@compiled
def _solve(root: FloatArray, values: FloatArray, white: FloatArray) -> None:
    for i in range(root.shape[0]):
        white[i] = (values[i] - _dot(root[i, :i], white[:i])) / root[i, i]


@compiled
def _jump_evidence(covariance: FloatArray, measured: FloatArray, strength: float, evidence: FloatArray) -> None:
    """Return log-likelihoods with one jump of that variance more, before each frame but the first.

    covariance : (t, t) without the jump, noise included; evidence : (t - 1,)
    A jump adds a product of one vector to the covariance, so that one factor serves all (Sherman & Morrison 1950).
    """
    size = covariance.shape[0]
    root, white = np.empty((size, size)), np.empty((2, size))
    common = -_factor(covariance, root)
    for axis in range(2):
        _solve(root, measured[:, axis].copy(), white[axis])
        common -= 0.5 * _dot(white[axis], white[axis])
    after, jump = np.ones(size), np.empty(size)
    for place in range(1, size):
        after[place - 1] = 0.0
        _solve(root, after, jump)
        length = 1.0 + strength * _dot(jump, jump)
        explained = _dot(jump, white[0]) ** 2 + _dot(jump, white[1]) ** 2
        evidence[place - 1] = common - np.log(length) + 0.5 * strength * explained / length


def _likeliest_jump(prior: _Prior, fit: _Fit, measured: FloatArray, variance: FloatArray) -> _Prior:
    """Return the prior with a free jump at the place where it explains most, the other steps being small."""
    evidence = np.empty((2, len(measured) - 1))
    for i, part in enumerate((1.0, 0.05)):
        covariance = prior.free + part * fit.step * prior.steps + fit.acceleration * prior.accelerations
        covariance[np.diag_indices(len(measured))] += variance
        _jump_evidence(covariance, measured, JUMP, evidence[i])
    place = 1 + int(np.argmax(evidence.max(axis=0)))
    after = (np.arange(len(measured)) >= place).astype(float)
    return _Prior(prior.steps, prior.accelerations, prior.free + JUMP * np.outer(after, after))
