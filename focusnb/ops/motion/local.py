"""Motion that differs from place to place: one smooth model for all patches, the most probable one.

In place the model is quadratic; in time it is a settling of unknown speed, or a steady drift, with some freedom to
wander. How far motion goes, how fast it settles and how much is quadratic are not known beforehand: every choice
explains the measurements with some likelihood, and all are averaged by it (Rasmussen & Williams 2006, chapter 5). So
a weak specimen gets little local motion instead of a wrong one, and patches are never fitted alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focusnb.ops.motion.field import TERMS, place_terms

FloatArray = NDArray[np.floating[Any]]

SETTLING = (0.04, 0.08, 0.16, 0.32, 0.64, math.inf)
"""Time constants of the settling, in lengths of the movie; an infinite one is a steady drift."""
WANDERING = (0.0, 0.03)
"""Part of the variance in time that is a random walk, quick at first."""
EXTENTS = 2.0 ** np.arange(-5.0, 3.6, 0.5)
"""Root mean square of linear motion over field and movie, in pixels of 1 Å."""
BENDING = (0.25, 0.5, 1.0, 2.0)
"""Quadratic motion over linear motion."""
SPREAD = np.array([12.0**-0.5, 12.0**-0.5, 180.0**-0.5, 180.0**-0.5, 1.0 / 12.0])
"""Root mean square of the functions of the place over the field."""
FUNCTIONS = 8
"""Functions of time, the most likely ones, where motion may wander."""
DISAGREES = 25.0
"""Deviation of a patch from the model, squared, in variances of its slow motion along both axes."""
WORTH = 4.0
"""What a local model must gain on data it has not seen, in units of squared deviations over variances."""


@dataclass(frozen=True)
class LocalFit:
    """A model of local motion.

    coefficients : (t, 2, 5) of the functions of the place (``place_terms``), pixels; 0 in frame 0
    dropped : (p,) True for patches that disagree with all others
    """

    coefficients: FloatArray
    dropped: NDArray[np.bool_]


def fit_local_motion(
    measured: FloatArray, weights: FloatArray, centres: FloatArray, shape: tuple[int, int], *, pixel_size: float
) -> LocalFit:
    """Fit the local motion of a movie to shifts of its patches.

    measured : (p, t, 2, 2) shift (dy, dx) in pixels, from two independent halves of the data; the whole-frame motion
        and a constant for each patch need not be known
    weights : (p, t) inverse variance of a coordinate of the mean of both halves
    centres : (p, 2) places of the patches, pixels of the movie
    shape : (ny, nx) of the field
    pixel_size : Å/px
    """
    terms = place_terms(centres[:, 0], centres[:, 1], shape)
    dropped = np.zeros(len(measured), bool)
    mean = measured.mean(axis=2)
    while True:
        used = ~dropped
        coefficients = _most_probable(mean[used], weights[used], terms[used], pixel_size)
        worst = _disagreement(mean[used], weights[used], terms[used], coefficients)
        if worst.max() < DISAGREES or 4 * (dropped.sum() + 1) > len(dropped):
            break
        dropped[np.flatnonzero(used)[int(np.argmax(worst))]] = True
    return LocalFit(coefficients - coefficients[:1], dropped)


def gain_by_local_motion(
    measured: FloatArray,
    weights: FloatArray,
    centres: FloatArray,
    shape: tuple[int, int],
    *,
    pixel_size: float,
    dropped: NDArray[np.bool_],
) -> float:
    """Return by how much local motion fitted to one half of the data explains the other half better than none.

    The arguments are those of ``fit_local_motion``. The result, in squared deviations over variances of both halves,
    is below 0 where the model follows noise; a model is worth having from ``WORTH``.
    """
    used = ~dropped
    terms = place_terms(centres[used, 0], centres[used, 1], shape)
    half_weights, gain = 0.5 * weights[used], 0.0
    for half in range(2):
        seen, unseen = measured[used, :, half], measured[used, :, 1 - half]
        model = _most_probable(seen, half_weights, terms, pixel_size)
        predicted = np.einsum("tak,pk->pta", model, terms)
        gain += _squares(unseen, half_weights) - _squares(unseen - predicted, half_weights)
    return gain


def _centred(values: FloatArray, places: FloatArray, times: FloatArray) -> FloatArray:
    """Take the weighted means over patches and over time from values (p, t, ...)."""
    values = values - (np.tensordot(places, values, axes=1) / places.sum())[None]
    over_time: FloatArray = np.tensordot(times, values, axes=([0], [1])) / times.sum()
    return values - over_time[:, None]


def _factors(weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return weights (p, t) as a product of one for each patch and one for each frame, of mean 1."""
    return weights.mean(axis=1), weights.mean(axis=0) / weights.mean()


