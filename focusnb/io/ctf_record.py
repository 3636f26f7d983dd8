"""The CTF of a micrograph as another program found it: one record for all programs, and whether to believe it.

Units and signs are the project's: Å, underfocus positive, U the larger defocus, its direction counted from +x towards
+y (y is the row of the MRC file) in (−90, 90] degrees. CTFFIND, Gctf and RELION count the direction in the same frame;
they differ in the range (0 to 180, or beyond) and in whether U or V is the larger, which :func:`order_defocus` settles.

Each program writes its best fit, be it of noise; none says that it failed. :func:`judge_ctf` says so by rules.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

_FIT_PIXEL_SIZE = 1.4  # Å/px; CTFFIND resamples finer images to this before it computes the spectrum
_RELION_WORST = 25.0  # Å; RELION writes this for every worse fit resolution


@dataclass(frozen=True)
class CtfOptics:
    """What the fit took for known; None where the file does not say.

    micrograph_pixel_size : Å/px of the image that was fitted; pixel_size: Å/px of the movie it was made from
    voltage : kV; spherical_aberration: mm; amplitude_contrast: 0 to 1
    name : of RELION's optics group; mtf_name: file of the camera's modulation transfer
    """

    micrograph_pixel_size: float | None = None
    voltage: float | None = None
    spherical_aberration: float | None = None
    amplitude_contrast: float | None = None
    pixel_size: float | None = None
    name: str = ""
    mtf_name: str = ""


@dataclass(frozen=True)
class CtfSearch:
    """Where the program searched; None where the file does not say.

    box : pixels along the spectrum; resolution_low, resolution_high: Å; defocus_min, defocus_max: Å
    """

    box: int | None = None
    resolution_low: float | None = None
    resolution_high: float | None = None
    defocus_min: float | None = None
    defocus_max: float | None = None


@dataclass(frozen=True)
class RingAverages:
    """Rotational averages of a spectrum beside the fitted CTF; all (rings,) float64.

    frequency : 1/Å
    measured_circular : average along circles, as if there were no astigmatism
    measured : average along the rings of the fit
    fit : |CTF|, 0 to 1
    quality : local correlation of measured and fitted rings, −1 to 1
    noise : two standard deviations of that correlation where there are no rings; 0 below the fitted band
    """

    frequency: npt.NDArray[np.float64]
    measured_circular: npt.NDArray[np.float64]
    measured: npt.NDArray[np.float64]
    fit: npt.NDArray[np.float64]
    quality: npt.NDArray[np.float64]
    noise: npt.NDArray[np.float64]


@dataclass(frozen=True)
class MicrographCtf:
    """The CTF of one micrograph as a program wrote it; None where it wrote nothing or nothing finite.

    micrograph : file as the program names it; number: its place in the file of results, from 1
    program : name and version where known
    defocus_u, defocus_v : Å, U ≥ V; astigmatism_angle: degrees in (−90, 90]; phase_shift: degrees
    ctf_score : correlation of spectrum and fit; ctf_fit_resolution: Å
    tilt_axis_fitted : degrees from +x towards +y in (−90, 90]; tilt_angle_fitted: degrees, with the sign that goes with
        that direction of the axis; thickness_fitted: Å (CTFFIND 5)
    ctf_image : diagnostic image as RELION names it
    ctf_quality, reason : see :func:`judge_ctf`; a failed fit keeps its numbers, so that they can be shown
    """

    micrograph: str
    defocus_u: float | None = None
    defocus_v: float | None = None
    astigmatism_angle: float | None = None
    phase_shift: float | None = None
    ctf_score: float | None = None
    ctf_fit_resolution: float | None = None
    tilt_axis_fitted: float | None = None
    tilt_angle_fitted: float | None = None
    thickness_fitted: float | None = None
    ctf_image: str = ""
    optics: CtfOptics = CtfOptics()
    search: CtfSearch = CtfSearch()
    program: str = ""
    number: int = 1
    ctf_quality: Literal["ok", "poor", "failed"] = "ok"
    reason: str = ""

    @property
    def astigmatism(self) -> float | None:
        """U − V in Å."""
        if self.defocus_u is None or self.defocus_v is None:
            return None
        return self.defocus_u - self.defocus_v


@dataclass(frozen=True)
class CtfLimits:
    """Where doubt begins; see :func:`judge_ctf` for what each limit is compared with.

    score_failed, score_poor : smallest score of a fit that did not fail, that is not poor
    sigma_failed, sigma_poor : the same in standard deviations of noise, used where the searched band is known
    resolution_poor : Å; never below four pixels of the micrograph
    zeros_poor : zeros of the CTF up to the fit resolution
    rings_failed : part of the rings up to the fit resolution that stand above the noise
    edge : Å from the borders of the searched defocus
    astigmatism_poor, astigmatism_failed : U − V over the mean defocus
    """

    score_failed: float = 0.02
    score_poor: float = 0.05
    sigma_failed: float = 5.0
    sigma_poor: float = 9.0
    resolution_poor: float = 10.0
    zeros_poor: int = 3
    rings_failed: float = 2 / 3
    edge: float = 500.0
    astigmatism_poor: float = 0.2
    astigmatism_failed: float = 0.5


def finite(value: float | None) -> float | None:
    """Return a number, None where there is none or it is inf or nan."""
    return value if value is not None and math.isfinite(value) else None


def positive(value: float | None) -> float | None:
    """Return a resolution in Å, None where it is not finite or, as some programs write instead of that, 0."""
    value = finite(value)
    return value if value is not None and value > 0 else None


def axial(angle: float) -> float:
    """Return the direction of an axis in degrees as that in (−90, 90]."""
    return angle if -90.0 < angle <= 90.0 else 90.0 - (90.0 - angle) % 180.0


def order_defocus(
    defocus_1: float | None, defocus_2: float | None, angle: float | None
) -> tuple[float | None, float | None, float | None]:
    """Return U ≥ V and the direction of U in (−90, 90] from two defoci and the direction of the first.

    Where the second is the larger, they change places and the direction turns by 90°: the same CTF. All three are None
    where one of them is not finite.
    """
    first, second, angle = finite(defocus_1), finite(defocus_2), finite(angle)
    if first is None or second is None or angle is None:
        return None, None, None
    if second > first:
        first, second, angle = second, first, angle + 90.0
    return first, second, axial(angle)


def judge_ctf(
    ctf: MicrographCtf,
    *,
    told: Collection[str] = ("ctf_score", "ctf_fit_resolution"),
    rings: RingAverages | None = None,
    limits: CtfLimits | None = None,
) -> MicrographCtf:
    """Return the record with ``ctf_quality`` and ``reason``, by rules on what the program wrote.

    told : which of score and fit resolution the file has a place for; what is told and yet None was not finite
    rings : the averages that belong to the fit, where there are any

    Failed, because these do not come from a CTF:

    - defocus or angle is missing or not finite;
    - the score is one that noise reaches. Fitted to noise in a wide search, the best CTF scores 3.5 standard deviations
      (largest of 18 trials: 4.1), one standard deviation being 1/√n for n independent points of the half spectrum
      between the limits of resolution: 0.02 for 512 pixels to 5 Å, which stands in where box and band are not told;
    - score or resolution is not finite, or the resolution is no better than the beginning of the band (RELION writes
      25 Å for anything worse): not one ring agrees;
    - the program's own correlation of rings stays within its noise for more than a third of the rings it counts as
      fitted (two right fits have 0.86 and 0.93 of them outside, three wrong ones 0.30, 0.39 and 0.54);
    - U and V differ by more than half of their mean: no lens is used like that, fits to noise end there.

    Poor, because a right fit can look like that and a wrong one often does: a score above those but low (real tilt
    images score 0.02 to 0.04, and so do wrong fits); a fit that ends at 10 Å or before; fewer than three zeros, which
    many defoci share; a defocus at the border of the search, as the true one may lie beyond; a large astigmatism;
    overfocus; neither score nor resolution told.

    V > U is no fault: the programs disagree on which to call U, and :func:`order_defocus` has exchanged them.
    """
    limits = limits or CtfLimits()
    failed = _failures(ctf, told, rings, limits)
    reasons = failed or _doubts(ctf, limits)
    quality: Literal["ok", "poor", "failed"] = "failed" if failed else "poor" if reasons else "ok"
    return replace(ctf, ctf_quality=quality, reason="; ".join(reasons))


def _failures(ctf: MicrographCtf, told: Collection[str], rings: RingAverages | None, limits: CtfLimits) -> list[str]:
    if ctf.defocus_u is None or ctf.defocus_v is None or ctf.astigmatism_angle is None:
        return ["no finite defocus was found"]
    reasons = []
    smallest = _score_limit(ctf, limits.score_failed, limits.sigma_failed)
    if ctf.ctf_score is not None and ctf.ctf_score < smallest:
        reasons.append(f"score {ctf.ctf_score:.3f} is what noise reaches (below {smallest:.3f})")
    names = {"ctf_score": "score", "ctf_fit_resolution": "fit resolution"}
    reasons += [f"the {names[name]} is not finite" for name in names if name in told and getattr(ctf, name) is None]
    beginning = ctf.search.resolution_low or _RELION_WORST
    if ctf.ctf_fit_resolution is not None and ctf.ctf_fit_resolution >= beginning:
        reasons.append(f"no ring agrees with the fit beyond {beginning:.0f} Å, where the band begins")
    part = _rings_above_noise(rings, ctf.ctf_fit_resolution)
    if part is not None and part < limits.rings_failed:
        reasons.append(
            f"{100 * part:.0f} % of the rings up to {ctf.ctf_fit_resolution:.1f} Å agree with the fit better than "
            f"noise does, at least {100 * limits.rings_failed:.0f} % are needed"
        )
    relative = _relative_astigmatism(ctf.defocus_u, ctf.defocus_v)
    if relative > limits.astigmatism_failed:
        reasons.append(f"U and V differ by {100 * relative:.0f} % of their mean")
    return reasons


def _doubts(ctf: MicrographCtf, limits: CtfLimits) -> list[str]:
    assert ctf.defocus_u is not None
    assert ctf.defocus_v is not None
    reasons = []
    smallest = _score_limit(ctf, limits.score_poor, limits.sigma_poor)
    if ctf.ctf_score is not None and ctf.ctf_score < smallest:
        reasons.append(f"score {ctf.ctf_score:.3f} is low (below {smallest:.3f})")
    if ctf.ctf_score is None and ctf.ctf_fit_resolution is None:
        reasons.append("neither score nor fit resolution is told")
    if ctf.ctf_fit_resolution is not None:
        worst = max(limits.resolution_poor, 4 * (ctf.optics.micrograph_pixel_size or 0.0))
        if ctf.ctf_fit_resolution > worst:
            reasons.append(f"rings agree to {ctf.ctf_fit_resolution:.1f} Å only, {worst:.1f} Å is the limit")
        zeros = _zeros(ctf, ctf.ctf_fit_resolution)
        if zeros is not None and zeros < limits.zeros_poor:
            reasons.append(f"{zeros} zeros lie in the fitted band, {limits.zeros_poor} are needed")
    search = ctf.search
    if search.defocus_max is not None and ctf.defocus_u > search.defocus_max - limits.edge:
        reasons.append(f"defocus {ctf.defocus_u:.0f} Å lies at the end of the search, {search.defocus_max:.0f} Å")
    if search.defocus_min and ctf.defocus_v < search.defocus_min + limits.edge:
        reasons.append(f"defocus {ctf.defocus_v:.0f} Å lies at the beginning of the search, {search.defocus_min:.0f} Å")
    if ctf.defocus_u + ctf.defocus_v <= 0:
        reasons.append(f"defocus {ctf.defocus_u:.0f} / {ctf.defocus_v:.0f} Å is overfocus")
    relative = _relative_astigmatism(ctf.defocus_u, ctf.defocus_v)
    if relative > limits.astigmatism_poor:
        reasons.append(f"U and V differ by {100 * relative:.0f} % of their mean")
    return reasons


def _score_limit(ctf: MicrographCtf, fixed: float, sigma: float) -> float:
    """Return the smallest score allowed: the fixed one, or more where few points make scores scatter."""
    box, pixel = _within(1, ctf.search.box, 1e6), _within(0.01, ctf.optics.micrograph_pixel_size, 1e4)
    low, high = _within(0.1, ctf.search.resolution_low, 1e6), _within(0.1, ctf.search.resolution_high, 1e6)
    if box is None or pixel is None or low is None or high is None:
        return fixed
    sampled = max(pixel, _FIT_PIXEL_SIZE)
    highest = max(high, 2 * sampled)
    points = 0.5 * math.pi * (box * sampled) ** 2 * (highest**-2 - low**-2)
    return max(fixed, sigma / math.sqrt(points)) if points > 1 else fixed


def _rings_above_noise(rings: RingAverages | None, resolution: float | None) -> float | None:
    if rings is None or resolution is None:
        return None
    inside = (rings.noise > 0) & (rings.frequency <= 1 / resolution)
    return float((rings.quality > rings.noise)[inside].mean()) if inside.sum() >= 5 else None


def _relative_astigmatism(defocus_u: float, defocus_v: float) -> float:
    return (defocus_u - defocus_v) / max(abs(defocus_u + defocus_v) / 2, 1.0)


def _zeros(ctf: MicrographCtf, resolution: float) -> int | None:
    """Count the zeros of the CTF up to a resolution in Å; None where the optics or the resolution are not told."""
    optics = ctf.optics
    voltage, aberration = _within(1, optics.voltage, 1e4), _within(0, optics.spherical_aberration, 1e3)
    amplitude, end = _within(0, optics.amplitude_contrast or 0.0, 1), _within(0.1, resolution, 1e6)
    u, v = _within(-1e8, ctf.defocus_u, 1e8), _within(-1e8, ctf.defocus_v, 1e8)
    if voltage is None or aberration is None or amplitude is None or end is None or u is None or v is None:
        return None
    volts = 1e3 * voltage
    wavelength = 12.2643 / math.sqrt(volts * (1 + 0.978466e-6 * volts))
    squared = np.linspace(0.0, end**-2, 2000)
    curved = 0.5e7 * aberration * wavelength**2 * squared
    phase = math.pi * wavelength * squared * (0.5 * (u + v) - curved)
    phase += math.radians(ctf.phase_shift or 0.0) + math.asin(amplitude)
    # past its maximum the phase comes back through the same zeros, which are counted again
    return int(np.abs(np.diff(np.floor(phase / math.pi))).sum())


def _within(low: float, value: float | None, high: float) -> float | None:
    """Return a value only where it is one that microscopes have: damaged files hold others."""
    return value if value is not None and low <= value <= high else None
