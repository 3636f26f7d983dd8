"""Sum aligned frames: plain and weighted by dose, by shifting each frame in Fourier space (the exact path)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from focusnb.compiled import compiled
from focusnb.ops.backend import Array, array_namespace, fft_namespace, to_numpy
from focusnb.ops.dose import Dose, dose_weights
from focusnb.ops.fourier import (
    Resize,
    inverse_to_plan,
    plan_resize,
    resize_spectrum,
    ring_correlation,
    shift_phases,
)
from focusnb.ops.frames import CorrectedFrames

TABLE = 16384  # entries of the tables of weights over frequency squared


@dataclass(frozen=True)
class Sums:
    """Aligned sums of a movie, (y, x) float32 in counts per pixel and frame.

    unweighted : plain mean over frames
    dose_weighted : None without a dose
    even, odd : means over the frames 0, 2, ... and 1, 3, ..., where asked for
    pixel_size : Å/px of all of them
    """

    unweighted: Array
    dose_weighted: Array | None
    even: Array | None
    odd: Array | None
    pixel_size: float


def sum_frames(
    frames: CorrectedFrames,
    shifts: ArrayLike,
    *,
    pixel_size: float,
    target_pixel_size: float | None = None,
    dose: Dose | None = None,
    halves: bool = False,
) -> Sums:
    """Sum the frames of a movie after moving each by its shift.

    shifts : (t, 2) (dy, dx) to apply, pixels of the movie; what leaves at one edge comes back at the other
    pixel_size : Å/px of the movie
    target_pixel_size : Å/px of the sums, reached within 1e-4 by cropping in Fourier space; None keeps that of the movie
    dose : gives the dose-weighted sum: each frame times exp(-N / (2 N_c)), the sum divided by the root of the sum of
        squared weights (Grant & Grigorieff 2015) and by the root of the number of frames, so that the mean is that of
        the unweighted sum and, without damage, all of it
    halves : also the means over even and odd frames
    Raises ValueError when there is not one shift for each frame.
    """
    moves = np.asarray(shifts, float)
    if moves.shape != (len(frames), 2):
        raise ValueError(f"{len(frames)} frames need as many shifts (dy, dx); got an array of {moves.shape}")
    xp, fft = array_namespace(frames.raw), fft_namespace(frames.raw)
    factor = 1.0 if target_pixel_size is None else target_pixel_size / pixel_size
    plan = plan_resize(frames.shape[1:], factor)
    half_shape = (plan.resized[0], plan.resized[1] // 2 + 1)
    parts = [xp.zeros(half_shape, dtype=xp.complex64) for _ in range(2 if halves else 1)]
    weighted = None if dose is None else xp.zeros(half_shape, dtype=xp.complex64)
    weights = None if dose is None else _WeightTable(plan, pixel_size, dose, len(frames), xp)
    room = None
    for t in range(len(frames)):
        room = frames.padded(t, plan.padded, room)
        spectrum = fft.rfft2(room)
        spectrum = resize_spectrum(spectrum, plan.padded, plan.resized)
        # the shift is that many pixels of the padded frame, so a smaller number of the resized one
        scale = np.array(plan.resized) / np.array(plan.padded)
        phases = (
            shift_phases(plan.resized[0], moves[t, 0] * scale[0], half=False, xp=xp),
            shift_phases(plan.resized[1], moves[t, 1] * scale[1], half=True, xp=xp),
        )
        add_shifted(spectrum, phases, parts[t % len(parts)], weighted, None if weights is None else weights.row(t))
    means = [inverse_to_plan(part, plan) for part in parts]
    counts = [len(range(start, len(frames), len(parts))) for start in range(len(parts))]
    return Sums(
        unweighted=sum(means[1:], start=means[0]) / len(frames),
        dose_weighted=None if weights is None else inverse_to_plan(weights.normalise(weighted), plan),
        even=means[0] / counts[0] if halves else None,
        odd=means[1] / max(counts[1], 1) if halves else None,
        pixel_size=pixel_size * plan.factor,
    )


class _WeightTable:
    """Weights of all frames over the squared frequency, as tables; the frequencies of a resized spectrum."""

    def __init__(self, plan: Resize, pixel_size: float, dose: Dose, frames: int, xp: Any) -> None:
        size = [n * pixel_size for n in plan.padded]
        y = np.fft.fftfreq(plan.resized[0], 1.0 / plan.resized[0]) / size[0]
        x = np.arange(plan.resized[1] // 2 + 1) / size[1]
        largest = (y**2).max() + (x**2).max()
        self.step = largest / (TABLE - 2)
        self.y_squared = xp.asarray((y**2 / self.step).astype(np.float32))
        self.x_squared = xp.asarray((x**2 / self.step).astype(np.float32))
        # entry i holds the middle of its interval
        frequency = np.sqrt((np.arange(TABLE) + 0.5) * self.step)
        table = dose_weights(frequency, dose, frames)
        norm = math.sqrt(frames) * np.sqrt((table**2).sum(axis=0))
        self.table = xp.asarray(table.astype(np.float32))
        self.norm = xp.asarray((1.0 / np.maximum(norm, 1e-30)).astype(np.float32))
        self.frames = frames

    def row(self, frame: int) -> tuple[Array, Array, Array]:
        """Return the table of one frame and the squared frequencies, in entries, of rows and columns."""
        return self.table[frame], self.y_squared, self.x_squared

    def normalise(self, weighted: Array) -> Array:
        """Divide by the root of the sum of squared weights; the mean is that of the plain mean."""
        xp = array_namespace(weighted)
        index = (self.y_squared[:, None] + self.x_squared[None, :]).astype(xp.int32)
        mean = weighted[0, 0] / self.frames
        result = weighted * self.norm[index]
        result[0, 0] = mean
        return result


def add_shifted(
    spectrum: Array,
    phases: tuple[Array, Array],
    total: Array,
    weighted: Array | None,
    weights: tuple[Array, Array, Array] | None,
) -> None:
    """Add a spectrum times its phases to the totals, one of them weighted; ``total[0, 0]`` is not moved.

    spectrum, total, weighted : (ny, nx // 2 + 1) complex64
    phases : (ny,) and (nx // 2 + 1,) complex64
    weights : table over squared frequency, and the squared frequency of rows and columns in entries of the table
    """
    if not isinstance(spectrum, np.ndarray):
        add_shifted_plain(spectrum, phases, total, weighted, weights)
    elif weighted is None or weights is None:
        _add_shifted(spectrum, phases[0], phases[1], total)
    else:
        _add_shifted_weighted(spectrum, phases[0], phases[1], total, weighted, *weights)


def add_shifted_plain(
    spectrum: Array,
    phases: tuple[Array, Array],
    total: Array,
    weighted: Array | None,
    weights: tuple[Array, Array, Array] | None,
) -> None:
    """Plain twin of the compiled kernels of ``add_shifted``."""
    xp = array_namespace(spectrum)
    moved = spectrum * phases[0][:, None] * phases[1][None, :]
    total += moved
    if weighted is not None and weights is not None:
        table, y_squared, x_squared = weights
        moved *= table[(y_squared[:, None] + x_squared[None, :]).astype(xp.int32)]
        moved[0, 0] = spectrum[0, 0]
        weighted += moved


@compiled
def _add_row(row: Array, phase: complex, phases: Array, total: Array) -> None:
    for x in range(row.shape[0]):
        total[x] += row[x] * (phase * phases[x])


@compiled
def _add_row_weighted(
    row: Array, phase: complex, phases: Array, total: Array, weighted: Array, table: Array, y: float, squares: Array
) -> None:
    for x in range(row.shape[0]):
        moved = row[x] * (phase * phases[x])
        total[x] += moved
        weighted[x] += moved * table[int(y + squares[x])]


@compiled
def _add_shifted(spectrum: Array, phase_y: Array, phase_x: Array, total: Array) -> None:
    for y in range(spectrum.shape[0]):
        _add_row(spectrum[y], phase_y[y], phase_x, total[y])


@compiled
def _add_shifted_weighted(
    spectrum: Array,
    phase_y: Array,
    phase_x: Array,
    total: Array,
    weighted: Array,
    table: Array,
    y_squared: Array,
    x_squared: Array,
) -> None:
    mean = weighted[0, 0] + spectrum[0, 0]
    for y in range(spectrum.shape[0]):
        _add_row_weighted(spectrum[y], phase_y[y], phase_x, total[y], weighted[y], table, y_squared[y], x_squared)
    weighted[0, 0] = mean


def frc_resolution(even: Array, odd: Array, *, pixel_size: float, threshold: float = 0.143) -> float | None:
    """Return the resolution in Å where the ring correlation of two half sums falls below a threshold.

    even, odd : (y, x)
    pixel_size : Å/px
    The correlation is averaged over a band of about a twentieth of Nyquist first; between rings it is interpolated. A
    fixed pattern correlates too. None when it starts below; Nyquist when it never falls below.
    """
    size = min(even.shape)
    frequency, correlation = ring_correlation(even, odd, pixel_size=pixel_size)
    host_frequency, host_correlation = (to_numpy(values) for values in (frequency, correlation))
    width = max(1, size // 40)
    smooth = np.convolve(host_correlation[1:], np.ones(width) / width, mode="valid")
    at = np.convolve(host_frequency[1:], np.ones(width) / width, mode="valid")
    below = np.flatnonzero(smooth < threshold)
    if not len(below):
        return 2.0 * pixel_size
    if below[0] == 0:
        return None
    i = int(below[0])
    fraction = (smooth[i - 1] - threshold) / (smooth[i - 1] - smooth[i])
    return float(1.0 / (at[i - 1] + fraction * (at[i] - at[i - 1])))
