"""Averages along the rings of a fit as they are kept, and in the form other programs plot and read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np

from focusnb.errors import FormatError
from focusnb.ops.backend import Array, to_numpy
from focusnb.ops.ctf.model import Optics, ctf_1d, ctf_phase
from focusnb.ops.ctf.quality import CtfCurves, correlation_window
from focusnb.ops.spectrum import rotational_average


class RingRows(NamedTuple):
    """Averages of a spectrum beside the fitted CTF; all (rings,) float64.

    frequency : 1/Å, from 0
    measured_circular : average along circles, as if there were no astigmatism
    measured : average along the rings of the fit
    fit : |CTF| of the mean defocus, 0 to 1
    quality : local correlation of measured and fitted rings, −1 to 1
    noise : two standard deviations of that correlation where there are no rings

    From both averages the background is removed; they are scaled like ``fit``. All but frequency and fit are 0 below
    the band, where nothing was fitted.
    """

    frequency: np.ndarray
    measured_circular: np.ndarray
    measured: np.ndarray
    fit: np.ndarray
    quality: np.ndarray
    noise: np.ndarray


def curves_from_lists(lists: Mapping[str, Any], *, source: str = "the curves of the CTF") -> CtfCurves:
    """Return the averages along rings that were kept as lists by name, as ``curves.json`` holds them.

    source : what errors name

    Raises FormatError where a curve is missing, or is of another length than the others.
    """
    names = [field.name for field in fields(CtfCurves)]
    if not isinstance(lists, Mapping):
        raise FormatError(f"{source}: holds a {type(lists).__name__}, not lists by name; is it another file?")
    missing = [name for name in names if name not in lists]
    if missing:
        raise FormatError(f"{source}: {', '.join(missing)} of {', '.join(names)} is missing; run fit_ctf again")
    arrays = {name: np.array(lists[name], np.float32) for name in names}
    lengths = sorted({array.size for array in arrays.values()})
    if len(lengths) > 1:
        raise FormatError(
            f"{source}: one list has {lengths[0]} points and another {lengths[-1]}, all need as many; run fit_ctf again"
        )
    return CtfCurves(**arrays)


def ring_rows(
    spectrum: Array, curves: CtfCurves, *, optics: Optics, mean_defocus: float, phase_shift: float = 0.0
) -> RingRows:
    """Return the averages of a spectrum that was fitted.

    spectrum : (box, box) amplitudes, origin at (box // 2, box // 2), numpy or cupy
    curves : the averages of its fit
    optics : those of the fit, pixel size of the spectrum
    mean_defocus : ½ (U + V) in Å; phase_shift : degrees

    The curves hold squared amplitudes, in which CTF² is linear; the rows hold amplitudes, as the programs that use
    |CTF| expect (Rohou & Grigorieff 2015).
    """
    amplitude = to_numpy(spectrum)
    frequency = curves.frequency.astype(np.float64)
    step = 1.0 / (amplitude.shape[0] * optics.pixel_size)
    below = np.arange(0.0, frequency[0] - 0.5 * step, step)
    circles, power = rotational_average(amplitude.astype(np.float64) ** 2, optics.pixel_size)
    phase = ctf_phase(frequency, mean_defocus, optics, phase_shift)
    first, last = correlation_window(np.abs(np.gradient(phase)))
    # each ring is weighted by its pixels, so every one of them tells the same; one is spent on the mean
    noise = 2.0 / np.sqrt(last - first - 1.0)
    nothing = np.zeros(len(below))
    return RingRows(
        np.concatenate([below, frequency]),
        np.concatenate([nothing, _like_ctf(np.interp(frequency, circles, power), curves)]),
        np.concatenate([nothing, _like_ctf(curves.measured, curves)]),
        np.abs(ctf_1d(np.concatenate([below, frequency]), mean_defocus, optics, phase_shift)),
        np.concatenate([nothing, curves.quality]),
        np.concatenate([nothing, noise]),
    )


def _like_ctf(power: np.ndarray, curves: CtfCurves) -> np.ndarray:
    """Return an average of squared amplitudes scaled like |CTF|; noise may be negative and stays so."""
    flat = replace(curves, measured=power).flattened
    return np.asarray(np.sign(flat) * np.sqrt(np.abs(flat)))
