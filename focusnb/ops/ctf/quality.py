"""Judge a CTF fit: against chance, direction by direction, and how far its rings can be followed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from focusnb.ops.ctf.model import Optics, ctf_phase
from focusnb.ops.ctf.refine import Refined, Values, transfer_phase
from focusnb.ops.ctf.rings import SECTORS, Cells, Points

WEDGES = 6


@dataclass(frozen=True, slots=True)
class CtfCurves:
    """Averages along the rings of a fit, astigmatism followed; all (rings,) float32.

    frequency : 1/Å along the mean defocus
    measured : squared amplitude, in units of the spectrum
    background, contrast : smooth curves such that ``background + contrast * fit`` describes ``measured``
    fit : CTF² of the mean defocus, 0 to 1
    quality : local correlation of measured and fitted rings, −1 to 1
    """

    frequency: np.ndarray
    measured: np.ndarray
    background: np.ndarray
    contrast: np.ndarray
    fit: np.ndarray
    quality: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        """Return where rings are left, (rings,) bool."""
        return self.contrast > 1e-3 * self.background

    @property
    def flattened(self) -> np.ndarray:
        """Return the measured rings with the background removed, scaled like ``fit``; 0 where no rings are left."""
        seen = self.seen
        return np.where(seen, (self.measured - self.background) / np.where(seen, self.contrast, 1.0), 0.0)


def correlated_noise(cells: Cells) -> float:
    """Return by how much neighbouring rings that share noise widen the scatter of a sum over rings."""
    scaled = cells.value * np.sqrt(cells.weight)
    scaled = np.diff(scaled, axis=0)  # neighbouring sectors see the same rings, so only noise is left
    variance = float((scaled**2).mean())
    lags = [float((scaled[:, lag:] * scaled[:, :-lag]).mean()) / max(variance, 1e-30) for lag in (1, 2, 3)]
    return math.sqrt(1.0 + 2.0 * sum(max(lag, 0.0) for lag in lags))


def wedge_contrast(points: Points, optics: Optics, fit: Refined) -> tuple[np.ndarray, np.ndarray]:
    """Return the ring contrast of six wedges of 30°, relative to the fitted one, and its standard deviation.

    Drift erases the rings along its direction at high frequency while the first ring stays: what counts is finer
    than 15 Å.
    """
    phase = transfer_phase(points, optics, fit.values)
    strength = fit.contrast[points.ring] * (points.frequency > 1 / 15)
    model = strength * (np.sin(phase) ** 2 - 0.5)
    measured = points.power - fit.base[points.ring] - 0.5 * strength
    wedge = points.sector * WEDGES // SECTORS
    norm = np.maximum(np.bincount(wedge, model**2, minlength=WEDGES), 1e-30)
    return np.bincount(wedge, model * measured, minlength=WEDGES) / norm, fit.residual * np.sqrt(2.0 / norm)


def faded_direction(points: Points, optics: Optics, fit: Refined) -> float | None:
    """Return the direction in (−90, 90] degrees along which the rings have faded, or None where they have not."""
    contrast, error = wedge_contrast(points, optics, fit)
    if not (contrast + 2 * error < 0.4 * np.median(contrast)).any():
        return None
    middle = (np.arange(WEDGES) + 0.5) * (math.pi / WEDGES)
    darkest = -complex((contrast * np.exp(2j * middle)).sum())
    return 0.5 * math.degrees(math.atan2(darkest.imag, darkest.real))


def zeros(optics: Optics, values: Values, low: float, high: float) -> int:
    """Count the zeros of the CTF between two frequencies (1/Å)."""
    frequency = np.linspace(low, high, 4000)
    phase = ctf_phase(frequency, values.defocus, optics, values.phase_shift) + optics.amplitude_phase
    turns = np.floor(phase / math.pi)
    return int(np.abs(np.diff(turns)).sum())


def ring_curves(points: Points, optics: Optics, fit: Refined) -> CtfCurves:
    """Average the points along the rings of the fit and correlate them with it, frequency by frequency."""
    low = float(points.frequency.min())
    equivalent = _equivalent_frequency(points, optics, fit)
    ring = np.clip(np.rint((equivalent - low) / points.step).astype(np.int64), 0, points.rings - 1)
    count = np.maximum(np.bincount(ring, minlength=points.rings), 1)

    def average(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.bincount(ring, values, minlength=points.rings) / count)

    frequency = np.maximum(average(equivalent), low)
    background = average(points.background)
    relative = average(points.power)
    phase = ctf_phase(frequency, fit.values.defocus, optics, fit.values.phase_shift) + optics.amplitude_phase
    model = np.sin(phase) ** 2
    quality = _local_correlation(relative - fit.base, model, np.abs(np.gradient(phase)), count)
    return CtfCurves(
        *(
            values.astype(np.float32)
            for values in (
                frequency,
                relative * background,
                fit.base * background,
                fit.contrast * background,
                model,
                quality,
            )
        )
    )


def explained(points: Points, curves: CtfCurves, fit: Refined, highest: float) -> float:
    """Return which part of the rings the CTF explains, up to a frequency in 1/Å, noise left out: 1 for all.

    Gold beads, particles of one size and filters make rings too; a CTF can follow a few of them, never most.
    """
    whole = curves.background + 0.5 * curves.contrast
    inside = (curves.frequency <= highest) & (whole > 1e-6 * whole.max())
    count = np.maximum(np.bincount(points.ring, minlength=len(inside)), 1)[inside].astype(np.float64)
    middle = whole[inside]
    rings = (curves.measured[inside] / middle - 1.0) ** 2
    left = ((curves.measured - curves.background - curves.contrast * curves.fit)[inside] / middle) ** 2
    noise = 2.0 * fit.residual**2 / count
    total = float((count * (rings - noise)).sum())
    return 1.0 - max(float((count * (left - noise)).sum()), 0.0) / max(total, 1e-30)


def _equivalent_frequency(points: Points, optics: Optics, fit: Refined) -> np.ndarray:
    """Return the frequency at which the mean defocus gives the phase each point has."""
    squared = points.frequency**2
    constant = math.radians(fit.values.phase_shift) + optics.amplitude_phase
    phase = transfer_phase(points, optics, fit.values) - constant
    linear = math.pi * optics.wavelength * fit.values.defocus
    root = linear**2 - 4.0 * optics.quartic * phase
    # past the turning point of the phase (low defocus) no such frequency exists: the point stays where it is
    usable = (root > 0) & (2.0 * optics.quartic * squared < linear)
    if optics.quartic == 0:
        return np.sqrt(np.maximum(phase / linear, 0.0))
    solved = (linear - np.sqrt(np.maximum(root, 0.0))) / (2.0 * optics.quartic)
    return np.sqrt(np.maximum(np.where(usable, solved, squared), 0.0))


def correlation_window(turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first point, and that after the last, of a window about each that holds two rings wherever it stands.

    turn : change of the phase from point to point, radians
    """
    number = len(turn)
    half = np.clip(math.pi / np.maximum(turn, 1e-6), 6, number / 6).astype(np.int64)
    index = np.arange(number)
    return np.maximum(index - half, 0), np.minimum(index + half + 1, number)


