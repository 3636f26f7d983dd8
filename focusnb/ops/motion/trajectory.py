"""Describe a trajectory by a few numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

EARLY_DOSE = 4.0
"""e⁻/Å² of recorded dose that belong to the early motion."""


@dataclass(frozen=True)
class MotionSummary:
    """How far and how a specimen moved; None where there is too little to tell.

    motion_total : length of the path, Å
    motion_early, motion_late : its parts before and after 4 e⁻/Å² of recorded dose, Å; None without a dose
    drift : diagonal of the bounding box of the path, Å
    max_step : longest step between frames, Å
    deceleration : by how much steps get shorter, Å per frame; positive if the drift slows down
    jitter : deviation of each frame from the middle of its neighbours, summed, over the length of the path
    """

    motion_total: float
    motion_early: float | None
    motion_late: float | None
    drift: float
    max_step: float
    deceleration: float
    jitter: float


def describe_motion(
    shifts: ArrayLike, *, pixel_size: float, dose_per_frame: float | None = None, first: int = 0
) -> MotionSummary:
    """Describe a trajectory.

    shifts : (t, 2) in pixels, of either sign
    pixel_size : Å/px
    dose_per_frame : e⁻/Å²; the position of a frame belongs to the dose at its middle, and a step that passes 4 e⁻/Å²
        is divided in proportion
    first : recorded frames before the first of these
    One frame, or none, has not moved.
    """
    positions = np.asarray(shifts, float).reshape(-1, 2) * pixel_size
    steps = np.sqrt((np.diff(positions, axis=0) ** 2).sum(axis=1))
    total = float(steps.sum())
    early = late = None
    if dose_per_frame is not None and math.isfinite(dose_per_frame):
        middle = (first + np.arange(len(positions)) + 0.5) * dose_per_frame
        path = np.concatenate([[0.0], np.cumsum(steps)])
        early = float(np.interp(EARLY_DOSE, middle, path[: len(middle)])) if len(positions) else 0.0
        late = total - early
    extent = np.ptp(positions, axis=0) if len(positions) else np.zeros(2)
    slope = float(np.polyfit(np.arange(len(steps)), steps, 1)[0]) if len(steps) > 1 else 0.0
    bend = positions[1:-1] - 0.5 * (positions[:-2] + positions[2:])
    deviation = float(np.sqrt((bend**2).sum(axis=1)).sum())
    return MotionSummary(
        motion_total=total,
        motion_early=early,
        motion_late=late,
        drift=float(np.hypot(*extent)),
        max_step=float(steps.max()) if len(steps) else 0.0,
        deceleration=-slope,
        jitter=deviation / total if total > 0 else 0.0,
    )
