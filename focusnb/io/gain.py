"""Gain references: the factors by which raw counts are multiplied."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from focusnb.errors import FormatError
from focusnb.io.movies import open_movie


def read_gain(path: str | os.PathLike[str], *, frame_shape: tuple[int, int] | None = None) -> npt.NDArray[np.float32]:
    """Read a gain reference as (y, x) float32, to be multiplied with frames; 0 marks a bad pixel.

    MRC is used in file order, TIFF and Digital Micrograph are flipped vertically as frames are, and ``.gain`` (a TIFF
    beside EER) is used in file order as EER frames are (SCIENCE §1).

    frame_shape : (y, x) of the frames; the gain's size must be theirs in one of its two orientations

    Raises FormatError for values that are not finite or negative, a gain of zeros, and a wrong size.
    """
    with open_movie(path) as movie:
        if movie.shape[0] != 1:
            raise FormatError(f"{path}: holds {movie.shape[0]} frames, a gain reference has 1; is it a movie?")
        if frame_shape is not None:
            _check_shape(path, movie.shape[1:], frame_shape)
        gain = np.empty(movie.shape[1:], np.float32)
        movie.read_frame(0, gain)
    finite = np.isfinite(gain)
    if not finite.all():
        y, x = np.argwhere(~finite)[0]
        raise FormatError(
            f"{path}: {gain.size - int(np.count_nonzero(finite))} of {gain.size} gain values are not numbers "
            f"(the first at x {x}, y {y}); make the gain reference again"
        )
    lowest, highest = float(gain.min()), float(gain.max())
    if lowest < 0:
        raise FormatError(
            f"{path}: {int(np.count_nonzero(gain < 0))} of {gain.size} gain values are negative (lowest {lowest:g}); "
            "is it a dark reference?"
        )
    if highest == 0:
        raise FormatError(f"{path}: all {gain.size} gain values are 0; make the gain reference again")
    return gain


def _check_shape(path: str | os.PathLike[str], shape: tuple[int, int], frame_shape: tuple[int, int]) -> None:
    if shape in (tuple(frame_shape), tuple(frame_shape)[::-1]):
        return
    larger, smaller = sorted((sorted(shape), sorted(frame_shape)), reverse=True)
    said = f"{path}: gain has {shape[1]}×{shape[0]} pixels, the frames have {frame_shape[1]}×{frame_shape[0]}"
    if larger == [2 * side for side in smaller]:
        which = "gain" if larger == sorted(shape) else "movie"
        raise FormatError(
            f"{said}: the {which} is super-resolution (2 times finer) and the other is not; give the gain of the "
            "recording mode, or bin one of them"
        )
    raise FormatError(f"{said}; give the gain of this camera and recording mode")