def _local_correlation(measured: np.ndarray, model: np.ndarray, turn: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Correlate two curves in a window that holds two rings wherever it stands.

    turn : change of the phase from ring to ring, radians; count : pixels of each ring, used as weights
    """
    number = len(measured)
    first, last = correlation_window(turn)
    weight = count.astype(np.float64)

    def window(values: np.ndarray) -> np.ndarray:
        running = np.concatenate([[0.0], np.cumsum(values * weight)])
        return np.asarray(running[last] - running[first])

    total = window(np.ones(number))
    mean_a, mean_b = window(measured) / total, window(model) / total
    covariance = window(measured * model) / total - mean_a * mean_b
    variance = (window(measured**2) / total - mean_a**2) * (window(model**2) / total - mean_b**2)
    return np.asarray(covariance / np.sqrt(np.maximum(variance, 1e-30)))


def fit_resolution(curves: CtfCurves, threshold: float) -> float | None:
    """Return the resolution in Å at which the local correlation first falls below a threshold.

    The search starts at the second zero, where the specimen's own shape no longer hides the rings, or from the first
    place above 0.5 after it; between two rings the crossing is interpolated. A correlation that never falls gives
    the last frequency; one that never rises gives None.
    """
    dark = np.flatnonzero((np.diff(curves.fit[:-1]) < 0) & (np.diff(curves.fit[1:]) >= 0)) + 1
    start = int(dark[1]) if len(dark) > 1 else 0
    above = np.flatnonzero(curves.quality[start:] >= 0.5) + start
    if not above.size:
        return None
    below = np.flatnonzero(curves.quality[above[0] :] < threshold)
    if not below.size:
        return 1.0 / float(curves.frequency[-1])
    last = int(above[0] + below[0])
    before, after = float(curves.quality[last - 1]), float(curves.quality[last])
    part = (before - threshold) / (before - after)
    frequency = float(curves.frequency[last - 1])
    return 1.0 / (frequency + part * (float(curves.frequency[last]) - frequency))
