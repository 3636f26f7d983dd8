"""CTF: defocus, astigmatism and phase shift of a micrograph, and how far the fit can be trusted."""

from __future__ import annotations

from focusnb.quantities import (
    Astigmatism,
    AstigmatismAngle,
    CtfCurves,
    CtfFitResolution,
    CtfFitResolution0,
    CtfQuality,
    CtfRemark,
    CtfRingsPreview,
    CtfScore,
    DefocusU,
    DefocusV,
    PhaseShift,
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
    ctf_remark: CtfRemark | None = None
    ctf_curves: CtfCurves | None = None
    ctf_rings_preview: CtfRingsPreview | None = None
