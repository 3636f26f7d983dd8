"""Find the thickness of a specimen in its Thon rings."""

from __future__ import annotations

from typing import Annotated

from focusnb.ops.backend import to_numpy
from focusnb.ops.ctf import estimate_thickness
from focusnb.parameters import quantity
from focusnb.quantities import (
    PowerSpectrum,
    PowerSpectrumPixelSize,
)
from focusnb.quantities.tilt import (
    DefocusRangeX,
    DefocusRangeY,
)
from focusnb.steps.base import Step, StepParams
from focusnb.steps.ctf import CtfKnown, FittedThickness
from focusnb.steps.work import Work

MaxThickness = Annotated[float, quantity("Largest thickness", unit="Å", group="Search", gt=100, le=10_000, precision=0)]


class FitThickness(Step):
    """Find the thickness of a specimen by the frequency at which its Thon rings vanish and come back reversed.

    The top and the bottom of a thick specimen have different defoci, so their rings cancel where these differ by half
    a ring (McMullan et al. 2015; Elferink et al. 2024). A tilted specimen does the same: fit the tilt before it.
    """

    name = "fit_thickness"
    title = "Fit the thickness"
    version = "1"
    category = "ctf"

    class Inputs(CtfKnown):
        """The spectrum, its optics and its CTF; what is known of a tilt."""

        power_spectrum: PowerSpectrum
        power_spectrum_pixel_size: PowerSpectrumPixelSize
        defocus_range_x: DefocusRangeX | None = None
        defocus_range_y: DefocusRangeY | None = None

    class Params(StepParams):
        """How thick a specimen may be."""

        max_thickness: MaxThickness = 4000.0

    Results = FittedThickness

    def run(self, inputs: Inputs, params: Params, work: Work) -> FittedThickness:
        """Fit, and tell what is excluded where nothing is found."""
        optics, whole = inputs.at(inputs.power_spectrum_pixel_size)
        found = estimate_thickness(
            to_numpy(work["power_spectrum"]),
            optics=optics,
            fit=whole,
            max_thickness=params.max_thickness,
            defocus_range=(inputs.defocus_range_x or 0.0, inputs.defocus_range_y or 0.0),
        )
        thickness = found.thickness_fitted
        work.report(f"No thickness: {found.reason}" if thickness is None else f"Thickness {thickness:.0f} Å")
        return FittedThickness(
            thickness_fitted=thickness,
            thickness_error=found.thickness_error,
            thickness_limit=found.upper_limit,
            thickness_remark=found.reason or None,
        )
