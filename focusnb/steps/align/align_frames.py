"""Align the frames of a movie as wholes and sum them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from focusnb.errors import StepError
from focusnb.io import relion
from focusnb.ops import preview
from focusnb.ops.dose import Dose
from focusnb.ops.frames import CorrectedFrames
from focusnb.ops.motion.align import estimate_shifts
from focusnb.ops.motion.sums import sum_frames
from focusnb.ops.motion.trajectory import describe_motion
from focusnb.parameters import quantity
from focusnb.quantities import (
    Defects,
    DosePerFrameUsed,
    Frames,
    GainReference,
    MovieFile,
    PixelSize,
    PriorDose,
    Voltage,
)
from focusnb.steps.align import AlignedFrames
from focusnb.steps.base import Cost, Step, StepInputs, StepParams
from focusnb.steps.work import Work

DoseWeighting = Annotated[
    bool,
    quantity(
        "Dose weighting", group="Sums", help="Also sum with each frame filtered by the damage it had (Grant 2015)."
    ),
]
TargetPixelSize = Annotated[
    float,
    quantity(
        "Target pixel size",
        unit="Å/px",
        group="Sums",
        gt=0,
        precision=4,
        help="Crop the sums in Fourier space to this pixel size; empty keeps that of the movie.",
    ),
]
CriticalDoseFactor = Annotated[
    float,
    quantity(
        "Critical dose factor",
        unit="",
        group="Sums",
        gt=0,
        precision=2,
        advanced=True,
        help="Dose a specimen bears, relative to 300 kV; empty takes that of voltages from 100 to 300 kV.",
    ),
]
BFactor = Annotated[
    float,
    quantity(
        "B-factor",
        unit="Å²",
        group="Alignment",
        ge=0,
        precision=0,
        advanced=True,
        help="How much high frequencies count less in the alignment; empty chooses by the movie.",
    ),
]


class AlignFrames(Step):
    """Find how the specimen moved from frame to frame, and sum the frames in register.

    Each frame is aligned to the sum of the others; the trajectory is smooth in time but free to jump. Results are the
    mean of the aligned frames and, where the dose is known, the dose-weighted sum (Grant & Grigorieff 2015).
    """

    name = "align_frames"
    title = "Align the frames"
    version = "1"
    category = "align"
    gpu = "uses"

    class Inputs(StepInputs):
        """The corrected frames, and the dose they received."""

        frames: Frames
        movie: MovieFile
        pixel_size: PixelSize
        voltage: Voltage | None = None
        dose_per_frame_used: DosePerFrameUsed | None = None
        prior_dose: PriorDose = 0.0
        gain_reference: GainReference | None = None
        defects: Defects | None = None

    class Params(StepParams):
        """How frames are aligned and summed."""

        dose_weighting: DoseWeighting = True
        critical_dose_factor: CriticalDoseFactor | None = None
        target_pixel_size: TargetPixelSize | None = None
        b_factor: BFactor | None = None

    Results = AlignedFrames

    def cost(self, facts: Mapping[str, Any], params: Any) -> Cost:
        """The movie as integers, its spectra for the alignment, and full-size sums."""
        pixels = int(facts.get("width") or 4096) * int(facts.get("height") or 4096)
        frames = int(facts.get("frame_count") or 50)
        return Cost(memory=300_000_000 + pixels * (frames + frames // 2 + 60))

    def run(self, inputs: Inputs, params: Params, work: Work) -> AlignedFrames:
        """Estimate the shifts, sum, describe."""
        frames: CorrectedFrames = work["frames"]
        name = Path(inputs.movie).name
        work.report(f"Aligning {len(frames)} frames", 0.0)
        try:
            alignment = estimate_shifts(frames, pixel_size=inputs.pixel_size, b_factor=params.b_factor)
        except ValueError as error:
            raise StepError(f"{name}: {error}") from error
        shifts = np.asarray(alignment.shifts, dtype=np.float64)
        if not np.isfinite(shifts).all():
            raise StepError(f"{name}: no shifts were found for {len(frames)} frames; look at image_before.png")
        work.report("Summing", 0.5)
        dose = self._dose(inputs, params, work)
        try:
            sums = sum_frames(
                frames,
                shifts,
                pixel_size=inputs.pixel_size,
                target_pixel_size=params.target_pixel_size,
                dose=dose,
            )
        except ValueError as error:
            raise StepError(f"{name}: {error}") from error
        summary = describe_motion(shifts, pixel_size=inputs.pixel_size, dose_per_frame=inputs.dose_per_frame_used)
        self._write_motion(inputs, frames, shifts, sums.pixel_size, work)
        work.report(f"Moved {summary.motion_total:.1f} Å in all", 0.9)
        weighted = None
        if sums.dose_weighted is not None:
            weighted = work.save("micrograph_dose_weighted", sums.dose_weighted, pixel_size=sums.pixel_size)
        shown = sums.dose_weighted if sums.dose_weighted is not None else sums.unweighted
        return AlignedFrames(
            micrograph=work.save("micrograph", sums.unweighted, pixel_size=sums.pixel_size),
            micrograph_dose_weighted=weighted,
            micrograph_pixel_size=sums.pixel_size,
            motion=work.made("motion"),
            drift=summary.drift,
            motion_total=summary.motion_total,
            motion_early=summary.motion_early,
            motion_late=summary.motion_late,
            max_step=summary.max_step,
            deceleration=summary.deceleration,
            jitter=summary.jitter,
            micrograph_preview=work.save(
                "micrograph_preview", preview.micrograph_preview(shown, pixel_size=sums.pixel_size)
            ),
            trajectory_preview=work.save("trajectory_preview", preview.trajectory_preview(shifts, inputs.pixel_size)),
        )

    @staticmethod
    def _dose(inputs: Inputs, params: Params, work: Work) -> Dose | None:
        if not params.dose_weighting:
            return None
        missing = "voltage" if inputs.voltage is None else "dose" if inputs.dose_per_frame_used is None else None
        if missing or inputs.voltage is None or inputs.dose_per_frame_used is None:
            work.report(f"No dose weighting: the {missing} is not known")
            return None
        return Dose(
            per_frame=inputs.dose_per_frame_used,
            prior=inputs.prior_dose,
            voltage=inputs.voltage,
            factor=params.critical_dose_factor,
        )

    @staticmethod
    def _write_motion(
        inputs: Inputs, frames: CorrectedFrames, shifts: np.ndarray, pixel_size: float, work: Work
    ) -> None:
        relion.write_motion(
            work.path("motion"),
            movie_name=_within(inputs.movie, work),
            shape=frames.shape,
            shifts=shifts,
            pixel_size=inputs.pixel_size,
            dose_per_frame=inputs.dose_per_frame_used,
            prior_dose=inputs.prior_dose,
            voltage=inputs.voltage,
            gain_name=_within(inputs.gain_reference, work),
            defect_name=_within(inputs.defects, work),
            binning=pixel_size / inputs.pixel_size,
        )


def _within(path: str | None, work: Work) -> str:
    """A path relative to the project, from where RELION is started; a file elsewhere keeps its whole path."""
    if path is None:
        return ""
    project = work.exposure_folder.parents[2] if len(work.exposure_folder.parents) > 2 else work.exposure_folder
    return str(Path(path).relative_to(project)) if Path(path).is_relative_to(project) else path
