"""Statistics: what a micrograph shows of itself, its spectrum and its ice."""

from __future__ import annotations

from focusnb.quantities import (
    CarbonFraction,
    EdgeContrast,
    EdgeScore,
    IceRingExcess,
    IceRingPosition,
    IceRingStrength,
    Iciness,
    IcinessOuter,
    IcinessPaper,
    ImageStddevRelative,
    InSessionSums,
    OpenFraction,
    PowerSpectrum,
    PowerSpectrumFar,
    PowerSpectrumFarPixelSize,
    PowerSpectrumPixelSize,
    QualityFlags,
    QualityRemark,
    ResidualGain,
    SessionCount,
    SessionLeftOut,
    SessionMean,
    SessionMeanPreview,
    SessionSpectrum,
    SessionSpectrumPreview,
    SessionVariance,
    SessionVariancePreview,
    SpectrumPreview,
    StripeMeasure,
    TextureExcess,
)
from focusnb.quantities.court import RingProfile
from focusnb.steps.base import StepResults


class MeasuredSpectrum(StepResults):
    """What a step that averages spectra makes: amplitudes (box, box), origin at (box // 2, box // 2)."""

    power_spectrum: PowerSpectrum | None = None
    power_spectrum_pixel_size: PowerSpectrumPixelSize | None = None
    power_spectrum_far: PowerSpectrumFar | None = None
    power_spectrum_far_pixel_size: PowerSpectrumFarPixelSize | None = None
    spectrum_preview: SpectrumPreview | None = None


class MeasuredImage(StepResults):
    """What a step that measures an image makes."""

    iciness: Iciness | None = None
    iciness_paper: IcinessPaper | None = None
    iciness_outer: IcinessOuter | None = None
    ice_ring_excess: IceRingExcess | None = None
    ice_ring_position: IceRingPosition | None = None
    ice_ring_strength: IceRingStrength | None = None
    ring_profile: RingProfile | None = None
    image_stddev_relative: ImageStddevRelative | None = None
    stripe_measure: StripeMeasure | None = None


class JudgedExposure(StepResults):
    """What a step that judges an exposure makes. The flag set by hand is not among it, and stays as it is."""

    quality_flags: QualityFlags | None = None
    quality_remark: QualityRemark | None = None
    carbon_fraction: CarbonFraction | None = None
    open_fraction: OpenFraction | None = None
    texture_excess: TextureExcess | None = None
    edge_score: EdgeScore | None = None
    edge_contrast: EdgeContrast | None = None


class AddedToSession(StepResults):
    """What a step tells that adds an exposure to the sums of its session."""

    in_session_sums: InSessionSums | None = None


class SessionSums(StepResults):
    """What a step makes that averages a session: images (y, x) over its exposures."""

    session_mean: SessionMean | None = None
    session_mean_preview: SessionMeanPreview | None = None
    session_variance: SessionVariance | None = None
    session_variance_preview: SessionVariancePreview | None = None
    session_spectrum: SessionSpectrum | None = None
    session_spectrum_preview: SessionSpectrumPreview | None = None
    residual_gain: ResidualGain | None = None
    session_count: SessionCount | None = None
    session_left_out: SessionLeftOut | None = None
