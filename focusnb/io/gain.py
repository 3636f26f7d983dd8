"""Gain references: the factors by which raw counts are multiplied."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from focusnb.errors import FormatError
from focusnb.io.movies import open_movie

Gain = npt.NDArray[np.float32]


def read_gain(
    path: str | os.PathLike[str], *, frame_shape: tuple[int, int] | None = None, of_eer: bool = False
) -> Gain:
    """Read a gain reference as (y, x) float32, to be multiplied with frames; 0 marks a bad pixel.

    MRC is used in file order, TIFF and Digital Micrograph are flipped vertically as frames are, and ``.gain`` (a TIFF
    beside EER) is used in file order as EER frames are (SCIENCE §1).

    frame_shape : (y, x) of the frames; the gain's size must be theirs in one of its two orientations
    of_eer : whether the frames are of an EER movie. Then a gain of 2 times more or fewer pixels along both axes is
        brought to the frames (means of 2×2, in which one bad pixel makes a bad one, or each pixel four times), and what
        is not a ``.gain`` file is the camera's response: the gain is its mean over its value, as RELION takes it.

    Raises FormatError for values that are not finite or negative, a gain of zeros, and a wrong size.
    """
    with open_movie(path) as movie:
        if movie.shape[0] != 1:
            raise FormatError(f"{path}: holds {movie.shape[0]} frames, a gain reference has 1; is it a movie?")
        if frame_shape is not None:
            _check_shape(path, movie.shape[1:], frame_shape, scaled=of_eer)
        gain = np.empty(movie.shape[1:], np.float32)
        movie.read_frame(0, gain)
    _check_values(path, gain)
    if not of_eer:
        return gain
    if frame_shape is not None:
        gain = _to_grid(gain, max(frame_shape))
    return gain if Path(path).suffix.lower() == ".gain" else _reciprocal(gain)


def _check_values(path: str | os.PathLike[str], gain: Gain) -> None:
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


def _check_shape(
    path: str | os.PathLike[str], shape: tuple[int, int], frame_shape: tuple[int, int], *, scaled: bool
) -> None:
    if shape in (tuple(frame_shape), tuple(frame_shape)[::-1]):
        return
    larger, smaller = sorted((sorted(shape), sorted(frame_shape)), reverse=True)
    said = f"{path}: gain has {shape[1]}×{shape[0]} pixels, the frames have {frame_shape[1]}×{frame_shape[0]}"
    if larger == [2 * side for side in smaller]:
        if scaled:
            return
        which = "gain" if larger == sorted(shape) else "movie"
        raise FormatError(
            f"{said}: the {which} is super-resolution (2 times finer) and the other is not; give the gain of the "
            "recording mode, or bin one of them"
        )
    raise FormatError(f"{said}; give the gain of this camera and recording mode")


def _to_grid(gain: Gain, longest: int) -> Gain:
    """Bring a gain to 2 times more or fewer pixels where its longer side has not ``longest`` of them."""
    if max(gain.shape) == 2 * longest:
        blocks = gain.reshape(gain.shape[0] // 2, 2, gain.shape[1] // 2, 2)
        means: Gain = blocks.mean(axis=(1, 3))
        means[(blocks == 0).any(axis=(1, 3))] = 0
        return means
    if 2 * max(gain.shape) == longest:
        return gain.repeat(2, axis=0).repeat(2, axis=1)
    return gain


def _reciprocal(response: Gain) -> Gain:
    good = response > 0
    mean = np.float32(response.mean(where=good, dtype=np.float64))
    gain: Gain = np.divide(mean, response, out=np.zeros_like(response), where=good)
    return gain
