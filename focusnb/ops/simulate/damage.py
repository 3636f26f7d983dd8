"""Radiation damage: how the amplitude of each spatial frequency fades with dose (Grant & Grigorieff 2015)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]


def decay_rate(ky: FloatArray, kx: FloatArray, voltage: float) -> FloatArray:
    """Return 1 / (2 N_c(k)) in Å²/e⁻: amplitudes fade as exp(-dose * rate).

    ky, kx : spatial frequencies in 1/Å, broadcast against each other
    voltage : kV, 100 to 300

    N_c = 0.245 k^-1.665 + 2.81 at 300 kV, times 0.8 at 200 kV and 0.64 at 100 kV, linear between. Frequency 0 keeps.
    """
    scale = float(np.interp(voltage, (100.0, 200.0, 300.0), (0.64, 0.8, 1.0)))
    k2 = np.maximum(ky * ky + kx * kx, np.float32(1e-12))
    critical = np.float32(0.245 * scale) * k2 ** np.float32(-0.5 * 1.665) + np.float32(2.81 * scale)
    rate: FloatArray = np.float32(0.5) / critical
    rate[0, 0] = 0.0
    return rate


def frame_dose(frames: int, dose_per_frame: float, prior_dose: float) -> FloatArray:
    """Return the dose in e⁻/Å² at the middle of each frame: a frame is recorded while it is being damaged."""
    return prior_dose + (np.arange(frames) + 0.5) * dose_per_frame


def mean_decay(rate: FloatArray, doses: FloatArray) -> FloatArray:
    """Return the amplitude left in the plain mean of frames recorded at these doses."""
    total = np.zeros_like(rate)
    for dose in doses:
        total += np.exp(np.float32(-dose) * rate)
    return total / np.float32(len(doses))
