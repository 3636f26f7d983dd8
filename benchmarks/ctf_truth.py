"""CTF estimation against known truth: simulated micrographs of every kind, noise, and how reliable the verdicts are.

    python benchmarks/ctf_truth.py [--micrographs 200] [--noise 1000] [--seed 1000] [--rows]

Micrographs are drawn over 0.3-5 µm, 0.5-2.5 Å/px, 80-300 kV, weak to strong, a third of them with a phase plate. A fit is
right where U and V are within the tolerance of its kind (below); where fewer than three zeros of the CTF lie in the
band, or the specimen is too weak, it has to be right or not "ok". The whole distribution of errors is kept.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import _common
import numpy as np

RIGHT = 300.0
"""Å by which U and V may err where a fit is called right or wrong, or 2 % of the defocus where that is more."""


def draw(seed: int) -> tuple[Any, bool]:
    """Return the specification of a micrograph and whether its phase shift is to be searched."""
    from focusnb.ops.simulate.detector import DetectorSettings
    from focusnb.ops.simulate.movie import MovieSpec
    from focusnb.ops.simulate.optics import Optics
    from focusnb.ops.simulate.specimen import SpecimenSettings

    rng = np.random.default_rng([seed, 77])
    pixel_size = float(np.exp(rng.uniform(math.log(0.5), math.log(2.5))))
    defocus = float(np.exp(rng.uniform(math.log(3000.0), math.log(50_000.0))))
    astigmatism = float(min(rng.exponential(250.0), 1200.0, 0.3 * defocus))
    voltage, aberration = ((300.0, 2.7), (300.0, 0.01), (200.0, 2.0), (200.0, 1.4), (100.0, 1.6), (80.0, 4.7))[
        int(rng.choice(6, p=[0.35, 0.1, 0.2, 0.15, 0.1, 0.1]))
    ]
    plate = rng.random() < 1 / 3
    optics = Optics(
        voltage=voltage,
        spherical_aberration=aberration,
        amplitude_contrast=float(rng.choice([0.07, 0.1])),
        defocus_u=defocus + 0.5 * astigmatism,
        defocus_v=defocus - 0.5 * astigmatism,
        astigmatism_angle=float(rng.uniform(-90.0, 90.0)),
        phase_shift=float(rng.uniform(20.0, 150.0)) if plate else 0.0,
        b_factor=float(rng.uniform(40.0, 160.0)),
    )
    specimen = SpecimenSettings(
        ice_thickness=float(np.exp(rng.uniform(math.log(40.0), math.log(400.0)))),
        particle_mass=float(np.exp(rng.uniform(math.log(50.0), math.log(800.0)))),
        particle_spacing=float(rng.uniform(250.0, 800.0)),
    )
    shape = tuple(int(side) for side in rng.integers(1000, 2001, 2))
    dose = float(rng.uniform(0.4, 1.5))
    spec = MovieSpec(shape, 40, pixel_size, dose, optics=optics, specimen=specimen, detector=DetectorSettings())
    return spec, plate


def spectrum_and_optics(image: np.ndarray, spec: Any) -> tuple[np.ndarray, Any]:
    """Return the spectrum of a micrograph as the step makes it, and the optics of its pixels."""
    from focusnb.ops.ctf import Optics
    from focusnb.ops.spectrum import choose_sampling, power_spectrum

    lens = spec.optics
    sampling = choose_sampling(spec.pixel_size)
    optics = Optics(
        spec.pixel_size * sampling.factor, lens.voltage, lens.spherical_aberration, lens.amplitude_contrast
    )
    return power_spectrum(image, sampling=sampling), optics


def zeros_in_band(spec: Any, highest: float) -> int:
    """Zeros of the true CTF from 30 Å to a frequency in 1/Å, counted from the formula."""
    lens = spec.optics
    volts = 1000.0 * lens.voltage
    wavelength = 12.2643 / math.sqrt(volts * (1.0 + 0.978466e-6 * volts))
    k2 = np.linspace(1 / 30, highest, 5000) ** 2
    defocus = 0.5 * (lens.defocus_u + lens.defocus_v)
    phase = math.pi * wavelength * defocus * k2
    phase -= 0.5 * math.pi * lens.spherical_aberration * 1e7 * wavelength**3 * k2**2
    phase += math.radians(lens.phase_shift) + math.asin(lens.amplitude_contrast)
    return int(np.abs(np.diff(np.floor(phase / math.pi))).sum())


def one(seed: int) -> dict[str, Any]:
    """Simulate a micrograph, fit it, and say by how much the fit errs."""
    from focusnb.ops.ctf import astigmatism_vector, estimate_ctf
    from focusnb.ops.simulate.movie import simulate_micrograph

    spec, plate = draw(seed)
    image, _ = simulate_micrograph(spec, seed)
    spectrum, optics = spectrum_and_optics(image, spec)
    fit = estimate_ctf(spectrum, optics=optics, phase_shift_search=(0.0, 180.0) if plate else (0.0, 0.0))
    lens = spec.optics
    defocus = 0.5 * (lens.defocus_u + lens.defocus_v)
    row = {
        "seed": seed,
        "pixel_size": round(spec.pixel_size, 3),
        "voltage": lens.voltage,
        "defocus": round(defocus),
        "astigmatism": round(lens.defocus_u - lens.defocus_v),
        "phase_shift": round(lens.phase_shift, 1),
        "zeros": zeros_in_band(spec, min(0.25, 0.46 / spec.pixel_size)),
        "quality": fit.ctf_quality,
        "probability": getattr(fit, "ctf_probability", None),
        "reason": fit.reason,
        "significance": round(fit.significance, 2),
        "score": None if fit.ctf_score is None else round(fit.ctf_score, 4),
        "resolution": None if fit.ctf_fit_resolution is None else round(fit.ctf_fit_resolution, 2),
        "stated_error": None if fit.defocus_error is None else round(fit.defocus_error, 1),
    }
    if fit.defocus_u is None:
        return row | {"error_u": None, "error_v": None, "error_vector": None, "error_phase": None, "right": None}
    found = astigmatism_vector(fit.defocus_u, fit.defocus_v, fit.astigmatism_angle)
    true = astigmatism_vector(lens.defocus_u, lens.defocus_v, lens.astigmatism_angle)
    errors = fit.defocus_u - lens.defocus_u, fit.defocus_v - lens.defocus_v
    turned = (fit.phase_shift - lens.phase_shift + 90.0) % 180.0 - 90.0
    return row | {
        "error_u": round(errors[0], 1),
        "error_v": round(errors[1], 1),
        "error_vector": round(abs(found - true), 1),
        "error_phase": round(turned, 2),
        "right": max(abs(error) for error in errors) <= max(RIGHT, 0.02 * defocus),
    }
