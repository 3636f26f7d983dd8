"""Fit a plane to the defocus of a micrograph."""

from __future__ import annotations

from typing import Annotated

from focusnb.ops.ctf import estimate_tilt
from focusnb.parameters import quantity
from focusnb.quantities import (
    Micrograph,
    MicrographPixelSize,
)
from focusnb.steps.base import Step, StepParams
from focusnb.steps.ctf import CtfKnown, FittedTilt
from focusnb.steps.work import Work

MaxTilt = Annotated[
    float,
    quantity("Largest tilt", unit="°", group="Search", gt=0, le=80, precision=0, help="Steeper planes are not tried."),
]


class FitTilt(Step):
    """Measure the defocus from place to place, and the tilt of the specimen it tells.

    The spectra of overlapping tiles are fitted together, each with the defocus that a plane has there. A tilt that
    chance would give more often than once in ten thousand images is none.
    """

    name = "fit_tilt"
    title = "Fit the tilt"
    version = "1"
    category = "ctf"
    gpu = "uses"

    class Inputs(CtfKnown):
        """The micrograph, its optics, and the CTF of its whole where there is one."""

        micrograph: Micrograph
        micrograph_pixel_size: MicrographPixelSize

    class Params(StepParams):
        """How steep a specimen may lie."""

        max_tilt: MaxTilt = 70.0

    Results = FittedTilt

    def run(self, inputs: Inputs, params: Params, work: Work) -> FittedTilt:
        """Fit, and tell how sure it is."""
        optics, whole = inputs.at(inputs.micrograph_pixel_size)
        image = work["micrograph"]
        tilt = estimate_tilt(image, optics=optics, fit=whole, max_tilt=params.max_tilt)
        quality, gradient = tilt.quality, tilt.defocus_gradient if tilt.significant else None
        told = (
            f"Tilt {tilt.signed_tilt_angle:.1f}°" if tilt.signed_tilt_angle is not None else f"No tilt: {tilt.reason}"
        )
        work.report(told)
        ny, nx = (int(side) * optics.pixel_size for side in image.shape)
        return FittedTilt(
            tilt_axis_fitted=tilt.tilt_axis_fitted,
            tilt_angle_fitted=0.0 if quality == "none" else tilt.signed_tilt_angle,
            tilt_axis_error=tilt.tilt_axis_error,
            tilt_angle_error=tilt.tilt_angle_error,
            tilt_quality=quality,  # type: ignore[arg-type]
            tilt_remark=tilt.reason or None,
            defocus_range_x=None if gradient is None else abs(gradient[0]) * nx,
            defocus_range_y=None if gradient is None else abs(gradient[1]) * ny,
        )
