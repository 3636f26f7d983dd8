"""Measure the thickness of a specimen by the node of its Thon rings.

Layers at different heights are seen with different defoci. Averaged through a thickness t, CTF² becomes
½ [1 − sinc(ξ) cos 2(χ + asin w)] with sinc ξ = sin ξ / ξ and ξ = π λ t k² (McMullan, Vinothkumar & Henderson 2015):
the rings vanish where λ t k² is 1, the node, and come back with dark and bright exchanged. Frequency, sign and strength
of all rings are fitted together (Elferink et al. 2024): weak rings alone are no node, exchanged ones are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from focusnb.errors import ParameterError
from focusnb.ops.backend import Array, to_numpy
from focusnb.ops.ctf.fit import CtfFit
from focusnb.ops.ctf.model import Optics, astigmatism_vector, from_astigmatism_vector
from focusnb.ops.ctf.quality import correlated_noise
from focusnb.ops.ctf.rings import average_cells, ends_at_ice, last_frequency, measure_points, spline_basis

CLAIMED = 5.0  # standard deviations by which a node must describe the rings better than a thin specimen
REVERSED = 3.0  # and by which the exchanged rings behind the node must be seen
BOUND = 9.0  # a thickness that describes the rings worse by this much, in variances, is excluded
ICE = (3.45, 4.1)  # Å: where a strong ring of crystalline ice hides the Thon rings
PIXELS_PER_RING = 0.7  # rings closer than 1 / 0.7 pixels of the spectrum are not looked at
LEAST_RANGE = 100.0  # Å
TREND_TERMS = 8
CONTRAST_TERMS = 7
LARGEST_DAMPING = 10.0
SETTLED = 0.01  # variances: a step that gains less ends the refinement
SEARCH_STEP = 0.2  # of ξ/π at the end of the band, between two thicknesses tried


@dataclass(frozen=True, slots=True)
class ThicknessFit:
    """The thickness of a specimen.

    thickness_fitted : Å; None where no node lies in the band, or none is certain
    thickness_error : its standard deviation, Å
    node_frequency : 1/Å, where the rings vanish first
    significance : by how many standard deviations a node describes the rings better than a thin specimen does
    upper_limit : Å, a thickness the rings exclude with three standard deviations as do all larger ones; it remains
    useful where there is no node. None where nothing is excluded
    defocus_u, defocus_v, astigmatism_angle : as in ``CtfFit``, of the middle of the specimen, fitted with the thickness
    reason : why there is no thickness, in words; empty where there is one
    """

    thickness_fitted: float | None
    thickness_error: float | None
    node_frequency: float | None
    significance: float
    upper_limit: float | None
    defocus_u: float | None
    defocus_v: float | None
    astigmatism_angle: float | None
    reason: str


class _Rings(NamedTuple):
    """The measured rings and what stays the same while they are fitted.

    Arrays of (sectors, rings) are multiplied by the square roots of their weights, so that plain sums of squares count.

    value : (sectors, rings), trend removed; root : (sectors, rings) square roots of the numbers of pixels
    trend : (sectors, rings, terms), orthonormal; shape : (rings, terms) splines of the contrast
    squared : (rings,) mean k²; direction : (sectors,) azimuth of their middles
    known : (rings,) what a tilt leaves of the contrast; phase : constant part of χ, radians
    noise : variance of one pixel, with what neighbours share
    """

    value: np.ndarray
    root: np.ndarray
    trend: np.ndarray
    shape: np.ndarray
    squared: np.ndarray
    direction: np.ndarray
    known: np.ndarray
    optics: Optics
    phase: float
    noise: float

    def projected(self, models: np.ndarray) -> np.ndarray:
        """Weigh models (terms, sectors, rings) and remove from each sector what its trend describes."""
        weighted = np.swapaxes(models * self.root, 0, 1)
        rest = weighted - (weighted @ self.trend) @ np.swapaxes(self.trend, 1, 2)
        return np.asarray(np.swapaxes(rest, 0, 1))


class _State(NamedTuple):
    """What is refined: mean defocus, astigmatism vector and thickness, Å."""

    defocus: float
    vector: complex
    thickness: float


class _Solved(NamedTuple):
    """A state with the contrast of each ring, what is expected and what is left, and the badness of the fit."""

    state: _State
    contrast: np.ndarray
    expected: np.ndarray
    rest: np.ndarray
    badness: float


def thickness_transfer(squared: Array, thickness: float, wavelength: float) -> Array:
    """Return what a thickness (Å) leaves of the rings' contrast at k² (1/Å²): 1 for none, negative when exchanged."""
    return np.sinc(wavelength * thickness * squared)


