"""CTF: defocus, astigmatism and phase shift of a micrograph, and how far the fit can be trusted."""

from __future__ import annotations

from focusnb.quantities import (
    Astigmatism,
    AstigmatismAngle,
    CtfCurves,
    CtfFitResolution,
    CtfFitResolution0,
    CtfProbability,
    CtfQuality,
    CtfRemark,
    CtfRingsPreview,
    CtfScore,
    DefocusU,
    DefocusV,
    PhaseShift,
)
from focusnb.quantities.tilt import (
    DefocusRangeX,
    DefocusRangeY,
    ThicknessError,
    ThicknessFitted,
    ThicknessLimit,
    ThicknessRemark,
    TiltAngleError,
    TiltAngleFitted,
    TiltAxisError,
    TiltAxisFitted,
    TiltQuality,
    TiltRemark,
)
from focusnb.steps.base import StepResults


class FittedCtf(StepResults):
    """What every step that estimates a CTF makes. Where ``ctf_quality`` is failed, the defocus is empty."""

    defocus_u: DefocusU | None = None
    defocus_v: DefocusV | None = None
    astigmatism: Astigmatism | None = None
    astigmatism_angle: AstigmatismAngle | None = None
    phase_shift: PhaseShift | None = None
    ctf_score: CtfScore | None = None
    ctf_fit_resolution: CtfFitResolution | None = None
    ctf_fit_resolution_0: CtfFitResolution0 | None = None
    ctf_quality: CtfQuality | None = None
    ctf_probability: CtfProbability | None = None
    ctf_remark: CtfRemark | None = None
    ctf_curves: CtfCurves | None = None
    ctf_rings_preview: CtfRingsPreview | None = None


class FittedTilt(StepResults):
    """What a step makes that fits a plane to the defocus of a micrograph."""

    tilt_axis_fitted: TiltAxisFitted | None = None
    tilt_angle_fitted: TiltAngleFitted | None = None
    tilt_axis_error: TiltAxisError | None = None
    tilt_angle_error: TiltAngleError | None = None
    tilt_quality: TiltQuality | None = None
    tilt_remark: TiltRemark | None = None
    defocus_range_x: DefocusRangeX | None = None
    defocus_range_y: DefocusRangeY | None = None


class FittedThickness(StepResults):
    """What a step makes that finds the thickness of a specimen in its Thon rings."""

    thickness_fitted: ThicknessFitted | None = None
    thickness_error: ThicknessError | None = None
    thickness_limit: ThicknessLimit | None = None
    thickness_remark: ThicknessRemark | None = None
