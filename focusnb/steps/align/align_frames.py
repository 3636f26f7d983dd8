"""Align the frames of a movie, as a whole and from place to place, and sum them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from focusnb.errors import StepError
from focusnb.io import relion
from focusnb.io.mrc import write_mrc
from focusnb.ops import preview
from focusnb.ops.backend import to_numpy
from focusnb.ops.dose import Dose
from focusnb.ops.frames import CorrectedFrames
from focusnb.ops.motion.cubic import project_on_cubic
from focusnb.ops.motion.estimate import MotionEstimate, estimate_motion
from focusnb.ops.motion.field import MotionField
from focusnb.ops.motion.sums import Mode, Sums, aligned_stack, sum_frames
from focusnb.ops.motion.trajectory import describe_motion
from focusnb.quantities import (
    Defects,
    DosePerFrameUsed,
    EerGrid,
    EerGrouping,
    Frames,
    GainReference,
    MovieFile,
    MoviePixelSize,
    PixelSize,
    PriorDose,
    Voltage,
)
from focusnb.steps.align import AlignedFrames, choices
from focusnb.steps.base import Cost, Step, StepInputs, StepParams
from focusnb.steps.prepare import alignment_binning, device_memory
from focusnb.steps.work import Work


class _Written(NamedTuple):
    """Frames thrown away before the first used one, Å lost in RELION's file, and the file of aligned frames."""

    first: int
    lost: float | None
    stack: str | None


