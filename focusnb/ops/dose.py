"""Weigh frames by the damage their specimen has taken (Grant & Grigorieff 2015)."""

from __future__ import annotations

from dataclasses import dataclass

from focusnb.ops.backend import Array, array_namespace

# Damage per electron relative to 300 kV, measured at three voltages.
_VOLTAGES = (100.0, 200.0, 300.0)
_FACTORS = (0.64, 0.8, 1.0)


@dataclass(frozen=True)
class Dose:
    """The dose of a movie.

    per_frame : e⁻/Å²
    prior : e⁻/Å² before the first recorded frame, frames thrown away included
    voltage : kV
    factor : critical dose relative to 300 kV; None takes that of the voltage
    """

    per_frame: float
    prior: float = 0.0
    voltage: float = 300.0
    factor: float | None = None


def voltage_factor(voltage: float) -> float:
    """Return the critical dose at a voltage (kV) relative to 300 kV: 0.64, 0.8, 1 at 100, 200, 300 kV, linear between.

    Raises ValueError outside 100-300 kV.
    """
    if not _VOLTAGES[0] <= voltage <= _VOLTAGES[-1]:
        raise ValueError(
            f"the critical dose is known from 100 to 300 kV, not at {voltage:g} kV; give the factor relative to 300 kV "
            "(critical_dose_factor), or sum without dose weighting"
        )
    upper = 1 if voltage <= _VOLTAGES[1] else 2
    fraction = (voltage - _VOLTAGES[upper - 1]) / (_VOLTAGES[upper] - _VOLTAGES[upper - 1])
    return _FACTORS[upper - 1] + fraction * (_FACTORS[upper] - _FACTORS[upper - 1])


def critical_dose(frequency: Array, voltage: float, factor: float | None = None) -> Array:
    """Return the dose in e⁻/Å² that leaves 1/e of the power: 0.245 k^-1.665 + 2.81 at 300 kV.

    frequency : any shape, 1/Å; the zero frequency is never damaged (infinite)
    voltage : kV, 100 to 300 unless ``factor`` (relative to 300 kV) is given
    """
    xp = array_namespace(frequency)
    scale = voltage_factor(voltage) if factor is None else float(factor)
    damaged = frequency > 0
    finite = scale * (0.245 * xp.where(damaged, frequency, 1.0) ** -1.665 + 2.81)
    return xp.where(damaged, finite, float("inf"))


def dose_weights(frequency: Array, dose: Dose, frames: int) -> Array:
    """Return the weight q = exp(-N / (2 N_c)) of each frame at each frequency, not normalised.

    frequency : any shape, 1/Å
    frames : number of frames, all recorded ones; the first comes after ``dose.prior``
    Returns (frames, *frequency.shape). N is the dose at the end of the frame, prior dose included.
    """
    xp = array_namespace(frequency)
    rate = 0.5 / critical_dose(frequency, dose.voltage, dose.factor)
    return xp.stack([xp.exp(-(dose.prior + (t + 1) * dose.per_frame) * rate) for t in range(frames)])
