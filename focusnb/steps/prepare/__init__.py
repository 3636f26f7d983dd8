"""Prepare: from a recorded file to frames that can be aligned, or to a micrograph that can be measured.

A step for movies makes :class:`PreparedMovie`, one for images :class:`PreparedImage`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
from focusnb.quantities.court import (
    BadLines,
    CameraCurves,
    CountsPerElectronMeasured,
    DeadPixels,
    GainPattern,
    HotPixels,
    OddFrames,
)
from focusnb.steps.base import StepResults


def alignment_binning(facts: Mapping[str, Any]) -> int:
    """Pixels of a movie along a pixel of its alignment, by its facts."""
    from focusnb.ops.motion.band import choose_binning

    shape = int(facts.get("height") or 4096), int(facts.get("width") or 4096)
    return choose_binning(shape, float(facts.get("pixel_size") or 1.0))


def device_memory(facts: Mapping[str, Any], frames: int, pixels: int) -> int:
    """Bytes of GPU memory that the steps of motion correction need at least."""
    from focusnb.ops import transfer

    return transfer.device_memory(frames, pixels, 1, binning=alignment_binning(facts))


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
    gain_pattern: GainPattern | None = None
    hot_pixels: HotPixels | None = None
    dead_pixels: DeadPixels | None = None
    bad_lines: BadLines | None = None
    odd_frames: OddFrames | None = None
    counts_per_electron_measured: CountsPerElectronMeasured | None = None
    camera_curves: CameraCurves | None = None
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