class AlignFrames(Step):
    """Find how the specimen moved from frame to frame and from place to place, and sum the frames in register.

    Each frame is aligned to the sum of the others, in patches that are fitted by one smooth model; the trajectory is
    smooth in time but free to jump. Local motion that does not explain data it has not seen is rejected. Results are
    the mean of the aligned frames and, where the dose is known, the dose-weighted sum (Grant & Grigorieff 2015).
    """

    name = "align_frames"
    title = "Align the frames"
    version = "3"
    category = "align"
    gpu = "uses"

    class Inputs(StepInputs):
        """The corrected frames, and the dose they received."""

        frames: Frames
        movie: MovieFile
        pixel_size: PixelSize
        movie_pixel_size: MoviePixelSize | None = None
        eer_grid: EerGrid | None = None
        eer_grouping: EerGrouping | None = None
        voltage: Voltage | None = None
        dose_per_frame_used: DosePerFrameUsed | None = None
        prior_dose: PriorDose = 0.0
        gain_reference: GainReference | None = None
        defects: Defects | None = None

    class Params(StepParams):
        """How frames are aligned and summed."""

        correct_locally: choices.CorrectLocally = True
        patches: choices.Patches | None = None
        b_factor: choices.BFactor | None = None
        first_frame: choices.FirstFrame = 1
        last_frame: choices.LastFrame | None = None
        frame_group: choices.FrameGroup | None = None
        reference_frame: choices.ReferenceFrame | None = None
        dose_weighting: choices.DoseWeighting = True
        critical_dose_factor: choices.CriticalDoseFactor | None = None
        target_pixel_size: choices.TargetPixelSize | None = None
        halves: choices.Halves = False
        save_aligned: choices.SaveAligned = False
        exact_sums: choices.ExactSums = False

    Results = AlignedFrames

    def cost(self, facts: Mapping[str, Any], params: Any) -> Cost:
        """The movie as integers, its spectra for the alignment, and full-size sums."""
        pixels = int(facts.get("width") or 4096) * int(facts.get("height") or 4096)
        frames = int(facts.get("frame_count") or 50)
        extra = 80 if params.halves else 50
        # a stack and its copy while it is written; a grid twice as fine on which frames are bent
        extra += 8 * frames * params.save_aligned + 64 * params.exact_sums
        binned = 6.0 * frames / alignment_binning(facts) ** 2
        memory = 300_000_000 + int(pixels * (frames + binned + extra))
        return Cost(memory=memory, gpu_memory=device_memory(facts, frames, pixels))

    def run(self, inputs: Inputs, params: Params, work: Work) -> AlignedFrames:
        """Estimate the motion, sum, describe."""
        name, pixel_size = Path(inputs.movie).name, inputs.movie_pixel_size or inputs.pixel_size
        target = choices.check_target(name, pixel_size, params.target_pixel_size)
        mode: Mode = "exact" if params.exact_sums else "fused"
        try:
            frames, first = _used(work["frames"], params)
            skipped = first * (inputs.dose_per_frame_used or 0.0)
            dose = self._dose(inputs, params, inputs.prior_dose + skipped)
            work.report(f"Aligning {len(frames)} frames", 0.0)
            estimate = estimate_motion(
                frames,
                pixel_size=pixel_size,
                dose=None if dose is None else _within_known_voltages(dose),
                local=params.correct_locally,
                patches=_patches(params, frames),
                group=params.frame_group,
                b_factor=params.b_factor,
            )
            work.report(_told(estimate, pixel_size), 0.5)
            shown_as = 0 if params.reference_frame is None else params.reference_frame - 1 - first
            if not 0 <= shown_as < len(frames):
                raise ValueError(f"the reference frame {params.reference_frame} is not among the frames used")
            field = estimate.field.seen_from(shown_as)
            if dose is None and params.dose_weighting:
                missing = "voltage" if inputs.voltage is None else "dose"
                work.report(f"No dose weighting: the {missing} is not known")
            sums = sum_frames(
                frames,
                field,
                pixel_size=pixel_size,
                target_pixel_size=target,
                dose=dose if params.dose_weighting else None,
                halves=params.halves,
                mode=mode,
            )
        except ValueError as error:
            raise StepError(f"{name}: {error}") from error
        if not estimate.converged and np.isfinite(estimate.uncertainty):
            work.report(f"The alignment still changed after {estimate.iterations} iterations")
        stack = None
        if params.save_aligned:
            write_mrc(
                work.path("aligned_frames"),
                np.stack([to_numpy(frame) for frame in aligned_stack(frames, field, mode=mode)]),
                pixel_size=pixel_size,
            )
            stack = work.made("aligned_frames")
        lost = self._write_motion(inputs, work["frames"].shape, estimate.field, first, (pixel_size, sums), work)
        return self._results(inputs, estimate, sums, pixel_size, _Written(first, lost, stack), work)

    def _results(
        self,
        inputs: Inputs,
        estimate: MotionEstimate,
        sums: Sums,
        pixel_size: float,
        written: _Written,
        work: Work,
    ) -> AlignedFrames:
        summary = describe_motion(
            estimate.field.shifts,
            pixel_size=pixel_size,
            dose_per_frame=inputs.dose_per_frame_used,
            first=written.first,
        )
        work.report(f"Moved {summary.motion_total:.1f} Å in all", 0.9)

        def kept(name: str, values: Any) -> str | None:
            return None if values is None else work.save(name, values, pixel_size=sums.pixel_size)

        shown = sums.dose_weighted if sums.dose_weighted is not None else sums.unweighted
        known = np.isfinite(estimate.uncertainty)
        return AlignedFrames(
            micrograph=kept("micrograph", sums.unweighted),
            micrograph_dose_weighted=kept("micrograph_dose_weighted", sums.dose_weighted),
            micrograph_even=kept("micrograph_even", sums.even if sums.even_weighted is None else sums.even_weighted),
            micrograph_odd=kept("micrograph_odd", sums.odd if sums.odd_weighted is None else sums.odd_weighted),
            aligned_frames=written.stack,
            micrograph_pixel_size=sums.pixel_size,
            motion=work.made("motion"),
            motion_curves=work.save("motion_curves", _curves(estimate, pixel_size)),
            drift=summary.drift,
            motion_total=summary.motion_total,
            motion_early=summary.motion_early,
            motion_late=summary.motion_late,
            max_step=summary.max_step,
            deceleration=summary.deceleration,
            jitter=summary.jitter,
            local_motion=estimate.local,
            local_motion_rms=estimate.field.local_rms() * pixel_size,
            local_motion_loss=written.lost,
            patches_dropped=None if estimate.tracks is None else int(estimate.tracks.dropped.sum()),
            alignment_uncertainty=estimate.uncertainty * pixel_size if known else None,
            frc_resolution=sums.frc_resolution,
            micrograph_preview=work.save(
                "micrograph_preview", preview.micrograph_preview(shown, pixel_size=sums.pixel_size)
            ),
            trajectory_preview=work.save(
                "trajectory_preview", preview.trajectory_preview(estimate.field.shifts, pixel_size)
            ),
        )

    @staticmethod
    def _dose(inputs: Inputs, params: Params, prior: float) -> Dose | None:
        """The dose of the frames used; None where it, or what it does at this voltage, is not known."""
        if inputs.dose_per_frame_used is None or inputs.voltage is None:
            return None
        return Dose(
            per_frame=inputs.dose_per_frame_used,
            prior=prior,
            voltage=inputs.voltage,
            factor=params.critical_dose_factor,
        )

    @staticmethod
    def _write_motion(
        inputs: Inputs,
        shape: tuple[int, int, int],
        field: MotionField,
        first: int,
        sizes: tuple[float, Sums],
        work: Work,
    ) -> float | None:
        """Write RELION's file of the motion; returns what its local model loses, in Å, None without local motion."""
        pixel_size, sums = sizes
        shifts, coefficients, lost = field.shifts, None, None
        if field.local is not None:
            shifts, coefficients, lost = project_on_cubic(field)
        relion.write_motion(
            work.path("motion"),
            movie_name=_within(inputs.movie, work),
            shape=shape,
            shifts=shifts,
            pixel_size=pixel_size,
            dose_per_frame=inputs.dose_per_frame_used,
            prior_dose=inputs.prior_dose,
            voltage=inputs.voltage,
            gain_name=_within(inputs.gain_reference, work),
            defect_name=_within(inputs.defects, work),
            binning=sums.pixel_size / pixel_size,
            start_frame=first + 1,
            local_coefficients=coefficients,
            eer_upsampling=inputs.eer_grid,
            eer_grouping=inputs.eer_grouping,
        )
        return None if lost is None else lost * pixel_size


