"""Image formation in the microscope: the contrast transfer function and its envelope.

Written for the simulator alone, from the formulas, so that the CTF code under test is never its own judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Optics:
    """The microscope's settings for one exposure.

    voltage in kV; spherical_aberration in mm; defocus_u >= defocus_v in Å, positive is underfocus;
    astigmatism_angle in degrees, direction of defocus_u from +x, counter-clockwise with y (rows) up;
    phase_shift in degrees; b_factor in Å², envelope exp(-B k²/4); tilt_angle and tilt_axis in degrees: a slab tilted
    about an axis at tilt_axis from +x, the side to the left of the axis (counter-clockwise of it) having the
    larger underfocus for a positive angle.
    """

    voltage: float = 300.0
    spherical_aberration: float = 2.7
    amplitude_contrast: float = 0.1
    defocus_u: float = 15000.0
    defocus_v: float = 14600.0
    astigmatism_angle: float = 35.0
    phase_shift: float = 0.0
    b_factor: float = 60.0
    tilt_angle: float = 0.0
    tilt_axis: float = 0.0


def electron_wavelength(voltage: float) -> float:
    """Return the relativistic wavelength in Å of electrons accelerated by ``voltage`` kV."""
    volts = 1000.0 * voltage
    return float(12.2643 / np.sqrt(volts * (1.0 + 0.978466e-6 * volts)))


def interaction_constant(voltage: float) -> float:
    """Return the phase (radians) per Å of scattering factor and Å² of area: wavelength times relativistic mass."""
    return electron_wavelength(voltage) * (1.0 + voltage / 510.99895)


def frequencies(shape: tuple[int, int], pixel_size: float) -> tuple[FloatArray, FloatArray]:
    """Return (ky, kx) of a half spectrum in 1/Å, shapes (ny, 1) and (1, nx // 2 + 1)."""
    ky = np.fft.fftfreq(shape[0], pixel_size).astype(np.float32)[:, None]
    kx = np.fft.rfftfreq(shape[1], pixel_size).astype(np.float32)[None, :]
    return ky, kx


def contrast_transfer(ky: FloatArray, kx: FloatArray, optics: Optics, *, extra_defocus: float = 0.0) -> FloatArray:
    """Return CTF = -sin(chi + asin w) without envelope; weak phase objects image as 1 + 2 CTF * phase.

    ky, kx : spatial frequencies in 1/Å, broadcast against each other
    extra_defocus : Å, added to both defoci (the height of a tilted slab)

    chi = pi lambda D(a) k² - pi/2 Cs lambda³ k⁴ + phase_shift, D(a) the defocus along the direction a of k.
    """
    wavelength = electron_wavelength(optics.voltage)
    k2 = ky * ky + kx * kx
    mean = 0.5 * (optics.defocus_u + optics.defocus_v) + extra_defocus
    half = 0.5 * (optics.defocus_u - optics.defocus_v)
    double = np.deg2rad(2.0 * optics.astigmatism_angle)
    # k² cos 2(a - angle) = (kx² - ky²) cos 2 angle + 2 kx ky sin 2 angle: no arctangent needed
    k2_astigmatic = np.float32(np.cos(double)) * (kx * kx - ky * ky) + np.float32(2.0 * np.sin(double)) * (kx * ky)
    aberration = 0.5 * np.pi * optics.spherical_aberration * 1e7 * wavelength**3
    chi = (
        np.float32(np.pi * wavelength * mean) * k2
        + np.float32(np.pi * wavelength * half) * k2_astigmatic
        - np.float32(aberration) * k2 * k2
        + np.float32(np.deg2rad(optics.phase_shift) + np.arcsin(optics.amplitude_contrast))
    )
    result: FloatArray = -np.sin(chi)
    return result


def envelope(ky: FloatArray, kx: FloatArray, b_factor: float) -> FloatArray:
    """Return exp(-B k²/4), B in Å²: the decay of amplitudes by incoherence and residual motion."""
    result: FloatArray = np.exp(np.float32(-0.25 * b_factor) * (ky * ky + kx * kx))
    return result


def slab_height(shape: tuple[int, int], pixel_size: float, optics: Optics) -> FloatArray:
    """Return the extra defocus in Å of every pixel of a tilted slab, zero at the middle of the field."""
    axis = np.deg2rad(optics.tilt_axis)
    y = (np.arange(shape[0], dtype=np.float32) - shape[0] // 2)[:, None] * np.float32(pixel_size)
    x = (np.arange(shape[1], dtype=np.float32) - shape[1] // 2)[None, :] * np.float32(pixel_size)
    across = np.float32(np.cos(axis)) * y - np.float32(np.sin(axis)) * x
    result: FloatArray = np.float32(np.tan(np.deg2rad(optics.tilt_angle))) * across
    return result
