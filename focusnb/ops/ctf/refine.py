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
# neighbouring pixels of tapered tiles share noise, so they tell less than their number says: by simulation
_SHARED_NOISE = 4.0


class Values(NamedTuple):
    """What is refined: mean defocus (Å), astigmatism vector (Å), phase shift (degrees)."""

    defocus: float
    vector: complex
    phase_shift: float


class Refined(NamedTuple):
    """A refined fit.

    error : standard deviation of the defocus along its axes, Å, from the curvature and the residual
    base, contrast : N and S for each ring; residual : root mean square of what is left
    gain : part of the variance about N that S·CTF² explains
    """

    values: Values
    error: float
    base: np.ndarray
    contrast: np.ndarray
    residual: float
    gain: float


class _Linearised(NamedTuple):
    """N, S, what they and CTF² explain and leave, and the normal equations of a step."""

    base: np.ndarray
    contrast: np.ndarray
    rings: np.ndarray
    residual: np.ndarray
    normal: np.ndarray
    right: np.ndarray
    scatter: float


def transfer_phase(points: Points, optics: Optics, values: Values) -> np.ndarray:
    """Return χ + asin w, in radians, of each point."""
    squared = points.frequency * points.frequency
    local = points.cosine * (0.5 * values.vector.real) + points.sine * (0.5 * values.vector.imag) + values.defocus
    constant = math.radians(values.phase_shift) + optics.amplitude_phase
    return np.asarray((math.pi * optics.wavelength * local - optics.quartic * squared) * squared + constant)


def base_and_contrast(points: Points, model: np.ndarray, terms: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Solve for the splines N and S of each ring that bring N + S·model closest to the power; S is kept ≥ 0.

    Power scatters in proportion to itself, so a second pass weighs each point by the inverse square of what the first
    expects there: the dark rings tell most.
    """
    position = np.arange(points.rings, dtype=np.float64)
    splines = spline_basis(position, terms[0]), spline_basis(position, terms[1])
    base, contrast = _solve_splines(points, model, splines, None)
    return _solve_splines(points, model, splines, expected_weight(points, model, base, contrast))


def expected_weight(points: Points, model: np.ndarray, base: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """Return the inverse square of the expected power of each point."""
    expected = base[points.ring] + contrast[points.ring] * model
    return np.asarray(1.0 / np.maximum(expected, 0.2) ** 2)


def _solve_splines(
    points: Points, model: np.ndarray, splines: tuple[np.ndarray, np.ndarray], weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    basis, shape = splines
    weighted = model if weight is None else weight * model

    def sums(values: np.ndarray | None) -> np.ndarray:
        return np.bincount(points.ring, values, minlength=points.rings).astype(np.float64)[:, None]

    mixed = (basis * sums(weighted)).T @ shape
    upper, lower = (basis * sums(weight)).T @ basis, (shape * sums(weighted * model)).T @ shape
    normal = np.block([[upper, mixed], [mixed.T, lower]])
    normal += 1e-6 * np.trace(normal) / len(normal) * np.eye(len(normal))
    power = points.power if weight is None else weight * points.power
    right = np.concatenate([basis.T @ sums(power), shape.T @ sums(weighted * points.power)])[:, 0]
    solution = np.linalg.solve(normal, right)
    return basis @ solution[: basis.shape[1]], np.maximum(shape @ solution[basis.shape[1] :], 0.0)


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
        here = _linearise(points, optics, values, slope, terms, fit_phase_shift)
        damped = here.normal + np.diag(1e-3 * np.diag(here.normal) + 1e-30)
        step = np.linalg.solve(damped, here.right)
        size = float(np.abs(step[:3]).max())
        if size < _SETTLED:
            break
        step *= min(1.0, longest / size)
        values = Values(
            values.defocus + float(step[0]),
            values.vector + complex(step[1], step[2]),
            values.phase_shift + (float(step[3]) if fit_phase_shift else 0.0),
        )
    variance = float((here.residual**2).mean())
    about_base = float(((here.residual + here.rings) ** 2).mean())
    gain = 1.0 - variance / max(about_base, 1e-30)
    return Refined(values, _defocus_error(here, values.vector), here.base, here.contrast, math.sqrt(variance), gain)


def _defocus_error(here: _Linearised, vector: complex) -> float:
    """Return the standard deviation of U (and V) in Å."""
    if not here.contrast.any():
        return math.inf
    angle = float(np.angle(vector))
    gradient = np.zeros(len(here.normal))
    gradient[:3] = 1.0, 0.5 * math.cos(angle), 0.5 * math.sin(angle)
    variance = float(gradient @ np.linalg.pinv(here.normal) @ gradient) * here.scatter
    return math.sqrt(max(_SHARED_NOISE * variance, 0.0))


def _linearise(
    points: Points, optics: Optics, values: Values, slope: np.ndarray, terms: tuple[int, int], fit_phase_shift: bool
) -> _Linearised:
    """Solve for N and S at these values and set up the normal equations of a step."""
    phase = transfer_phase(points, optics, values)
    sine = np.sin(phase)
    model = sine * sine
    base, contrast = base_and_contrast(points, model, terms)
    weight = expected_weight(points, model, base, contrast)
    strength = contrast[points.ring]
    residual = points.power - base[points.ring] - strength * model
    steepness = 2.0 * strength * sine * np.cos(phase)
    along = steepness * slope
    columns = [along, 0.5 * along * points.cosine, 0.5 * along * points.sine]
    if fit_phase_shift:
        columns.append(steepness * math.radians(1.0))
    jacobian = np.stack(columns)
    weighted = jacobian * weight
    scatter = float((weight * residual**2).mean())
    return _Linearised(base, contrast, strength * model, residual, weighted @ jacobian.T, weighted @ residual, scatter)