def _squares(values: FloatArray, weights: FloatArray) -> float:
    """Return the squared deviations over variances that are left once whole-frame motion and constants are taken."""
    places, times = _factors(weights)
    return float((_centred(values, places, times) ** 2 * (places[:, None] * times)[..., None]).sum())


def _disagreement(measured: FloatArray, weights: FloatArray, terms: FloatArray, model: FloatArray) -> FloatArray:
    """Return by how much each patch's slow motion deviates from the model, squared, over the variance of that."""
    places, times = _factors(weights)
    rest = _centred(measured - np.einsum("tak,pk->pta", model, terms), places, times)
    slow = np.stack([function[:, 0] for _, function in _time_functions(measured.shape[1], (0.0,))])
    slow = slow - (slow @ times)[:, None] / times.sum()
    norm = np.sqrt((slow**2 * times).sum(axis=1))
    along = np.einsum("st,pta->psa", slow * times / np.maximum(norm, 1e-12)[:, None], rest)
    result: FloatArray = ((along**2).sum(axis=-1) * places[:, None]).max(axis=1)
    return result


@lru_cache(maxsize=16)
def _time_functions(frames: int, wandering: tuple[float, ...] = WANDERING) -> list[tuple[float, FloatArray]]:
    """Return possible priors in time: functions (t, n) whose sum with normal factors is a path of mean square 1."""
    time = np.arange(frames) / max(frames - 1, 1)
    walk = np.minimum(*np.meshgrid(np.sqrt(time), np.sqrt(time)))
    walk *= frames / max(float(np.trace(walk)), 1e-12)
    priors: list[tuple[float, FloatArray]] = []
    for settling in SETTLING:
        path = time if math.isinf(settling) else 1.0 - np.exp(-time / settling)
        path = path / max(math.sqrt(float((path**2).mean())), 1e-12)
        for part in wandering:
            if part == 0.0:
                priors.append((settling, path[:, None]))
                continue
            values, vectors = np.linalg.eigh((1.0 - part) * np.outer(path, path) + part * walk)
            first = np.argsort(values)[::-1][:FUNCTIONS]
            priors.append((settling, vectors[:, first] * np.sqrt(np.maximum(values[first], 0.0))))
    return priors


def _most_probable(measured: FloatArray, weights: FloatArray, terms: FloatArray, pixel_size: float) -> FloatArray:
    """Return the coefficients (t, 2, 5), averaged over all priors by how well they explain the measurements."""
    places, times = _factors(weights)
    rest = _centred(measured, places, times)
    centred_terms = terms - (places @ terms) / places.sum()
    # the weights are products and so is the model: place and time are solved one after the other
    in_place = centred_terms.T @ (places[:, None] * centred_terms)
    told = np.tensordot((places[:, None] * centred_terms).T, rest * times[None, :, None], axes=1)
    bends = [np.array([1.0, 1.0, bending, bending, bending]) / (SPREAD * math.sqrt(TERMS)) for bending in BENDING]
    spatial = [np.linalg.eigh(scale[:, None] * in_place * scale) for scale in bends]
    extents = (EXTENTS / pixel_size) ** 2
    evidence: list[FloatArray] = []
    factors: list[FloatArray] = []
    makers: list[tuple[FloatArray, FloatArray]] = []
    for _, functions in _time_functions(measured.shape[1]):
        centred = functions - (times @ functions) / times.sum()
        time_values, time_vectors = np.linalg.eigh(centred.T @ (times[:, None] * centred))
        over_time = np.tensordot(told, centred @ time_vectors, axes=([1], [0]))
        for scale, (values, vectors) in zip(bends, spatial, strict=True):
            heard = np.tensordot(vectors.T * scale, over_time, axes=1)
            precision = 1.0 + extents[:, None, None] * np.maximum(np.outer(values, time_values), 0.0)
            squares = (heard**2).sum(axis=1) / precision
            evidence.append(0.5 * extents * squares.sum(axis=(1, 2)) - np.log(precision).sum(axis=(1, 2)))
            factors.append(extents[:, None, None, None] * heard / precision[:, :, None, :])
            makers.append((vectors * scale[:, None], functions @ time_vectors))
    likelihood = np.stack(evidence)
    share = np.exp(likelihood - likelihood.max())
    share /= share.sum()
    result = np.zeros((measured.shape[1], 2, TERMS))
    for parts, weighted, (place, time) in zip(share, factors, makers, strict=True):
        mean = np.tensordot(parts, weighted, axes=1)
        result += np.tensordot(time, np.tensordot(place, mean, axes=1), axes=([1], [2])).transpose(0, 2, 1)
    return result
