"""Refine defocus, astigmatism and phase shift against every pixel of the band.

The measured power over its background is N(k) + S(k)·CTF²(k, α) plus noise, N and S splines in k. The splines are
solved for, then the optical values take one damped Gauss-Newton step, in turn; S(k) weighs each frequency by the
contrast its rings still have, so the band needs no hand-set upper limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from focusnb.ops.ctf.model import Optics
from focusnb.ops.ctf.rings import Points, spline_basis


@dataclass(frozen=True, slots=True)
class Refined:
    """A refined fit.

    defocus : mean, Å; vector : astigmatism, Å; phase_shift : degrees
    error : standard deviation of the defocus along each axis, Å, from the curvature and the residual
    base, contrast : N and S for each ring; residual : root mean square of what is left
    gain : part of the variance about N that S·CTF² explains
    """

    defocus: float
    vector: complex
    phase_shift: float
    error: float
    base: np.ndarray
    contrast: np.ndarray
    residual: float
    gain: float


def transfer_phase(points: Points, optics: Optics, defocus: float, vector: complex, phase_shift: float) -> np.ndarray:
    """Return χ + asin w, in radians, of each point."""
    squared = points.frequency**2
    local = defocus + 0.5 * (vector.real * np.cos(2 * points.azimuth) + vector.imag * np.sin(2 * points.azimuth))
    constant = math.radians(phase_shift) + optics.amplitude_phase
    return np.asarray(math.pi * optics.wavelength * local * squared - optics.quartic * squared**2 + constant)


def base_and_contrast(points: Points, model: np.ndarray, terms: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Solve for the splines N and S of each ring that bring N + S·model closest to the power; S is kept ≥ 0."""
    rings = points.rings
    ring = points.ring
    count = np.bincount(ring, minlength=rings).astype(np.float64)
    first = np.bincount(ring, model, minlength=rings)
    second = np.bincount(ring, model * model, minlength=rings)
    power = np.bincount(ring, points.power, minlength=rings)
    cross = np.bincount(ring, points.power * model, minlength=rings)
    position = np.arange(rings, dtype=np.float64)
    basis, shape = spline_basis(position, terms[0]), spline_basis(position, terms[1])
    normal = np.block(
        [
            [(basis * count[:, None]).T @ basis, (basis * first[:, None]).T @ shape],
            [(shape * first[:, None]).T @ basis, (shape * second[:, None]).T @ shape],
        ]
    )
    normal += 1e-6 * np.trace(normal) / len(normal) * np.eye(len(normal))
    solution = np.linalg.solve(normal, np.concatenate([basis.T @ power, shape.T @ cross]))
    return basis @ solution[: terms[0]], np.maximum(shape @ solution[terms[0] :], 0.0)


def refine(
    points: Points,
    optics: Optics,
    defocus: float,
    vector: complex,
    phase_shift: float,
    *,
    fit_phase_shift: bool = False,
    iterations: int = 8,
) -> Refined:
    """Refine one candidate.

    defocus : mean, Å; vector : astigmatism (U − V)·exp(2i·angle), Å; phase_shift : degrees, kept unless
    ``fit_phase_shift``
    """
    terms = (min(8, max(4, points.rings // 8)), min(6, max(3, points.rings // 10)))
    slope = math.pi * optics.wavelength * points.frequency**2
    directions = [np.ones_like(slope), 0.5 * np.cos(2 * points.azimuth), 0.5 * np.sin(2 * points.azimuth)]
    largest_turn = 1.0 / (math.pi * optics.wavelength * float(points.frequency.max()) ** 2)
    values = np.array([defocus, vector.real, vector.imag, phase_shift])
    number = 4 if fit_phase_shift else 3
    normal = np.eye(number)
    base = contrast = residual = np.zeros(0)
    for turn in range(iterations + 1):
        phase = transfer_phase(points, optics, values[0], complex(values[1], values[2]), values[3])
        model = np.sin(phase) ** 2
        base, contrast = base_and_contrast(points, model, terms)
        strength = contrast[points.ring]
        residual = points.power - base[points.ring] - strength * model
        steepness = strength * np.sin(2.0 * phase)
        columns = [steepness * slope * direction for direction in directions]
        if fit_phase_shift:
            columns.append(steepness * math.radians(1.0))
        jacobian = np.stack(columns)
        normal = jacobian @ jacobian.T
        if turn == iterations:
            break
        damped = normal + 1e-3 * np.diag(np.diag(normal)) + 1e-30 * np.eye(number)
        step = np.linalg.solve(damped, jacobian @ residual)
        # beyond about one radian at the highest frequency the linearisation means nothing
        step *= min(1.0, largest_turn / max(float(np.abs(step[:3]).max()), 1e-9))
        values[:number] += step
        if np.abs(step[:3]).max() < 0.3 and turn > 1:
            iterations_left = turn + 1 >= iterations
            if not iterations_left and np.abs(step[:3]).max() < 0.05:
                break
    variance = float((residual**2).mean())
    about_base = float(((residual + contrast[points.ring] * np.sin(phase) ** 2) ** 2).mean())
    # half-correlated neighbours (tapered tiles) carry less than their number says: hence the factor
    inverse = np.linalg.inv(normal + 1e-12 * np.trace(normal) * np.eye(number))
    error = math.sqrt(max(2.0 * variance * float(inverse[0, 0]), 0.0))
    return Refined(
        float(values[0]),
        complex(values[1], values[2]),
        float(values[3]),
        error,
        base,
        contrast,
        math.sqrt(variance),
        1.0 - variance / max(about_base, 1e-30),
    )
