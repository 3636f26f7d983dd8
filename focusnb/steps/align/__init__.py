"""Align: from the frames of a movie to a micrograph, and how the specimen moved."""

from __future__ import annotations

from focusnb.quantities import (
    AlignedStack,
    AlignmentUncertainty,
    Deceleration,
    Drift,
    FrcResolution,
    Jitter,
    LocalMotion,
    LocalMotionLoss,
    LocalMotionRms,
    MaxStep,
    Micrograph,
    MicrographDoseWeighted,
    MicrographEven,
    MicrographOdd,
    MicrographPixelSize,
    MicrographPreview,
    MotionCurves,
    MotionEarly,
    MotionLate,
    MotionTable,
    MotionTotal,
    PatchesDropped,
    TrajectoryPreview,
)
from focusnb.steps.base import StepResults


class AlignedFrames(StepResults):
    """What every step that aligns frames makes; ``micrograph`` is not dose-weighted."""

    micrograph: Micrograph | None = None
    micrograph_dose_weighted: MicrographDoseWeighted | None = None
    micrograph_even: MicrographEven | None = None
    micrograph_odd: MicrographOdd | None = None
    aligned_frames: AlignedStack | None = None
    micrograph_pixel_size: MicrographPixelSize | None = None
    motion: MotionTable | None = None
    motion_curves: MotionCurves | None = None
    drift: Drift | None = None
    motion_total: MotionTotal | None = None
    motion_early: MotionEarly | None = None
    motion_late: MotionLate | None = None
    max_step: MaxStep | None = None
    deceleration: Deceleration | None = None
    jitter: Jitter | None = None
    local_motion: LocalMotion | None = None
    local_motion_rms: LocalMotionRms | None = None
    local_motion_loss: LocalMotionLoss | None = None
    patches_dropped: PatchesDropped | None = None
    alignment_uncertainty: AlignmentUncertainty | None = None
    frc_resolution: FrcResolution | None = None
    micrograph_preview: MicrographPreview | None = None
    trajectory_preview: TrajectoryPreview | None = None
