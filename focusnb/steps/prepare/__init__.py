"""Prepare: from a recorded file to frames that can be aligned, or to a micrograph that can be measured.

A step for movies makes :class:`PreparedMovie`, one for images :class:`PreparedImage`.
"""

from __future__ import annotations

from focusnb.quantities import (
    BadPixels,
    DoseOrigin,
    DosePerFrameMeasured,
    DosePerFrameUsed,
    DoseRate,
    EerGrid,
    EerGrouping,
    Frames,
    GainFit,
    MeanCounts,
    Micrograph,
    MicrographPixelSize,
    MicrographPreview,
    MoviePixelSize,
    UnalignedPreview,
    UnalignedSpectrumPreview,
    UnalignedSum,
    UnalignedWindows,
)
from focusnb.steps.base import StepResults


class PreparedMovie(StepResults):
    """What preparing a movie makes.

    ``work["frames"]`` is a :class:`focusnb.ops.frames.CorrectedFrames`, ``work["unaligned_sum"]`` the mean of the
    corrected frames, (y, x) in electrons per pixel and frame.
    """

    frames: Frames | None = None
    movie_pixel_size: MoviePixelSize | None = None
    eer_grid: EerGrid | None = None
    eer_grouping: EerGrouping | None = None
    unaligned_sum: UnalignedSum | None = None
    bad_pixels: BadPixels | None = None
    gain_fit: GainFit | None = None
    mean_counts: MeanCounts | None = None
    dose_rate: DoseRate | None = None
    dose_per_frame_measured: DosePerFrameMeasured | None = None
    dose_per_frame_used: DosePerFrameUsed | None = None
    dose_origin: DoseOrigin | None = None
    unaligned_windows: UnalignedWindows | None = None
    unaligned_preview: UnalignedPreview | None = None
    unaligned_spectrum_preview: UnalignedSpectrumPreview | None = None


class PreparedImage(StepResults):
    """What preparing an image makes."""

    micrograph: Micrograph | None = None
    micrograph_pixel_size: MicrographPixelSize | None = None
    micrograph_preview: MicrographPreview | None = None
