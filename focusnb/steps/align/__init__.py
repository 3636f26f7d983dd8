"""Align: from the frames of a movie to a micrograph, and how the specimen moved."""

from __future__ import annotations

from focusnb.quantities import (
    Deceleration,
    Drift,
    Jitter,
    MaxStep,
    Micrograph,
    MicrographDoseWeighted,
    MicrographPixelSize,
    MicrographPreview,
    MotionEarly,
    MotionLate,
    MotionTable,
    MotionTotal,
    TrajectoryPreview,
)
from focusnb.steps.base import StepResults


class AlignedFrames(StepResults):
    """What every step that aligns frames makes; ``micrograph`` is not dose-weighted."""

    micrograph: Micrograph | None = None
    micrograph_dose_weighted: MicrographDoseWeighted | None = None
    micrograph_pixel_size: MicrographPixelSize | None = None
    motion: MotionTable | None = None
    drift: Drift | None = None
    motion_total: MotionTotal | None = None
    motion_early: MotionEarly | None = None
    motion_late: MotionLate | None = None
    max_step: MaxStep | None = None
    deceleration: Deceleration | None = None
    jitter: Jitter | None = None
    micrograph_preview: MicrographPreview | None = None
    trajectory_preview: TrajectoryPreview | None = None
