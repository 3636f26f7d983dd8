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
import scipy.linalg
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]

# Strengths tried, in units of the uncertainty of one measurement.
STEPS = 2.0 ** np.arange(-5.0, 3.1, 0.5)
ACCELERATIONS = np.concatenate([[0.0], 2.0 ** np.arange(-4.0, 4.1, 1.0)])
FREE = 1e6  # variance in px² of what is not restricted: where the path begins, its mean velocity, a jump
MOST_JUMPS = 5


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
    trials = [
        (*_regress(prior, measured, variance, unit * step**2, unit * acceleration**2), step, acceleration)
        for step in STEPS
        for acceleration in ACCELERATIONS
    ]
    evidence = np.array([trial[0] for trial in trials])
    best = int(np.argmax(evidence))
    weights = np.exp(evidence - evidence[best])
    trajectory = np.tensordot(weights / weights.sum(), np.stack([trial[1] for trial in trials]), axes=1)
    total = float(evidence[best] + np.log(weights.mean()))
    return _Fit(total, trajectory, unit * trials[best][2] ** 2, unit * trials[best][3] ** 2)


def _regress(
    prior: _Prior, measured: FloatArray, variance: FloatArray, step: float, acceleration: float
) -> tuple[float, FloatArray]:
    """Return log-likelihood and most probable trajectory for given variances of steps and accelerations."""
    covariance = prior.free + step * prior.steps + acceleration * prior.accelerations
    root = scipy.linalg.cholesky(covariance + np.diag(variance), lower=True, check_finite=False)
    white = scipy.linalg.solve_triangular(root, measured, lower=True, check_finite=False)
    # two coordinates share one covariance, so the determinant counts twice
    likelihood = -0.5 * float((white**2).sum()) - 2.0 * float(np.log(np.diag(root)).sum())
    residual = scipy.linalg.solve_triangular(root, white, lower=True, trans=1, check_finite=False)
    return likelihood, measured - variance[:, None] * residual


def _likeliest_jump(prior: _Prior, fit: _Fit, measured: FloatArray, variance: FloatArray) -> _Prior:
    """Return the prior with a free jump at the place where it explains most, the other steps being small."""
    candidates = []
    for place in range(1, len(measured)):
        after = (np.arange(len(measured)) >= place).astype(float)
        jump = _Prior(prior.steps, prior.accelerations, prior.free + FREE * 1e-2 * np.outer(after, after))
        likelihood = max(
            _regress(jump, measured, variance, fit.step * share, fit.acceleration)[0] for share in (1.0, 0.05)
        )
        candidates.append((likelihood, place, jump))
    return max(candidates, key=lambda candidate: candidate[:2])[2]
