"""The contrast transfer function.

χ(k, α) = π λ Δ(α) k² − ½ π Cs λ³ k⁴ + phase_shift, Δ(α) = ½ [U + V + (U − V) cos 2(α − angle)],
CTF = −sin(χ + asin w), w the amplitude contrast (Rohou & Grigorieff 2015; Mindell & Grigorieff 2003).

Defocus in Å, positive under focus; U ≥ V; ``astigmatism_angle`` in degrees is the direction of U from +x towards +y
(counter-clockwise, y up, y the row index); phase shifts in degrees; frequencies in 1/Å.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from focusnb.errors import ParameterError
from focusnb.ops.backend import Array, array_namespace


@dataclass(frozen=True, slots=True)
class Optics:
    """What the microscope contributes to a CTF.

    pixel_size : Å/px of the image or spectrum
    voltage : kV
    spherical_aberration : mm
    amplitude_contrast : part of the contrast that is amplitude contrast, 0 to below 1
    """

    pixel_size: float
    voltage: float
    spherical_aberration: float
    amplitude_contrast: float = 0.1

    def __post_init__(self) -> None:
        if not self.pixel_size > 0:
            raise ParameterError(f"pixel size is {self.pixel_size} Å/px; it must be positive")
        if not 10 <= self.voltage <= 3000:
            raise ParameterError(f"voltage is {self.voltage} kV; it must lie between 10 and 3000 (is it given in V?)")
        if not 0 <= self.spherical_aberration <= 20:
            raise ParameterError(f"spherical aberration is {self.spherical_aberration} mm; it must lie within 0-20")
        if not 0 <= self.amplitude_contrast < 1:
            raise ParameterError(f"amplitude contrast is {self.amplitude_contrast}; it must be at least 0, below 1")

    @property
    def wavelength(self) -> float:
        """Electron wavelength in Å."""
        return wavelength(self.voltage)

    @property
    def quartic(self) -> float:
        """½ π Cs λ³ in Å⁴: the factor of −k⁴ in the phase."""
        return 0.5 * math.pi * self.spherical_aberration * 1e7 * self.wavelength**3

    @property
    def amplitude_phase(self) -> float:
        """asin of the amplitude contrast, in radians."""
        return math.asin(self.amplitude_contrast)


def wavelength(voltage: float) -> float:
    """Return the relativistic wavelength in Å of electrons accelerated by ``voltage`` kV."""
    volts = voltage * 1000.0
    return 12.2643 / math.sqrt(volts * (1.0 + 0.978466e-6 * volts))


def ctf_phase(frequency: Array, defocus: Any, optics: Optics, phase_shift: float = 0.0) -> Array:
    """Return χ in radians, amplitude contrast not included.

    frequency : 1/Å, any shape; defocus : Å, a number or an array that broadcasts; phase_shift : degrees
    """
    squared = frequency * frequency
    return (
        math.pi * optics.wavelength * defocus * squared - optics.quartic * squared * squared + math.radians(phase_shift)
    )


def ctf_1d(frequency: Array, defocus: Any, optics: Optics, phase_shift: float = 0.0, b_factor: float = 0.0) -> Array:
    """Return the CTF at frequencies (1/Å, any shape) for one defocus or an array that broadcasts.

    phase_shift : degrees; b_factor : Å², envelope exp(−B k²/4)
    """
    xp = array_namespace(frequency)
    ctf = -xp.sin(ctf_phase(frequency, defocus, optics, phase_shift) + optics.amplitude_phase)
    return ctf * xp.exp(-0.25 * b_factor * frequency * frequency) if b_factor else ctf


def defocus_at(azimuth: Array, defocus_u: float, defocus_v: float, astigmatism_angle: float) -> Array:
    """Return the defocus in Å along directions (radians from +x towards +y)."""
    xp = array_namespace(azimuth)
    mean, half = 0.5 * (defocus_u + defocus_v), 0.5 * (defocus_u - defocus_v)
    return mean + half * xp.cos(2.0 * (azimuth - math.radians(astigmatism_angle)))


def ctf_2d(
    shape: tuple[int, int],
    *,
    defocus_u: float,
    defocus_v: float,
    astigmatism_angle: float,
    optics: Optics,
    phase_shift: float = 0.0,
    b_factor: float = 0.0,
    layout: str = "centred",
    like: Array | None = None,
) -> Array:
    """Return the CTF of an image of ``shape`` (ny, nx), float32.

    layout : "centred" (ny, nx) with the origin at (ny // 2, nx // 2), "fft" as ``fft2`` orders it, or "rfft"
    (ny, nx // 2 + 1) as ``rfft2`` orders it
    like : an array of the module wanted, numpy otherwise
    """
    xp = array_namespace(like)
    ny, nx = shape
    if layout not in ("centred", "fft", "rfft"):
        raise ParameterError(f"layout of a CTF is {layout!r}; it can be 'centred', 'fft' or 'rfft'")
    rows = np.fft.fftfreq(ny, optics.pixel_size)
    columns = (np.fft.rfftfreq if layout == "rfft" else np.fft.fftfreq)(nx, optics.pixel_size)
    if layout == "centred":
        rows, columns = np.fft.fftshift(rows), np.fft.fftshift(columns)
    ky, kx = xp.asarray(rows), xp.asarray(columns)
    radius = xp.sqrt(ky[:, None] ** 2 + kx[None, :] ** 2)
    azimuth = xp.arctan2(ky[:, None] + 0.0 * kx[None, :], kx[None, :] + 0.0 * ky[:, None])
    defocus = defocus_at(azimuth, defocus_u, defocus_v, astigmatism_angle)
    return ctf_1d(radius, defocus, optics, phase_shift, b_factor).astype(xp.float32)


def astigmatism_vector(defocus_u: float, defocus_v: float, astigmatism_angle: float) -> complex:
    """Return (U − V)·exp(2i·angle) in Å: two astigmatisms are compared by the distance of their vectors."""
    return (defocus_u - defocus_v) * complex(np.exp(2j * math.radians(astigmatism_angle)))


def from_astigmatism_vector(mean_defocus: float, vector: complex) -> tuple[float, float, float]:
    """Return U, V (Å) and the angle of U in (−90, 90] degrees from the mean defocus and (U − V)·exp(2i·angle)."""
    half = 0.5 * abs(vector)
    angle = 0.5 * math.degrees(math.atan2(vector.imag, vector.real))
    return mean_defocus + half, mean_defocus - half, 90.0 if angle <= -90.0 else angle