def estimate_thickness(
    spectrum: Array,
    *,
    optics: Optics,
    fit: CtfFit,
    resolution_low: float = 30.0,
    resolution_high: float | None = None,
    max_thickness: float = 4000.0,
    defocus_range: tuple[float, float] = (0.0, 0.0),
) -> ThicknessFit:
    """Estimate the thickness of a specimen from the amplitude spectrum of an image and the fit of its CTF.

    spectrum : (box, box) amplitudes, origin at (box // 2, box // 2), numpy or cupy; fitted on the host
    optics : its ``pixel_size`` is that of the spectrum; fit : of the same spectrum
    resolution_low, resolution_high : Å, the band looked at; left out, all in which the spectrum resolves the rings
    max_thickness : Å, the largest searched
    defocus_range : Å, by how much the defocus of a tilted specimen rises along x and along y within the image: tiles of
    different defocus average as layers do, and a tilt of 5° over 0.4 µm looks like 350 Å of ice unless it is known

    The thinnest specimen that can be measured has its node at the end of the band: 500 Å need rings to 3.1 Å at
    300 kV. Thinner ones get an upper limit.

    Raises ParameterError for a spectrum that is not square or limits that leave nothing to fit.
    """
    amplitude = to_numpy(spectrum)
    if amplitude.ndim != 2 or amplitude.shape[0] != amplitude.shape[1] or amplitude.shape[0] < 64:
        raise ParameterError(f"spectrum is {amplitude.shape}; it must be square, at least 64 × 64")
    if max_thickness < LEAST_RANGE:
        raise ParameterError(f"the largest thickness is {max_thickness} Å; it must be {LEAST_RANGE:.0f} or more")
    if fit.defocus_u is None or fit.defocus_v is None or fit.astigmatism_angle is None:
        return _nothing(f"the CTF is not known: {fit.reason or 'no defocus was fitted'}")
    if not np.isfinite(amplitude).all() or not amplitude.max() > 0:
        return _nothing("the spectrum is empty or holds values that are not numbers")
    highest = last_frequency(amplitude, optics.pixel_size)
    if resolution_high is not None:
        highest = min(highest, 1 / resolution_high)
    # a pixel of the spectrum that holds more than one ring averages them, and may exchange dark and bright as well
    pixel = 1.0 / (len(amplitude) * optics.pixel_size)
    highest = min(highest, PIXELS_PER_RING / (2.0 * optics.wavelength * fit.defocus_u * pixel))
    if highest < 1.5 / resolution_low:
        return _nothing(f"the band from {resolution_low:g} to {1 / highest:.3g} Å is too narrow to hold a node")
    rings = _prepare(amplitude, optics, fit, (1 / resolution_low, highest), defocus_range)
    start = _State(
        0.5 * (fit.defocus_u + fit.defocus_v),
        astigmatism_vector(fit.defocus_u, fit.defocus_v, fit.astigmatism_angle),
        0.0,
    )
    return _judge(rings, start, max_thickness)


def _nothing(reason: str) -> ThicknessFit:
    return ThicknessFit(None, None, None, 0.0, None, None, None, None, reason)


