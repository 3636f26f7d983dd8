"""Refine defocus, astigmatism and phase shift against every pixel of the band.

The measured power over its background is N(k) + S(k)·CTF²(k, α) plus noise, N and S splines in k. The splines are
solved for, then the optical values take one damped Gauss-Newton step, in turn; S(k) weighs each frequency by the
contrast its rings still have, so the band needs no hand-set upper limit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from focusnb.ops.ctf.model import Optics, ctf_phase
from focusnb.ops.ctf.rings import Points, spline_basis

_SETTLED = 0.5  # Å: a step smaller than this ends the refinement


class Values(NamedTuple):
    """What is refined: mean defocus (Å), astigmatism vector (Å), phase shift (degrees)."""

    defocus: float
    vector: complex
    phase_shift: float


class Refined(NamedTuple):
    """A refined fit.

    error : standard deviation of the mean defocus, Å, from the curvature and the residual
    base, contrast : N and S for each ring; residual : root mean square of what is left
    gain : part of the variance about N that S·CTF² explains
    """

    values: Values
    error: float
    base: np.ndarray
    contrast: np.ndarray
    residual: float
    gain: float


def transfer_phase(points: Points, optics: Optics, values: Values) -> np.ndarray:
    """Return χ + asin w, in radians, of each point."""
    squared = points.frequency * points.frequency
    local = points.cosine * (0.5 * values.vector.real) + points.sine * (0.5 * values.vector.imag) + values.defocus
    constant = math.radians(values.phase_shift) + optics.amplitude_phase
    return np.asarray((math.pi * optics.wavelength * local - optics.quartic * squared) * squared + constant)


def base_and_contrast(points: Points, model: np.ndarray, terms: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Solve for the splines N and S of each ring that bring N + S·model closest to the power; S is kept ≥ 0."""
    rings, ring = points.rings, points.ring

    def sums(weights: np.ndarray | None) -> np.ndarray:
        return np.bincount(ring, weights, minlength=rings).astype(np.float64)[:, None]

    position = np.arange(rings, dtype=np.float64)
    basis, shape = spline_basis(position, terms[0]), spline_basis(position, terms[1])
    mixed = (basis * sums(model)).T @ shape
    normal = np.block([[(basis * sums(None)).T @ basis, mixed], [mixed.T, (shape * sums(model * model)).T @ shape]])
    normal += 1e-6 * np.trace(normal) / len(normal) * np.eye(len(normal))
    right = np.concatenate([basis.T @ sums(points.power), shape.T @ sums(points.power * model)])[:, 0]
    solution = np.linalg.solve(normal, right)
    return basis @ solution[: terms[0]], np.maximum(shape @ solution[terms[0] :], 0.0)


def flexibility(points: Points, optics: Optics, values: Values) -> tuple[int, int]:
    """Return how many terms N and S may have: never so many that they could follow single rings.

    Too few bend the rings towards low frequency, where the contrast falls steeply: a defocus 50 Å too large.
    """
    low, high = float(points.frequency.min()), float(points.frequency.max())
    phase = ctf_phase(np.array([low, high]), values.defocus, optics)
    rings = abs(float(phase[1] - phase[0])) / math.pi
    return int(np.clip(rings * 2 / 3, 4, 12)), int(np.clip(rings / 2, 4, 10))


def refine(
    points: Points, optics: Optics, start: Values, *, fit_phase_shift: bool = False, iterations: int = 10
) -> Refined:
    """Refine one candidate; its phase shift is kept unless ``fit_phase_shift``."""
    terms = flexibility(points, optics, start)
    slope = math.pi * optics.wavelength * points.frequency**2
    # beyond about one radian at the highest frequency a linearised step means nothing
    longest = 1.0 / float(slope.max())
    values = start
    for _ in range(iterations):
        base, contrast, residual, normal, right = _linearise(points, optics, values, slope, terms, fit_phase_shift)
        step = np.linalg.solve(normal + 1e-3 * np.diag(np.diag(normal)) + 1e-30 * np.eye(len(normal)), right)
        size = float(np.abs(step[:3]).max())
        if size < _SETTLED:
            break
        step *= min(1.0, longest / size)
        values = Values(
            values.defocus + float(step[0]),
            values.vector + complex(step[1], step[2]),
            values.phase_shift + (float(step[3]) if fit_phase_shift else 0.0),
        )
    strength = contrast[points.ring]
    variance = float((residual**2).mean())
    # how much the rings explain: the residual without them, against the residual
    rings = strength * np.sin(transfer_phase(points, optics, values)) ** 2
    about_base = float(((residual + rings) ** 2).mean())
    # half-correlated neighbours (tapered tiles) carry less than their number says: hence the factor
    inverse = np.linalg.pinv(normal)
    error = math.sqrt(max(2.0 * variance * float(inverse[0, 0]), 0.0)) if strength.any() else math.inf
    return Refined(values, error, base, contrast, math.sqrt(variance), 1.0 - variance / max(about_base, 1e-30))


def _linearise(
    points: Points, optics: Optics, values: Values, slope: np.ndarray, terms: tuple[int, int], fit_phase_shift: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return N, S and the residual for these values, and the normal equations of a step."""
    phase = transfer_phase(points, optics, values)
    sine = np.sin(phase)
    model = sine * sine
    base, contrast = base_and_contrast(points, model, terms)
    strength = contrast[points.ring]
    residual = points.power - base[points.ring] - strength * model
    steepness = 2.0 * strength * sine * np.cos(phase)
    along = steepness * slope
    columns = [along, 0.5 * along * points.cosine, 0.5 * along * points.sine]
    if fit_phase_shift:
        columns.append(steepness * math.radians(1.0))
    jacobian = np.stack(columns)
    return base, contrast, residual, jacobian @ jacobian.T, jacobian @ residual
