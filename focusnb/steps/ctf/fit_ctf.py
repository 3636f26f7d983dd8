"""Fit the CTF of a micrograph to its spectrum."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from focusnb.ops import preview
from focusnb.ops.backend import to_numpy
from focusnb.ops.ctf import CtfFit, Optics, estimate_ctf
from focusnb.parameters import quantity
from focusnb.quantities import (
    AmplitudeContrast,
    PowerSpectrum,
    PowerSpectrumFar,
    PowerSpectrumFarPixelSize,
    PowerSpectrumPixelSize,
    SphericalAberration,
    Voltage,
)
from focusnb.steps.base import Step, StepInputs, StepParams
from focusnb.steps.ctf import FittedCtf
from focusnb.steps.work import Work

ResolutionLow = Annotated[
    float,
    quantity("Low resolution limit", unit="Å", group="Band", gt=5, le=200, precision=0, help="Where the fit begins."),
]
ResolutionHigh = Annotated[
    float,
    quantity(
        "High resolution limit",
        unit="Å",
        group="Band",
        gt=1,
        le=20,
        precision=1,
        help="Where the fit ends; empty: 4 Å.",
    ),
]
DefocusMin = Annotated[float, quantity("Smallest defocus", unit="Å", group="Search", gt=0, precision=0)]
DefocusMax = Annotated[float, quantity("Largest defocus", unit="Å", group="Search", gt=0, le=200_000, precision=0)]
MaxAstigmatism = Annotated[float, quantity("Largest astigmatism", unit="Å", group="Search", ge=0, precision=0)]
PhaseShiftMin = Annotated[
    float, quantity("Smallest phase shift", unit="°", group="Phase plate", ge=0, le=180, precision=0, advanced=True)
]
PhaseShiftMax = Annotated[
    float,
    quantity(
        "Largest phase shift",
        unit="°",
        group="Phase plate",
        ge=0,
        le=180,
        precision=0,
        advanced=True,
        help="Equal to the smallest: the phase shift is known and not searched.",
    ),
]


class FitCtf(Step):
    """Estimate defocus and astigmatism from the Thon rings, and judge whether the fit can be trusted.

    Exhaustive search, then least squares of defocus U, V and angle (Rohou & Grigorieff 2015; Zhang 2016). A fit no
    better than chance is a finding: the quality is failed, the defocus empty, and the remark says why.
    """

    name = "fit_ctf"
    title = "Fit the CTF"
    version = "2"
    category = "ctf"

    class Inputs(StepInputs):
        """The spectrum and the optics."""

        power_spectrum: PowerSpectrum
        power_spectrum_pixel_size: PowerSpectrumPixelSize
        power_spectrum_far: PowerSpectrumFar | None = None
        power_spectrum_far_pixel_size: PowerSpectrumFarPixelSize | None = None
        voltage: Voltage
        spherical_aberration: SphericalAberration
        amplitude_contrast: AmplitudeContrast

    class Params(StepParams):
        """The band and the limits of the search."""

        resolution_low: ResolutionLow = 30.0
        resolution_high: ResolutionHigh | None = None
        defocus_min: DefocusMin = 1000.0
        defocus_max: DefocusMax = 150_000.0
        max_astigmatism: MaxAstigmatism = 2500.0
        phase_shift_min: PhaseShiftMin = 0.0
        phase_shift_max: PhaseShiftMax = 0.0

    Results = FittedCtf

    def run(self, inputs: Inputs, params: Params, work: Work) -> FittedCtf:
        """Fit, draw, keep the curves."""
        optics = Optics(
            pixel_size=inputs.power_spectrum_pixel_size,
            voltage=inputs.voltage,
            spherical_aberration=inputs.spherical_aberration,
            amplitude_contrast=inputs.amplitude_contrast,
        )
        spectrum, far = to_numpy(work["power_spectrum"]), None
        if inputs.power_spectrum_far is not None and inputs.power_spectrum_far_pixel_size is not None:
            far = to_numpy(work["power_spectrum_far"]), inputs.power_spectrum_far_pixel_size
        fit = estimate_ctf(
            spectrum,
            optics=optics,
            resolution_low=params.resolution_low,
            resolution_high=params.resolution_high,
            defocus_min=params.defocus_min,
            defocus_max=params.defocus_max,
            max_astigmatism=params.max_astigmatism,
            phase_shift_search=(params.phase_shift_min, params.phase_shift_max),
            far=far,
        )
        fitted = spectrum
        if far is not None and fit.pixel_size == far[1]:
            fitted, optics = far[0], replace(optics, pixel_size=far[1])
        if fit.defocus_u is None:
            work.report(f"No CTF: {fit.reason}")
        else:
            work.report(f"Defocus {fit.defocus_u:.0f} / {fit.defocus_v:.0f} Å, {fit.ctf_quality}")
        return FittedCtf(
            defocus_u=fit.defocus_u,
            defocus_v=fit.defocus_v,
            astigmatism=fit.astigmatism,
            astigmatism_angle=fit.astigmatism_angle,
            phase_shift=fit.phase_shift,
            ctf_score=fit.ctf_score,
            ctf_fit_resolution=fit.ctf_fit_resolution,
            ctf_fit_resolution_0=fit.ctf_fit_resolution_0,
            ctf_quality=fit.ctf_quality,  # type: ignore[arg-type]
            ctf_probability=fit.ctf_probability,
            ctf_remark=fit.reason or None,
            ctf_curves=work.save("ctf_curves", _curves(fit)) if fit.curves is not None else None,
            ctf_rings_preview=work.save("ctf_rings_preview", preview.ctf_rings_preview(fitted, fit, optics=optics)),
        )


def _curves(fit: CtfFit) -> dict[str, Any]:
    """The rotational averages as short lists, with a sensible number of digits."""
    assert fit.curves is not None
    names = ("frequency", "measured", "background", "contrast", "fit", "quality")
    return {name: [float(f"{value:.5g}") for value in getattr(fit.curves, name)] for name in names}