def _prepare(
    amplitude: np.ndarray, optics: Optics, fit: CtfFit, band: tuple[float, float], defocus_range: tuple[float, float]
) -> _Rings:
    """Average the spectrum in cells; where crystalline ice hides the rings, they are left out."""
    cells = average_cells(measure_points(amplitude, optics.pixel_size, *band), TREND_TERMS)
    squared, root = cells.squared_frequency, np.sqrt(cells.weight)
    if ends_at_ice(amplitude, optics.pixel_size):
        root = root * ((squared < ICE[1] ** -2) | (squared > ICE[0] ** -2))
    known = np.ones(len(squared))
    for rise in defocus_range:
        known = known * np.asarray(thickness_transfer(squared, rise, optics.wavelength))
    trend = np.linalg.qr(cells.basis * root[:, :, None])[0]
    rings = _Rings(
        value=np.zeros(0),
        root=root,
        trend=trend,
        shape=spline_basis(np.sqrt(squared), CONTRAST_TERMS),
        squared=squared,
        direction=cells.direction,
        known=known,
        optics=optics,
        phase=math.radians(fit.phase_shift or 0.0) + optics.amplitude_phase,
        noise=(cells.noise * correlated_noise(cells)) ** 2,
    )
    return rings._replace(value=rings.projected(cells.value[None])[0])


def _angle(rings: _Rings, state: _State) -> np.ndarray:
    """Return 2 (χ + asin w) of each cell, (sectors, rings)."""
    squared, optics = rings.squared, rings.optics
    local = state.defocus + 0.5 * (state.vector * np.exp(-2j * rings.direction)).real
    wave = (math.pi * optics.wavelength * local[:, None] - optics.quartic * squared) * squared
    return np.asarray(2.0 * (wave + rings.phase))


def _solve(rings: _Rings, state: _State) -> _Solved:
    """Find the contrast of the rings, a spline that is never negative: only a node may exchange dark and bright."""
    transfer = rings.known * thickness_transfer(rings.squared, state.thickness, rings.optics.wavelength)
    model = -0.5 * transfer * np.cos(_angle(rings, state))
    columns = rings.projected(model * rings.shape.T[:, None, :]).reshape(rings.shape.shape[1], -1)
    normal = columns @ columns.T
    normal += 1e-6 * np.trace(normal) / len(normal) * np.eye(len(normal))
    triangle = np.linalg.cholesky(normal)
    terms = nnls(triangle.T, np.linalg.solve(triangle, columns @ rings.value.ravel()))[0]
    expected = (terms @ columns).reshape(model.shape)
    rest = rings.value - expected
    return _Solved(state, np.asarray(rings.shape @ terms), expected, rest, float((rest**2).sum()) / rings.noise)


