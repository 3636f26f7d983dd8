"""Move frames exactly, one after the other: the reference for the fused sums.

The whole-frame shift turns the phases of a frame's spectrum. Local motion is added on a grid twice as fine, made by
padding the spectrum, by a windowed sinc that is exact there.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focusnb.compiled import compiled
from focusnb.ops.backend import Array, array_namespace, fft_namespace, like, to_numpy
from focusnb.ops.fourier import Resize, resize_spectrum, shift_phases
from focusnb.ops.frames import CorrectedFrames
from focusnb.ops.motion.cells import polynomials
from focusnb.ops.motion.field import MotionField
from focusnb.ops.motion.weighting import SquaredFrequencies

FloatArray = NDArray[np.floating[Any]]

FINE = 2  # times finer is the grid on which frames are bent
TAPS = 12  # of the sinc there
PHASES = 1024


def moved_spectrum(
    frames: CorrectedFrames, t: int, field: MotionField, plan: Resize, room: Array | None = None
) -> tuple[Array, tuple[Array, Array], Array]:
    """Return the resized spectrum of a frame, the phases of rows and columns that are still to be applied, and room.

    room : an array returned before, to be overwritten
    """
    xp, fft = array_namespace(frames.here), fft_namespace(frames.here)
    room = frames.padded(t, plan.padded, room)
    spectrum = fft.rfft2(room)
    dy, dx = (float(shift) for shift in field.shifts[t])
    if field.local is not None:
        spectrum = _bend(spectrum, field, t, plan)
        dy = dx = 0.0
    spectrum = resize_spectrum(spectrum, plan.padded, plan.resized)
    # the shift is that many pixels of the padded frame, so a smaller number of the resized one
    phases = (
        shift_phases(plan.resized[0], dy * plan.resized[0] / plan.padded[0], half=False, xp=xp),
        shift_phases(plan.resized[1], dx * plan.resized[1] / plan.padded[1], half=True, xp=xp),
    )
    return spectrum, phases, room


def _bend(spectrum: Array, field: MotionField, t: int, plan: Resize) -> Array:
    """Return the spectrum of a frame moved by all of its shift, local motion included."""
    xp, fft = array_namespace(spectrum), fft_namespace(spectrum)
    ny, nx = plan.padded
    phase_y = shift_phases(ny, float(field.shifts[t, 0]), half=False, xp=xp)
    phase_x = shift_phases(nx, float(field.shifts[t, 1]), half=True, xp=xp)
    moved = spectrum * phase_y[:, None] * phase_x[None, :]
    shape = (FINE * ny, FINE * nx)
    fine = fft.irfft2(resize_spectrum(moved, plan.padded, shape), s=shape) * float(FINE**2)
    bend = polynomials(field)[t]
    bend[:, 0] -= field.shifts[t]  # done already
    result = np.empty(plan.padded, np.float32)
    _sample(to_numpy(fine).astype(np.float32), bend, field.shape, _sinc_table(), result)
    return fft.rfft2(like(spectrum, result))


@lru_cache(maxsize=1)
def _sinc_table() -> NDArray[np.float32]:
    """Return (phases + 1, taps) weights of a Kaiser-windowed sinc, within 1e-3 up to a quarter cycle per pixel."""
    distance = np.arange(TAPS)[None, :] - (TAPS // 2 - 1) - np.arange(PHASES + 1)[:, None] / PHASES
    window = np.i0(8.0 * np.sqrt(np.maximum(0.0, 1.0 - (distance / (TAPS / 2)) ** 2)))
    # cut in the middle between the highest frequency and its first image
    weights = np.sinc(distance) * window
    table: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return table


@compiled
def _sample(fine: Array, shift: FloatArray, field: tuple[int, int], table: Array, result: Array) -> None:
    """Fill result(r) = fine(2 (r - shift(r))), around the edges."""
    height, width = fine.shape
    for y in range(result.shape[0]):
        Y = y / field[0] - 0.5
        for x in range(result.shape[1]):
            X = x / field[1] - 0.5
            c, d = shift[0], shift[1]
            at_y = FINE * (y - c[0] - X * (c[1] + X * c[3] + Y * c[5]) - Y * (c[2] + Y * c[4]))
            at_x = FINE * (x - d[0] - X * (d[1] + X * d[3] + Y * d[5]) - Y * (d[2] + Y * d[4]))
            top, left = int(np.floor(at_y)), int(np.floor(at_x))
            row_y, row_x = int((at_y - top) * PHASES + 0.5), int((at_x - left) * PHASES + 0.5)
            total = np.float32(0.0)
            for j in range(TAPS):
                i = (top + j - (TAPS // 2 - 1)) % height
                along = np.float32(0.0)
                for k in range(TAPS):
                    along += table[row_x, k] * fine[i, (left + k - (TAPS // 2 - 1)) % width]
                total += table[row_y, j] * along
            result[y, x] = total


def add_shifted(
    spectrum: Array,
    phases: tuple[Array, Array],
    total: Array,
    weighted: Array | None,
    table: Array | None,
    squares: SquaredFrequencies | None,
) -> None:
    """Add a spectrum times its phases to the totals, one of them weighted.

    spectrum, total, weighted : (ny, nx // 2 + 1) complex64
    phases : (ny,) and (nx // 2 + 1,) complex64
    table, squares : weights over the squared frequency, (16384,) float32
    """
    if not isinstance(spectrum, np.ndarray):
        add_shifted_plain(spectrum, phases, total, weighted, table, squares)
    elif weighted is None or table is None or squares is None:
        _add_shifted(spectrum, phases[0], phases[1], total)
    else:
        _add_shifted_weighted(spectrum, phases[0], phases[1], total, weighted, table, squares.y, squares.x)


def add_shifted_plain(
    spectrum: Array,
    phases: tuple[Array, Array],
    total: Array,
    weighted: Array | None,
    table: Array | None,
    squares: SquaredFrequencies | None,
) -> None:
    """Plain twin of the compiled kernels of ``add_shifted``."""
    xp = array_namespace(spectrum)
    moved = spectrum * phases[0][:, None] * phases[1][None, :]
    total += moved
    if weighted is not None and table is not None and squares is not None:
        weighted += moved * table[(squares.y[:, None] + squares.x[None, :]).astype(xp.int32)]


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
    for y in range(spectrum.shape[0]):
        _add_row_weighted(spectrum[y], phase_y[y], phase_x, total[y], weighted[y], table, y_squared[y], x_squared)
