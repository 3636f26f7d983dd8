"""Noise with Thon rings, made from the formula alone, so that the code under test is not its own judge."""

from __future__ import annotations

import numpy as np


def thon_image(
    shape: tuple[int, int],
    pixel_size: float,
    defocus: tuple[float, float, float],
    *,
    voltage: float = 300.0,
    aberration: float = 2.7,
    contrast: float = 0.1,
    phase_shift: float = 0.0,
    signal: float = 0.5,
    drift: tuple[float, float] = (0.0, 0.0),
    finest: float = 0.0,
    ends: float = 0.0,
    seed: int = 0,
) -> np.ndarray:
    """Return an image whose expected power is 1 + signal·CTF²·envelope.

    defocus : U and V in Å, angle of U in degrees from +x towards +y (rows); drift : (y, x) in Å, a straight smear;
    finest : Å, beyond it the image is empty
    ends : Å, up to which the rings are all as strong, and beyond which there are none
    """
    rng = np.random.default_rng(seed)
    volts = 1000.0 * voltage
    length = 12.2643 / np.sqrt(volts * (1 + 0.978466e-6 * volts))
    ky = np.fft.fftfreq(shape[0], pixel_size)[:, None]
    kx = np.fft.rfftfreq(shape[1], pixel_size)[None, :]
    k2 = ky**2 + kx**2
    u, v, angle = defocus
    # the quadratic form of a lens: U along its axis, V across it
    along = kx * np.cos(np.radians(angle)) + ky * np.sin(np.radians(angle))
    across = -kx * np.sin(np.radians(angle)) + ky * np.cos(np.radians(angle))
    chi = np.pi * length * (u * along**2 + v * across**2) - 0.5 * np.pi * aberration * 1e7 * length**3 * k2**2
    ctf = -np.sin(chi + np.radians(phase_shift) + np.arcsin(contrast))
    envelope = np.exp(-15.0 * k2) * (1 + 4 / (1 + k2 / 0.03**2)) * np.sinc(ky * drift[0] + kx * drift[1])
    if ends:
        envelope = 1.0 * (k2 < ends**-2)
    specimen = np.fft.rfft2(rng.normal(size=shape)) * ctf * envelope * np.sqrt(signal)
    spectrum = specimen + np.fft.rfft2(rng.normal(size=shape))
    if finest:
        spectrum = spectrum * (k2 < finest**-2)
    return np.fft.irfft2(spectrum, s=shape).astype(np.float32)