def _step(rings: _Rings, here: _Solved, *, fit_thickness: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the normal equations of a step of defocus, astigmatism vector and, if it is fitted, thickness."""
    angle, thickness, wavelength = _angle(rings, here.state), here.state.thickness, rings.optics.wavelength
    transfer = thickness_transfer(rings.squared, thickness, wavelength)
    strength = here.contrast * rings.known
    along = math.pi * wavelength * rings.squared * strength * transfer * np.sin(angle)
    double = np.exp(-2j * rings.direction)[:, None]
    columns = [along, 0.5 * along * double.real, -0.5 * along * double.imag]
    if fit_thickness:
        beside = [thickness_transfer(rings.squared, thickness + side, wavelength) for side in (-1.0, 1.0)]
        columns.append(-0.25 * strength * (beside[1] - beside[0]) * np.cos(angle))
    jacobian = rings.projected(np.stack(columns)).reshape(len(columns), -1)
    return jacobian @ jacobian.T / rings.noise, jacobian @ here.rest.ravel() / rings.noise


def _refine(rings: _Rings, start: _State, *, fit_thickness: bool, iterations: int = 8) -> tuple[_Solved, np.ndarray]:
    """Refine by damped Gauss-Newton steps that never make it worse; returns the best and the normal equations there."""
    here, damping = _solve(rings, start), 1e-3
    # beyond about one radian at the highest frequency a linearised step means nothing
    longest = 1.0 / (math.pi * rings.optics.wavelength * float(rings.squared[-1]))
    for _ in range(iterations):
        normal, right = _step(rings, here, fit_thickness=fit_thickness)
        gained = 0.0
        while gained <= 0.0 and damping < LARGEST_DAMPING:
            step = np.linalg.solve(normal + np.diag(damping * np.diag(normal) + 1e-12), right)
            step *= min(1.0, longest / max(float(np.abs(step[:3]).max()), 1e-12))
            state = here.state
            tried = _solve(
                rings,
                _State(
                    state.defocus + float(step[0]),
                    state.vector + complex(step[1], step[2]),
                    max(state.thickness + (float(step[3]) if fit_thickness else 0.0), 0.0),
                ),
            )
            gained = here.badness - tried.badness
            damping *= 0.1 if gained > 0.0 else 10.0
        if gained <= 0.0:
            break
        here = tried
        if gained < SETTLED:
            break
    return here, _step(rings, here, fit_thickness=fit_thickness)[0]


def _judge(rings: _Rings, start: _State, max_thickness: float) -> ThicknessFit:
    """Search, refine and compare with a thin specimen."""
    thin, _ = _refine(rings, start, fit_thickness=False)
    step = SEARCH_STEP / (rings.optics.wavelength * float(rings.squared[-1]))
    tried = np.arange(0.0, max_thickness + step, step)
    profile = np.array([_solve(rings, thin.state._replace(thickness=float(value))).badness for value in tried])
    best, normal = min(
        (
            _refine(rings, thin.state._replace(thickness=float(tried[index])), fit_thickness=True)
            for index in _valleys(profile)
        ),
        key=lambda found: found[0].badness,
    )
    limit = _upper_limit(rings, min(best, thin, key=lambda solved: solved.badness), tried)
    significance = math.sqrt(max(thin.badness - best.badness, 0.0))
    state = best.state
    u, v, angle = from_astigmatism_vector(state.defocus, state.vector)
    reason = _doubt(rings, best, significance)
    if reason:
        if significance < CLAIMED:
            u, v, angle = from_astigmatism_vector(thin.state.defocus, thin.state.vector)
        return ThicknessFit(None, None, None, significance, limit, u, v, angle, reason)
    error = math.sqrt(float(np.linalg.pinv(normal)[3, 3]))
    node = 1.0 / math.sqrt(rings.optics.wavelength * state.thickness)
    return ThicknessFit(state.thickness, error, node, significance, limit, u, v, angle, "")


def _upper_limit(rings: _Rings, best: _Solved, tried: np.ndarray) -> float | None:
    """Return the first of the thicknesses tried from which on all describe the rings too badly."""
    badness = [_solve(rings, best.state._replace(thickness=float(value))).badness for value in tried]
    possible = tried[np.array(badness) <= best.badness + BOUND]
    excluded = tried[tried > max([best.state.thickness, *possible])]
    return float(excluded[0]) if excluded.size else None


def _valleys(profile: np.ndarray, number: int = 3) -> list[int]:
    """Return where a profile is lower than beside, the lowest first."""
    padded = np.concatenate([[np.inf], profile, [np.inf]])
    low = np.flatnonzero((padded[1:-1] <= padded[:-2]) & (padded[1:-1] <= padded[2:]))
    return [int(index) for index in low[np.argsort(profile[low])][:number]]


def _doubt(rings: _Rings, best: _Solved, significance: float) -> str:
    """Say what speaks against a node; empty if nothing does."""
    squared, thickness = rings.squared, best.state.thickness
    resolution = 1.0 / math.sqrt(float(squared[-1]))
    product = rings.optics.wavelength * thickness * squared
    if product[-1] <= 1.0:
        return f"no node lies in the band, which ends at {resolution:.1f} Å"
    if significance < CLAIMED:
        return f"a node describes the rings no better than none: {significance:.1f} standard deviations"
    behind = product > 1.0
    expected = best.expected[:, behind]
    measured = expected + best.rest[:, behind]
    seen = float((expected * measured).sum()) / math.sqrt(max(float((expected**2).sum()) * rings.noise, 1e-30))
    if seen < REVERSED:
        return f"the rings behind the node are hardly seen: {seen:.1f} standard deviations"
    return ""