def _used(frames: CorrectedFrames, params: AlignFrames.Params) -> tuple[CorrectedFrames, int]:
    """The frames to use, and how many before them are thrown away."""
    first, last = params.first_frame - 1, min(params.last_frame or len(frames), len(frames))
    if not first < last:
        raise ValueError(
            f"it has {len(frames)} frames and those from {first + 1} to {last} are to be used; set first_frame and "
            "last_frame within the movie"
        )
    return frames.between(first, last), first


def _within_known_voltages(dose: Dose) -> Dose:
    """The dose as the alignment weighs frames by it: beyond 100-300 kV damage is taken as at the nearest of them."""
    return replace(dose, voltage=min(max(dose.voltage, 100.0), 300.0))


def _patches(params: AlignFrames.Params, frames: CorrectedFrames) -> tuple[int, int] | None:
    """Patches along y and x, as many along the shorter side as asked for, in proportion along the other."""
    if params.patches is None:
        return None
    shorter = min(frames.shape[1:])
    ny, nx = (max(params.patches, round(params.patches * side / shorter)) for side in frames.shape[1:])
    return ny, nx


def _told(estimate: MotionEstimate, pixel_size: float) -> str:
    if np.isinf(estimate.uncertainty):
        return (
            "The frames have no more in common than noise, agree in several places, or agree hardly better when moved: "
            "they are added as they are"
        )
    if estimate.local == "rejected":
        return "Local motion explains nothing that whole-frame motion does not: it is left out"
    if estimate.local == "off":
        return "The field is aligned as a whole"
    return f"Places move by {estimate.field.local_rms() * pixel_size:.2f} Å beside the whole frame"


def _curves(estimate: MotionEstimate, pixel_size: float) -> dict[str, Any]:
    """Trajectory, local model and patches as plots need them; shifts to apply, in Å, y before x."""
    field, tracks = estimate.field, estimate.tracks
    curves: dict[str, Any] = {
        "pixel_size": pixel_size,
        "shape": list(field.shape),
        "shifts": np.round(field.shifts * pixel_size, 3),
    }
    if field.local is not None:
        curves["local"] = np.round(field.local * pixel_size, 3)
    if tracks is not None:
        curves |= {
            "patch_centres": np.round(tracks.centres, 1),
            "patch_frames": tracks.frames,
            "patch_shifts": np.round(tracks.measured * pixel_size, 2),
            "patch_weights": np.round(tracks.weights, 3),
            "patch_dropped": tracks.dropped.astype(int),
        }
    return curves


def _within(path: str | None, work: Work) -> str:
    """A path relative to the project, from where RELION is started; a file elsewhere keeps its whole path."""
    if path is None:
        return ""
    project = work.exposure_folder.parents[2] if len(work.exposure_folder.parents) > 2 else work.exposure_folder
    return str(Path(path).relative_to(project)) if Path(path).is_relative_to(project) else path
