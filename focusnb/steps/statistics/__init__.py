"""Statistics: what a micrograph shows of itself, its spectrum and its ice."""

from __future__ import annotations

from focusnb.quantities import (
    IceRingExcess,
    Iciness,
    IcinessOuter,
    IcinessPaper,
    ImageStddevRelative,
    PowerSpectrum,
    PowerSpectrumPixelSize,
    SpectrumPreview,
    StripeMeasure,
)
from focusnb.steps.base import StepResults


class MeasuredSpectrum(StepResults):
    """What a step that averages spectra makes: amplitudes (box, box), origin at (box // 2, box // 2)."""

    power_spectrum: PowerSpectrum | None = None
    power_spectrum_pixel_size: PowerSpectrumPixelSize | None = None
    spectrum_preview: SpectrumPreview | None = None


class MeasuredImage(StepResults):
    """What a step that measures an image makes."""

    iciness: Iciness | None = None
    iciness_paper: IcinessPaper | None = None
    iciness_outer: IcinessOuter | None = None
    ice_ring_excess: IceRingExcess | None = None
    image_stddev_relative: ImageStddevRelative | None = None
    stripe_measure: StripeMeasure | None = None
