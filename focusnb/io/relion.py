"""RELION's per-movie STAR: where the frames were shifted to, the local motion, the hot pixels.

RELION writes shifts in the order x, y, in pixels of the unbinned movie, as shifts to apply, with the first used frame
at 0; a frame that was not used is -9999. Read from its documentation and its files.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from focusnb.errors import FormatError
from focusnb.io import star

_MISSING = -9999.0
COEFFICIENTS = 36


@dataclass(frozen=True)
class Motion:
    """The motion of a movie.

    shape : (t, y, x) of the movie as recorded
    shifts : (t, 2) of dy, dx in pixels of the movie, to be applied; NaN where a frame was not used
    pixel_size : Å/px of the movie; dose_per_frame and prior_dose in e⁻/Å², voltage in kV; None where it is not known
    start_frame : the first used frame, counted from 1
    local_coefficients : RELION's 36 numbers, 18 for x and 18 for y, each three powers of time for 1, x, x², y, y², xy
    hot_pixels : (n, 2) of y, x
    eer_upsampling, eer_grouping : grid of an EER movie over that of the detector, and hardware frames in a frame
    """

    movie_name: str
    shape: tuple[int, int, int]
    shifts: npt.NDArray[np.float64]
    pixel_size: float
    dose_per_frame: float | None
    prior_dose: float
    voltage: float | None
    gain_name: str = ""
    defect_name: str = ""
    binning: float = 1.0
    start_frame: int = 1
    local_coefficients: npt.NDArray[np.float64] | None = None
    hot_pixels: npt.NDArray[np.float64] | None = None
    eer_upsampling: int | None = None
    eer_grouping: int | None = None


def write_motion(
    path: str | os.PathLike[str],
    *,
    movie_name: str,
    shape: tuple[int, int, int],
    shifts: npt.ArrayLike,
    pixel_size: float,
    dose_per_frame: float | None,
    prior_dose: float,
    voltage: float | None,
    gain_name: str = "",
    defect_name: str = "",
    binning: float = 1.0,
    start_frame: int = 1,
    local_coefficients: npt.ArrayLike | None = None,
    hot_pixels: npt.ArrayLike | None = None,
    eer_upsampling: int | None = None,
    eer_grouping: int | None = None,
    comment: str = "",
) -> None:
    """Write the motion of a movie in RELION's format, atomically; the arguments are the fields of :class:`Motion`.

    shifts : (t, 2) or (used frames, 2) of dy, dx to be applied; re-zeroed on the first used frame
    comment : one line at the top of the file

    Raises ValueError where the number of shifts or coefficients does not fit.
    """
    import pandas

    count, height, width = shape
    moved = np.asarray(shifts, np.float64).reshape(-1, 2)
    first = start_frame - 1
    if len(moved) == count:
        moved = moved[first:]
    if not 0 <= first < count or not len(moved) or len(moved) > count - first:
        raise ValueError(f"{path}: {len(moved)} shifts do not fit {count} frames used from frame {start_frame}")
    if not np.isfinite(moved[0]).all():
        raise ValueError(f"{path}: the first used frame, {start_frame}, has no shift")
    moved = np.where(np.isfinite(moved), moved - moved[0], _MISSING)
    general: dict[str, Any] = {
        "rlnImageSizeX": width,
        "rlnImageSizeY": height,
        "rlnImageSizeZ": count,
        "rlnMicrographMovieName": movie_name,
        "rlnMicrographGainName": gain_name or None,
        "rlnMicrographDefectFile": defect_name or None,
        "rlnMicrographBinning": f"{binning:.6f}",
        "rlnMicrographOriginalPixelSize": f"{pixel_size:.6f}",
        "rlnMicrographDoseRate": None if dose_per_frame is None else f"{dose_per_frame:.6f}",
        "rlnMicrographPreExposure": f"{prior_dose:.6f}",
        "rlnVoltage": None if voltage is None else f"{voltage:.6f}",
        "rlnMicrographStartFrame": start_frame,
        "rlnEERUpsampling": eer_upsampling,
        "rlnEERGrouping": eer_grouping,
        "rlnMotionModelVersion": 0 if local_coefficients is None else 1,
    }
    blocks: dict[str, Any] = {
        "general": {name: value for name, value in general.items() if value is not None},
        "global_shift": pandas.DataFrame(
            {
                "rlnMicrographFrameNumber": np.arange(start_frame, start_frame + len(moved)),
                "rlnMicrographShiftX": moved[:, 1],
                "rlnMicrographShiftY": moved[:, 0],
            }
        ),
    }
    if local_coefficients is not None:
        coefficients = np.asarray(local_coefficients, np.float64).ravel()
        if len(coefficients) != COEFFICIENTS:
            raise ValueError(f"{path}: {len(coefficients)} coefficients of local motion, there are {COEFFICIENTS}")
        blocks["local_motion_model"] = pandas.DataFrame(
            {"rlnMotionModelCoeffsIdx": np.arange(COEFFICIENTS), "rlnMotionModelCoeff": coefficients}
        )
    if hot_pixels is not None and len(places := np.asarray(hot_pixels, np.float64).reshape(-1, 2)):
        blocks["hot_pixels"] = pandas.DataFrame({"rlnCoordinateX": places[:, 1], "rlnCoordinateY": places[:, 0]})
    star.write(path, blocks, comment=comment)


def read_motion(path: str | os.PathLike[str]) -> Motion:
    """Read a per-movie STAR of RELION or focusnb. Raises FormatError where blocks or labels are missing."""
    blocks = star.read(path)
    general = blocks.get("general")
    if not isinstance(general, dict):
        raise FormatError(f"{path}: has no list data_general; is it the STAR of one movie?")

    def number(name: str, default: float | None = None) -> float:
        value = general.get(name, default)
        if value is None or isinstance(value, str) or not math.isfinite(value):
            raise FormatError(f"{path}: data_general has {value!r} for {name}; a number is needed")
        return float(value)

    shape = (int(number("rlnImageSizeZ")), int(number("rlnImageSizeY")), int(number("rlnImageSizeX")))
    frames, dx, dy = _columns(
        path, blocks, "global_shift", "rlnMicrographFrameNumber", "rlnMicrographShiftX", "rlnMicrographShiftY"
    )
    if not len(frames) or frames.min() < 1 or frames.max() > shape[0]:
        raise FormatError(f"{path}: has {len(frames)} shifts whose frame numbers are not within 1 to {shape[0]}")
    shifts = np.full((shape[0], 2), np.nan)
    shifts[frames.astype(int) - 1] = np.stack((dy, dx), axis=1)
    shifts[np.any(shifts <= _MISSING, axis=1)] = np.nan
    coefficients = places = None
    if number("rlnMotionModelVersion", 0) == 1 and "local_motion_model" in blocks:
        index, values = _columns(path, blocks, "local_motion_model", "rlnMotionModelCoeffsIdx", "rlnMotionModelCoeff")
        if sorted(index) != list(range(COEFFICIENTS)):
            raise FormatError(f"{path}: has {len(index)} coefficients of local motion, {COEFFICIENTS} are needed")
        coefficients = values[np.argsort(index)]
    if "hot_pixels" in blocks:
        x, y = _columns(path, blocks, "hot_pixels", "rlnCoordinateX", "rlnCoordinateY")
        places = np.stack((y, x), axis=1)
    return Motion(
        movie_name=str(general.get("rlnMicrographMovieName", "")),
        shape=shape,
        shifts=shifts,
        pixel_size=number("rlnMicrographOriginalPixelSize"),
        dose_per_frame=number("rlnMicrographDoseRate") if "rlnMicrographDoseRate" in general else None,
        prior_dose=number("rlnMicrographPreExposure", 0.0),
        voltage=number("rlnVoltage") if "rlnVoltage" in general else None,
        gain_name=str(general.get("rlnMicrographGainName", "")),
        defect_name=str(general.get("rlnMicrographDefectFile", "")),
        binning=number("rlnMicrographBinning", 1.0),
        start_frame=int(number("rlnMicrographStartFrame", 1)),
        local_coefficients=coefficients,
        hot_pixels=places,
        eer_upsampling=int(number("rlnEERUpsampling")) if "rlnEERUpsampling" in general else None,
        eer_grouping=int(number("rlnEERGrouping")) if "rlnEERGrouping" in general else None,
    )


def _columns(
    path: str | os.PathLike[str], blocks: dict[str, Any], block: str, *names: str
) -> tuple[npt.NDArray[np.float64], ...]:
    table = blocks.get(block)
    columns = getattr(table, "columns", ())
    missing = [name for name in names if name not in columns]
    if table is None or missing:
        raise FormatError(f"{path}: data_{block} lacks {', '.join(missing or names)}; is the file complete?")
    try:
        return tuple(np.asarray(table[name], np.float64) for name in names)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{path}: data_{block} holds words where numbers belong ({error})") from error
