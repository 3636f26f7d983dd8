"""Interpolate between pixels with few taps whose loss is alike at all sub-pixel positions, so that it can be undone.

An ordinary kernel keeps the amplitude of high frequencies where it falls on a pixel and loses it half way between two,
so frames of different fractions add with unequal weights. These taps are designed to lose the same everywhere.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focusnb.ops.motion.field import MotionField

FloatArray = NDArray[np.floating[Any]]
ComplexArray = NDArray[np.complexfloating[Any, Any]]

TAPS = 6
BEFORE = 2  # taps before the pixel to the left of the place
PHASES = 256  # sub-pixel positions of the table, for each pixel
MARGIN = 0.25  # px by which the table exceeds a pixel at both ends
DESIGN_BAND = 0.46  # cycles/px up to which the taps are fitted
FREQUENCIES = 257
ITERATIONS = 100
SAMPLES = 33  # places along each side of a field where its fractions of a pixel are looked at
LEAST = 0.1  # transfer below which a loss is not undone


@lru_cache(maxsize=1)
def design_taps() -> NDArray[np.float32]:
    """Return the taps at all fractions of a pixel, (1.5 · 256 + 1, 6) float32; each row has a sum of 1.

    Row i interpolates at the fraction f = i / 256 - 1/4 from the samples at -2 ... 3. Least squares in Fourier space up
    to 0.46 cycles/px: taps are fitted to A(k) exp(2πi k f), and A to the taps at all fractions, relative to A, in turn.
    """
    frequency = np.linspace(0.0, DESIGN_BAND, FREQUENCIES)
    amplitude = np.ones(FREQUENCIES)
    for _ in range(ITERATIONS):
        fractions = np.arange(0.0, 1.0, 1.0 / 32.0)
        response = transfer(_fit(fractions, frequency, amplitude), fractions, frequency)
        amplitude = (np.abs(response) ** 2).mean(axis=0) / response.real.mean(axis=0)
        amplitude /= amplitude[0]
    fractions = np.arange(round((1.0 + 2.0 * MARGIN) * PHASES) + 1) / PHASES - MARGIN
    return np.ascontiguousarray(_fit(fractions, frequency, amplitude), dtype=np.float32)


def _fit(fractions: FloatArray, frequency: FloatArray, amplitude: FloatArray) -> FloatArray:
    """Return the taps (fractions, taps) with the least relative error."""
    waves = _waves(frequency)
    certain = 1e4  # weight of the mean, which is not to change
    matrix = ((waves.conj().T / amplitude**2) @ waves).real + certain
    wanted = np.exp(2j * np.pi * np.outer(frequency, fractions)) / amplitude[:, None]
    fitted = np.linalg.solve(matrix, (waves.conj().T @ wanted).real + certain).T
    result: FloatArray = fitted / fitted.sum(axis=1, keepdims=True)
    return result


def _waves(frequency: FloatArray) -> ComplexArray:
    waves: ComplexArray = np.exp(2j * np.pi * np.outer(frequency, np.arange(TAPS) - BEFORE))
    return waves


def transfer(taps: FloatArray, fractions: FloatArray, frequency: FloatArray) -> ComplexArray:
    """Return what taps make of a wave, (fractions, frequencies), relative to moving it exactly.

    taps : (fractions, 6); frequency : cycles/px
    """
    result: ComplexArray = (taps @ _waves(frequency).T) * np.exp(-2j * np.pi * np.outer(fractions, frequency))
    return result


def choose_taps(field: MotionField) -> NDArray[np.float32]:
    """Return the table of taps for a motion; those that copy pixels where all shifts are whole pixels."""
    taps = design_taps()
    if field.local is None and np.array_equal(field.shifts, np.round(field.shifts)):
        taps = np.zeros_like(taps)
        taps[:, BEFORE] = 1.0
    return taps


def undo_loss(
    taps: NDArray[np.float32], field: MotionField, frequency: FloatArray, *, axis: int, columns: int = 1
) -> FloatArray:
    """Return the factors that undo what interpolation took from the sums along one axis: noise stays as strong.

    taps : the table used
    frequency : cycles/px of the movie, any shape, along the axis
    axis : 0 for y, 1 for x
    columns : of the cells within which taps changed linearly
    The loss is the root mean square transfer over the fractions that occur in the field.
    """
    places = [np.linspace(0.0, n - 1.0, SAMPLES) for n in field.shape]
    shifts = field.at(places[0][:, None], places[1][None, :])[..., axis]
    fractions = np.arange(PHASES) / PHASES
    rows = np.rint((-shifts % 1.0) * PHASES).astype(int).ravel() % PHASES
    counts = np.bincount(rows, minlength=PHASES)
    first = round(MARGIN * PHASES)
    grid = np.linspace(0.0, 0.5, FREQUENCIES)
    power = counts @ np.abs(transfer(taps[first : first + PHASES], fractions, grid)) ** 2 / counts.sum()
    changes = field.at(places[0][:, None], places[1][None, :] + columns)[..., axis] - shifts
    # the taps of a chord are weaker than those of the curve it spans
    chord = 1.0 - (2.0 * np.pi * grid) ** 2 * float((changes**2).mean()) / 12.0
    loss = np.sqrt(power) * chord
    result: FloatArray = 1.0 / np.maximum(np.interp(np.abs(frequency), grid, loss), LEAST)
    return result
