"""CTF: defocus, astigmatism and phase shift of a micrograph, and how far the fit can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from focusnb.quantities import (
    AmplitudeContrast,
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
    SphericalAberration,
    Voltage,
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
from focusnb.steps.base import StepInputs, StepResults

if TYPE_CHECKING:
    from focusnb.ops.ctf import CtfFit, Optics


class CtfKnown(StepInputs):
    """What steps read that start from a fitted CTF; where none was fitted its values are empty."""

    voltage: Voltage
    spherical_aberration: SphericalAberration
    amplitude_contrast: AmplitudeContrast
    defocus_u: DefocusU | None = None
    defocus_v: DefocusV | None = None
    astigmatism_angle: AstigmatismAngle | None = None
    phase_shift: PhaseShift | None = None

    def at(self, pixel_size: float) -> tuple[Optics, CtfFit]:
        """The optics for pixels of a size in Å, and the fit."""
        from focusnb.ops.ctf import Optics, known_ctf

        fit = known_ctf(
            self.defocus_u,
            self.defocus_v,
            self.astigmatism_angle,
            phase_shift=self.phase_shift,
            pixel_size=pixel_size,
        )
        return Optics(pixel_size, self.voltage, self.spherical_aberration, self.amplitude_contrast), fit


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
