"""The files of adopted results in an exposure's folder: as the steps concerned would have written them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from focusnb.errors import FormatError
from focusnb.io import files, relion
from focusnb.io.images import read_image, write_png
from focusnb.ops import preview
from focusnb.ops.motion.cubic import field_from_cubic
from focusnb.ops.motion.field import MotionField
from focusnb.ops.motion.trajectory import describe_motion
from focusnb.project.adopting.finished import Findings


def resolved(path: Path) -> Path:
    """The file itself, whatever links lead to it."""
    return Path(os.path.realpath(path))


def link(source: Path, target: Path, *, copy: bool, into: Path) -> None:
    """Put a link to a file, or a copy of it, in the place of what was there.

    into : the folder that messages name as where it is copied to
    """
    if resolved(source) == resolved(target.parent) / target.name:
        return  # it lies there itself
    if copy:
        files.copy_verified(source, target, into=into)
    else:
        target.unlink(missing_ok=True)
        target.symlink_to(resolved(source))


def write_motion(
    motion: relion.Motion, names: Mapping[str, str | None], folder: Path, *, picture: bool
) -> dict[str, Any]:
    """Write a trajectory's table, curves and picture; returns its numbers and the names of the files.

    names : of the files of ``motion``, ``motion_curves`` and ``trajectory_preview``

    Raises FormatError where the trajectory does not fit its movie.
    """
    first, shape, pixel_size = motion.start_frame - 1, motion.shape[1:], motion.pixel_size
    shifts = motion.shifts[first:] if len(motion.shifts) == motion.shape[0] else motion.shifts
    field = MotionField(shifts, shape)
    if motion.local_coefficients is not None:
        field = field_from_cubic(shifts, motion.local_coefficients, shape)
    used = np.isfinite(shifts).all(axis=1)
    field = MotionField(field.shifts[used], shape, None if field.local is None else field.local[used])
    table, curves = str(names["motion"]), str(names["motion_curves"])
    try:
        relion.write_motion(folder / table, **{**vars(motion), "shifts": shifts})
    except ValueError as error:
        raise FormatError(f"{motion.movie_name}: its motion is damaged ({error})") from error
    drawn: dict[str, Any] = {
        "pixel_size": pixel_size,
        "shape": list(shape),
        "shifts": np.round(field.shifts * pixel_size, 3).tolist(),
    }
    summary = describe_motion(field.shifts, pixel_size=pixel_size, dose_per_frame=motion.dose_per_frame, first=first)
    values = {**vars(summary), "motion": table, "motion_curves": curves}
    if field.local is not None:
        drawn["local"] = np.round(field.local * pixel_size, 3).tolist()
        values |= {"local_motion": "fitted", "local_motion_rms": field.local_rms() * pixel_size}
    files.write_json(folder / curves, drawn)
    if picture:
        values["trajectory_preview"] = str(names["trajectory_preview"])
        write_png(folder / values["trajectory_preview"], preview.trajectory_preview(field.shifts, pixel_size))
    return {name: value for name, value in values.items() if value is not None}


def draw_sum(findings: Findings, target: Path) -> bool:
    """Draw the sum of an exposure that starts from its movie, as the step that is not run would; False without one.

    Raises FormatError where the sum cannot be read.
    """
    source = findings.files.get("micrograph_dose_weighted") or findings.files.get("micrograph")
    pixel_size = findings.values.get("micrograph_pixel_size")
    if source is None or pixel_size is None:
        return False
    write_png(target, preview.micrograph_preview(read_image(source).data, pixel_size=pixel_size))
    return True
