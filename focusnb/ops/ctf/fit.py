"""Estimate the CTF of a spectrum, and say how far to trust it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from focusnb.errors import ParameterError
from focusnb.ops.backend import Array, to_numpy
from focusnb.ops.ctf.model import Optics, from_astigmatism_vector
from focusnb.ops.ctf.probability import TOLERANCE, Evidence, probability
from focusnb.ops.ctf.quality import (
    CtfCurves,
    correlated_noise,
    explained,
    faded_direction,
    fit_resolution,
    ring_curves,
    zeros,
)
from focusnb.ops.ctf.refine import Refined, Values, base_and_contrast, flexibility, refine, transfer_phase
from focusnb.ops.ctf.rings import ICE_WING, Points, average_cells, ends_at_ice, last_frequency, measure_points
from focusnb.ops.ctf.search import Candidate, Scan, scan

CHANCE = 4.0  # standard deviations by which one half of the spectrum must confirm the other, or it is no fit
FEWEST_ZEROS = 2  # of the CTF, below which nothing is said of its probability
UNLIKELY, LIKELY = 0.2, 0.9  # probabilities of a fit below which it is none, and from which on it is good
SEARCH_RESOLUTION = 4.0  # Å: the exhaustive search stops here, refinement goes on
RIVAL = 0.85  # another basin that explains this much of what the best does makes a fit ambiguous
LEAST_EXPLAINED = 0.5  # part of the rings a CTF must explain; real ones reach 0.8 to 1, gold beads 0.2
LARGEST_ERROR = 200.0  # Å
PLAIN_ASTIGMATISM = 450.0  # Å: most microscopes stay below
TREND_TERMS = 5
FAR_BAND = 1.08  # the band of the coarse spectrum ends that much before its last frequency
OVERLAP = 0.7  # the coarse spectrum is searched from this part of the defocus the fine one can tell


@dataclass(frozen=True, slots=True)
class CtfFit:
    """What is known of the CTF of an image.

    defocus_u, defocus_v : Å, under focus positive, U ≥ V; None when ``ctf_quality`` is "failed", as are the
    astigmatism (U − V, Å), its angle (of U from +x, counter-clockwise, y up, degrees in (−90, 90]), the phase shift
    (degrees) and the resolutions
    ctf_score : normalised cross-correlation of the measured rings with CTF² over the band fitted
    ctf_fit_resolution, ctf_fit_resolution_0 : Å, where the local correlation falls below 0.5 and below 0
    ctf_quality : "ok", "poor" or "failed"; reason : why not "ok", in words
    ctf_probability : that U and V are both within 300 Å, or 2 % of the defocus where that is more; None where fewer
        than two zeros of the CTF can be followed
    significance : standard deviations by which half of the spectrum confirms what the other half says
    evidence : what the probability was judged by; None for a failed fit
    defocus_error : standard deviation of the defocus, Å
    pixel_size : Å/px of the spectrum that was fitted
    curves : averages along the rings; None when there was nothing to fit
    """

    defocus_u: float | None
    defocus_v: float | None
    astigmatism: float | None
    astigmatism_angle: float | None
    phase_shift: float | None
    ctf_score: float | None
    ctf_fit_resolution: float | None
    ctf_fit_resolution_0: float | None
    ctf_quality: str
    ctf_probability: float | None
    reason: str
    significance: float
    defocus_error: float | None
    curves: CtfCurves | None
    pixel_size: float
    evidence: Evidence | None = None


class _Limits(NamedTuple):
    """What is searched: defocus and astigmatism in Å, phase shift in degrees, and the band in Å."""

    defocus: tuple[float, float]
    astigmatism: float
    phase_shift: tuple[float, float]
    band: tuple[float, float]

    @property
    def phase_shifts(self) -> np.ndarray:
        """Return the phase shifts tried."""
        low, high = self.phase_shift
        return np.linspace(low, high, 1 + math.ceil((high - low) / 15.0)) if high > low else np.array([low])


def estimate_ctf(
    spectrum: Array,
    *,
    optics: Optics,
    resolution_low: float = 30.0,
    resolution_high: float | None = None,
    defocus_min: float = 1000.0,
    defocus_max: float = 50000.0,
    max_astigmatism: float = 2500.0,
    phase_shift_search: tuple[float, float] = (0.0, 0.0),
    far: tuple[Array, float] | None = None,
) -> CtfFit:
    """Estimate defocus, astigmatism and phase shift from an amplitude spectrum.

    spectrum : (box, box) amplitudes, origin at (box // 2, box // 2), numpy or cupy (it is fitted on the host: a
    megabyte, and a few hundredths of a second)
    optics : its ``pixel_size`` is that of the spectrum, that is of the image times ``Sampling.factor``
    resolution_low, resolution_high : Å, the band fitted; left out, the upper end is 4 Å, or what the pixels allow;
    a strong ring of crystalline ice ends it at 4.3 Å
    defocus_min, defocus_max, max_astigmatism : Å, limits of the search
    phase_shift_search : degrees; equal numbers fix the phase shift, others search between them
    far : a second spectrum of the same image with larger pixels, and their size in Å: it samples the close rings of a
    defocus beyond what the first one can tell (``farthest``), which is searched where the first gives no good fit

    A spectrum whose two halves (alternating sectors) do not confirm each other is no better than chance: the quality
    is "failed" and the values are None. Exhaustive search, then least squares with free background and ring
    contrast; the conventions are those of Rohou & Grigorieff (2015) and Zhang (2016).

    Raises ParameterError for limits that leave nothing to fit.
    """
    _check(defocus_min, defocus_max, max_astigmatism, phase_shift_search)
    limits = (defocus_min, defocus_max), max_astigmatism, phase_shift_search
    reach = farthest(optics, spectrum.shape[-1])
    if far is None or defocus_max <= reach:
        return _estimate(to_numpy(spectrum), optics, (resolution_low, resolution_high), *limits)
    near = _failed(optics.pixel_size, "no smaller defocus was asked for")
    if defocus_min < reach:
        near = _estimate(
            to_numpy(spectrum), optics, (resolution_low, resolution_high), (defocus_min, reach), *limits[1:]
        )
    coarse = replace(optics, pixel_size=far[1])
    finest = 2.0 * FAR_BAND * far[1]
    if near.ctf_quality == "ok" or resolution_low < 1.5 * finest:
        return near
    band = resolution_low, None if resolution_high is None or resolution_high < finest else resolution_high
    beyond = _estimate(to_numpy(far[0]), coarse, band, (max(OVERLAP * reach, defocus_min), defocus_max), *limits[1:])
    return max(near, beyond, key=lambda fit: (fit.ctf_probability or 0.0, fit.significance))


def known_ctf(
    defocus_u: float | None,
    defocus_v: float | None,
    astigmatism_angle: float | None,
    *,
    phase_shift: float | None = None,
    pixel_size: float,
) -> CtfFit:
    """Return a fit of which only the optical values are known (Å, Å, degrees, degrees), as a table keeps them."""
    if defocus_u is None or defocus_v is None or astigmatism_angle is None:
        return _failed(pixel_size, "no CTF was fitted")
    return replace(
        _failed(pixel_size, ""),
        defocus_u=defocus_u,
        defocus_v=defocus_v,
        astigmatism=defocus_u - defocus_v,
        astigmatism_angle=astigmatism_angle,
        phase_shift=phase_shift,
        ctf_quality="poor",
    )


def farthest(optics: Optics, box: int) -> float:
    """Return the largest defocus in Å whose rings at 10 Å a spectrum still samples: two pixels from zero to zero."""
    return 0.25 * 10.0 * box * optics.pixel_size / optics.wavelength


def _estimate(
    amplitude: np.ndarray,
    optics: Optics,
    band: tuple[float, float | None],
    defocus: tuple[float, float],
    max_astigmatism: float,
    phase_shift_search: tuple[float, float],
) -> CtfFit:
    """Estimate the CTF from one spectrum."""
    resolution_low, resolution_high = band
    if amplitude.ndim != 2 or amplitude.shape[0] != amplitude.shape[1] or amplitude.shape[0] < 64:
        raise ParameterError(f"spectrum is {amplitude.shape}; it must be square, at least 64 × 64")
    failed = partial(_failed, optics.pixel_size)
    high = upper_resolution(optics, resolution_low, resolution_high)
    fault = _unusable(amplitude)
    if fault:
        return failed(fault)
    filled = last_frequency(amplitude, optics.pixel_size)
    if ends_at_ice(amplitude, optics.pixel_size):
        filled = min(filled, 1 / ICE_WING)
    high = max(high, 1 / filled)
    if resolution_low < 1.5 * high:
        return failed(f"the spectrum ends at {high:.1f} Å: too little is left to fit")
    limits = _Limits(defocus, max_astigmatism, phase_shift_search, (resolution_low, max(high, SEARCH_RESOLUTION)))
    points = measure_points(amplitude, optics.pixel_size, 1 / limits.band[0], 1 / limits.band[1])
    cells = average_cells(points, TREND_TERMS)
    found = scan(cells, optics, limits.defocus, max_astigmatism, limits.phase_shifts)
    shared = correlated_noise(cells)
    significance = found.confirmed() / shared
    if significance < CHANCE:
        return failed("no rings were found: the best fit is no better than chance", significance)
    candidates = found.candidates(3)
    best, rivals = _refine_candidates(points, optics, found, candidates, limits)
    if high < limits.band[1]:
        limits = limits._replace(band=(resolution_low, high))
        points = measure_points(amplitude, optics.pixel_size, 1 / resolution_low, 1 / high)
        best = refine(points, optics, best.values, fit_phase_shift=len(limits.phase_shifts) > 1)
    everything = measure_points(amplitude, optics.pixel_size, 1 / resolution_low, filled)
    curves = ring_curves(everything, optics, _extend(everything, optics, best))
    part = explained(everything, curves, best, 1 / limits.band[1])
    if part < LEAST_EXPLAINED or fit_resolution(curves, 0.5) is None:
        return failed("the spectrum has structure, but no CTF describes it", significance)
    first, second = candidates[0].significance, candidates[1].significance if len(candidates) > 1 else 0.0
    evidence = Evidence(
        significance=significance,
        lead=0.5 * (first**2 - second**2) / shared**2,
        error=best.error,
        defocus=best.values.defocus,
        astigmatism=abs(best.values.vector),
        strength=_score(points, optics, best) * math.sqrt(len(points.power)),
        part=part,
        zeros=_zeros_seen(optics, best, curves, limits),
        rivals=bool(rivals),
        phase_plate=len(limits.phase_shifts) > 1,
    )
    # of what fewer zeros look like the weights have learnt too little
    right = probability(evidence) if evidence.zeros >= FEWEST_ZEROS else None
    if right is not None and right < UNLIKELY:
        return failed(f"the best fit is probably wrong: right with a probability of {right:.2f}", significance)
    reasons = _doubts(points, optics, best, limits, rivals, evidence)
    if right is not None and right < LIKELY:
        reasons.insert(0, f"right with a probability of {right:.2f}")
    return _describe(points, optics, best, curves, evidence, right, "; ".join(reasons))


def _check(
    defocus_min: float, defocus_max: float, max_astigmatism: float, phase_shift_search: tuple[float, float]
) -> None:
    """Refuse limits that leave nothing to search."""
    if not 0 < defocus_min < defocus_max:
        raise ParameterError(f"defocus is searched from {defocus_min} to {defocus_max} Å; it must rise from above 0")
    if not max_astigmatism >= 0:
        raise ParameterError(f"astigmatism is searched up to {max_astigmatism} Å; it must not be negative")
    if phase_shift_search[0] > phase_shift_search[1]:
        raise ParameterError(f"phase shift is searched from {phase_shift_search[0]} down to {phase_shift_search[1]}")


def upper_resolution(optics: Optics, low: float, high: float | None) -> float:
    """Return the upper end of the band in Å; ``high`` where it is given, 4 Å or what the pixels allow otherwise."""
    finest = 2.0 * optics.pixel_size
    chosen = max(4.0, 1.08 * finest) if high is None else high
    if chosen < finest:
        raise ParameterError(
            f"the fit should reach {chosen} Å, but pixels of {optics.pixel_size:.4g} Å hold nothing beyond {finest:.4g}"
        )
    if low < 1.5 * chosen:
        raise ParameterError(f"the band from {low} to {chosen:.4g} Å is too narrow; its ends must differ by half")
    return chosen


def _unusable(amplitude: np.ndarray) -> str:
    """Say what keeps a spectrum from being fitted at all; empty if nothing does."""
    if not np.isfinite(amplitude).all():
        return "the spectrum holds values that are not numbers"
    if float(amplitude.max()) <= 0 or float((amplitude > 0).mean()) < 0.5:
        return "the spectrum is empty: the image is constant, or smaller than 64 pixels"
    return ""


def _failed(pixel_size: float, reason: str, significance: float = 0.0) -> CtfFit:
    nothing = (None,) * 8
    return CtfFit(*nothing, "failed", None, reason, significance, None, None, pixel_size)


def _refine_candidates(
    points: Points, optics: Optics, found: Scan, candidates: list[Candidate], limits: _Limits
) -> tuple[Refined, list[Refined]]:
    """Refine the best basins; return the best fit and those elsewhere that explain the rings almost as well."""
    # a weaker basin is worth refining only where it might win: side lobes of the best reach two thirds of it
    candidates = [c for c in candidates if c.significance > 0.75 * candidates[0].significance]
    if abs(candidates[0].vector) > PLAIN_ASTIGMATISM:
        candidates.append(found.plainest(PLAIN_ASTIGMATISM))
    free = len(limits.phase_shifts) > 1
    fits = [
        refine(points, optics, Values(c.defocus, c.vector, c.phase_shift), fit_phase_shift=free) for c in candidates
    ]
    explained = [float(points.power.var()) - fit.residual**2 for fit in fits]
    enough = max(explained) - (1 - RIVAL) * abs(max(explained))
    equals = [fit for fit, part in zip(fits, explained, strict=True) if part >= enough]
    # drift leaves rings in one direction only, and these agree with many an astigmatism: the least is the likeliest
    best = min(equals, key=lambda fit: (abs(fit.values.vector) > 2 * PLAIN_ASTIGMATISM, fit.residual))
    vector, defocus = best.values.vector, best.values.defocus
    rivals = [fit for fit in equals if abs(fit.values.defocus - defocus) + abs(fit.values.vector - vector) > 500]
    return best, rivals


def _extend(points: Points, optics: Optics, fit: Refined) -> Refined:
    """Return the fit with background and contrast solved over other points, its optical values kept."""
    model = np.sin(transfer_phase(points, optics, fit.values)) ** 2
    base, contrast = base_and_contrast(points, model, flexibility(points, optics, fit.values))
    return fit._replace(base=base, contrast=contrast)


def _score(points: Points, optics: Optics, fit: Refined) -> float:
    """Return the normalised cross-correlation of the rings, background removed, with CTF²."""
    model = np.sin(transfer_phase(points, optics, fit.values)) ** 2 - 0.5
    measured = points.power - fit.base[points.ring] - 0.5 * fit.contrast[points.ring]
    return float((model * measured).sum() / math.sqrt(float((model**2).sum() * (measured**2).sum())))


def _zeros_seen(optics: Optics, fit: Refined, curves: CtfCurves, limits: _Limits) -> int:
    """Count the zeros of the CTF where rings can be followed."""
    reached = fit_resolution(curves, 0.5) or limits.band[0]
    return zeros(optics, fit.values, 1 / limits.band[0], 1 / max(limits.band[1], reached))


def _doubts(
    points: Points, optics: Optics, fit: Refined, limits: _Limits, rivals: list[Refined], evidence: Evidence
) -> list[str]:
    """Say in words what speaks against a fit."""
    reasons = []
    if evidence.zeros < 3:
        reasons.append(f"only {evidence.zeros} zeros of the CTF lie where rings can be followed; three are needed")
    direction = faded_direction(points, optics, fit)
    if direction is not None:
        reasons.append(f"the rings fade along {direction:.0f}°: drift or charging")
    if rivals:
        reasons.append(f"a defocus of {rivals[0].values.defocus:.0f} Å explains the rings almost as well")
    if fit.error > LARGEST_ERROR:
        reasons.append(f"the defocus is uncertain by {fit.error:.0f} Å")
    if abs(fit.values.vector) > limits.astigmatism:
        reasons.append(f"an astigmatism of {abs(fit.values.vector):.0f} Å, above {limits.astigmatism:.0f}")
    low, high = limits.defocus
    if not low - TOLERANCE < fit.values.defocus < high + TOLERANCE:
        reasons.append(f"the defocus lies outside the range searched, {low:.0f} to {high:.0f} Å")
    return reasons


def _describe(
    points: Points,
    optics: Optics,
    fit: Refined,
    curves: CtfCurves,
    evidence: Evidence,
    right: float | None,
    reason: str,
) -> CtfFit:
    """Put a fit into the units and the frame of a record."""
    defocus_u, defocus_v, angle = from_astigmatism_vector(fit.values.defocus, fit.values.vector)
    return CtfFit(
        defocus_u=defocus_u,
        defocus_v=defocus_v,
        astigmatism=defocus_u - defocus_v,
        astigmatism_angle=angle,
        phase_shift=fit.values.phase_shift,
        ctf_score=_score(points, optics, fit),
        ctf_fit_resolution=fit_resolution(curves, 0.5),
        ctf_fit_resolution_0=fit_resolution(curves, 0.0),
        ctf_quality="poor" if reason else "ok",
        ctf_probability=right,
        reason=reason,
        significance=evidence.significance,
        defocus_error=fit.error,
        curves=curves,
        pixel_size=optics.pixel_size,
        evidence=evidence,
    )
