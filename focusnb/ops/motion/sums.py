"""Sum aligned frames: plain, weighted by dose, and halves of both.

Frames are moved and summed in real space, in one pass over the movie for all sums (``fused``); few spectra of full size
then weigh them (``lowrank``), undo what interpolation took (``interpolation``), crop, and correlate the halves. The
exact way moves each frame in Fourier space (``exact``): slow, the reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from focusnb.ops.backend import Array, array_namespace, fft_namespace, like
from focusnb.ops.dose import Dose
from focusnb.ops.fourier import Resize, inverse_to_plan, plan_resize, resize_spectrum
from focusnb.ops.frames import CorrectedFrames
from focusnb.ops.motion.cells import choose_cells, polynomials
from focusnb.ops.motion.exact import add_shifted, moved_spectrum
from focusnb.ops.motion.field import MotionField
from focusnb.ops.motion.frc import correlate_halves, correlation_resolution
from focusnb.ops.motion.fused import add_moved
from focusnb.ops.motion.interpolation import choose_taps, undo_loss
from focusnb.ops.motion.lowrank import DoseFilter, split_dose_filter
from focusnb.ops.motion.on_device import add_moved_cuda, add_moved_plain
from focusnb.ops.motion.weighting import SquaredFrequencies, add_weighted, multiply

FloatArray = NDArray[np.floating[Any]]
Mode = Literal["fused", "exact"]


@dataclass(frozen=True)
class Sums:
    """Aligned sums of a movie, (y, x) float32 in counts per pixel and frame.

    unweighted : plain mean over frames
    dose_weighted : None without a dose
    even, odd : means over the frames 0, 2, ... and 1, 3, ..., where asked for
    even_weighted, odd_weighted : the same weighted by dose, where asked for and the dose is known
    pixel_size : Å/px of all of them
    frc_resolution : Å where the ring correlation of the plain halves falls below 0.143; None where not asked for or
        nothing correlates
    """

    unweighted: Array
    dose_weighted: Array | None
    even: Array | None
    odd: Array | None
    even_weighted: Array | None
    odd_weighted: Array | None
    pixel_size: float
    frc_resolution: float | None


@dataclass(frozen=True)
class _Asked:
    """What is to be made of the frames: sizes, the filter by damage, and whether halves of plain and weighted sums."""

    plan: Resize
    squares: SquaredFrequencies | None = None
    dose_filter: DoseFilter | None = None
    even: bool = False
    halves: bool = False

    @property
    def half_shape(self) -> tuple[int, int]:
        """Rows and columns of a resized half spectrum."""
        return self.plan.resized[0], self.plan.resized[1] // 2 + 1


@dataclass
class _Spectra:
    """Resized spectra of sums over all and over even frames; the weighted ones not yet normalised.

    lost : factors of rows and columns that undo what interpolation took from the weighted ones; None where nothing was
    """

    total: Array
    even: Array | None
    weighted: Array | None
    weighted_even: Array | None
    lost: tuple[Array, Array] | None = None


def sum_frames(
    frames: CorrectedFrames,
    field: MotionField,
    *,
    pixel_size: float,
    target_pixel_size: float | None = None,
    dose: Dose | None = None,
    halves: bool = False,
    resolution: bool = True,
    mode: Mode = "fused",
    threads: int = 1,
) -> Sums:
    """Sum the frames of a movie after moving each place by its shift.

    field : shifts to apply, pixels of the movie
    pixel_size : Å/px of the movie
    target_pixel_size : Å/px of the sums, reached within 1e-4 by cropping in Fourier space; None keeps that of the movie
    dose : gives the dose-weighted sum: each frame times exp(-N / (2 N_c)), the sum divided by the root of the sum of
        squared weights (Grant & Grigorieff 2015) and by the root of the number of frames, so that the mean is that of
        the unweighted sum and, without damage, all of it
    halves : also the means over even and odd frames, and the same weighted by dose; of a single frame there are none
    resolution : also the resolution up to which the halves agree
    mode : "fused" interpolates in real space, mirrored at the edges, its amplitude restored up to 0.9 of Nyquist;
        "exact" shifts in Fourier space, where what leaves at one edge comes back at the other
    threads : on the host; the sums do not depend on it
    Raises ValueError when the motion does not belong to the movie or is not finite.
    """
    _check(frames, field, mode)
    plan = _plan(frames, pixel_size, target_pixel_size)
    squares, dose_filter = None, None
    if dose is not None:
        squares = SquaredFrequencies(plan, pixel_size, array_namespace(frames.here))
        dose_filter = split_dose_filter(dose, len(frames), squares.frequency)
    asked = _Asked(plan, squares, dose_filter, halves or (resolution and len(frames) > 1), halves)
    with scipy.fft.set_workers(threads):
        if mode == "exact":
            spectra = _exact_spectra(frames, field, asked)
        else:
            spectra = _fused_spectra(frames, field, asked, threads)
        found = None
        if resolution and spectra.even is not None and len(frames) > 1:
            correlation = correlate_halves(spectra.even, spectra.total, plan.resized)
            found = correlation_resolution(correlation, min(plan.resized), pixel_size=pixel_size * plan.factor)
        return _finish(spectra, asked, pixel_size, len(frames), found)


def aligned_stack(
    frames: CorrectedFrames,
    field: MotionField,
    *,
    pixel_size: float = 1.0,
    target_pixel_size: float | None = None,
    mode: Mode = "fused",
    threads: int = 1,
) -> Iterator[Array]:
    """Give the frames of a movie one by one, each moved by its shift, (y, x) float32 in counts per pixel.

    field, pixel_size, target_pixel_size, mode, threads : as for ``sum_frames``
    Raises ValueError when the motion does not belong to the movie or is not finite.
    """
    _check(frames, field, mode)
    plan = _plan(frames, pixel_size, target_pixel_size)

    def moved(t: int) -> Array:
        one = field.shifts[t : t + 1], field.shape, None if field.local is None else field.local[t : t + 1]
        frame, motion = frames.between(t, t + 1), MotionField(*one)
        if mode == "exact":
            total = _exact_spectra(frame, motion, _Asked(plan)).total
        else:
            total = _fused_spectra(frame, motion, _Asked(plan), threads).total
        return inverse_to_plan(total, plan)

    return (moved(t) for t in range(len(frames)))


def _check(frames: CorrectedFrames, field: MotionField, mode: str) -> None:
    if len(field) != len(frames) or tuple(field.shifts.shape) != (len(frames), 2):
        raise ValueError(f"{len(frames)} frames need as many shifts (dy, dx); got an array of {field.shifts.shape}")
    if tuple(field.shape) != frames.shape[1:]:
        raise ValueError(f"the motion is of frames of {tuple(field.shape)} pixels, these have {frames.shape[1:]}")
    if not (np.isfinite(field.shifts).all() and (field.local is None or np.isfinite(field.local).all())):
        raise ValueError(f"the motion of {len(frames)} frames holds values that are not finite")
    if mode not in ("fused", "exact"):
        raise ValueError(f"frames are summed in the mode fused or exact, not {mode!r}")


def _plan(frames: CorrectedFrames, pixel_size: float, target_pixel_size: float | None) -> Resize:
    return plan_resize(frames.shape[1:], 1.0 if target_pixel_size is None else target_pixel_size / pixel_size)


def _fused_spectra(frames: CorrectedFrames, field: MotionField, asked: _Asked, threads: int) -> _Spectra:
    """Sum in real space, transform each sum, add it to the spectra it is part of."""
    raw, plan, dose_filter, half_shape = frames.here, asked.plan, asked.dose_filter, asked.half_shape
    xp, fft = array_namespace(raw), fft_namespace(raw)
    vectors = np.ones((1, len(frames))) if dose_filter is None else dose_filter.vectors
    rank = len(vectors)
    in_even = np.arange(len(frames)) % 2 == 0
    # the unweighted half is the first of the weighted one's sums
    rows = [vectors, vectors[: (rank if asked.halves else 1) if asked.even else 0] * in_even]
    taps = choose_taps(field)
    cells = choose_cells(field)
    totals = _sum_in_real_space(frames, field, np.concatenate(rows), taps, plan, threads)
    sums: list[Array | None] = [None, None, None, None]  # total, even, weighted, weighted even
    for i in range(len(totals)):
        _fill(totals[i], frames.shape[1:])
        spectrum = resize_spectrum(fft.rfft2(totals[i]), plan.padded, plan.resized)
        part, r = divmod(i, rank)
        if dose_filter is not None and asked.squares is not None and (part == 0 or asked.halves):
            if sums[2 + part] is None:
                sums[2 + part] = xp.zeros(half_shape, dtype=xp.complex64)
            function = like(raw, dose_filter.functions[r].astype(np.float32))
            add_weighted(spectrum, function, asked.squares, sums[2 + part])
        if r == 0:
            sums[part] = spectrum
    columns = cells.columns if isinstance(raw, np.ndarray) else 1
    y = np.fft.fftfreq(half_shape[0], 1.0 / half_shape[0]) / plan.padded[0]
    x = np.arange(half_shape[1]) / plan.padded[1]
    factors = [undo_loss(taps, field, k, axis=axis, columns=columns) for axis, k in enumerate((y, x))]
    here = (like(raw, factors[0].astype(np.float32)), like(raw, factors[1].astype(np.float32)))
    for spectrum in sums[:2]:
        if spectrum is not None:
            multiply(spectrum, here, None, None)
    return _Spectra(sums[0], sums[1], sums[2], sums[3], here)


def _sum_in_real_space(
    frames: CorrectedFrames, field: MotionField, weights: FloatArray, taps: Array, plan: Resize, threads: int
) -> Array:
    """Return the sums of moved frames with rows of weights, in the corner of (sums, *plan.padded) float32."""
    xp = array_namespace(frames.here)
    on_host = isinstance(frames.here, np.ndarray)
    totals = (xp.empty if on_host else xp.zeros)((len(weights), *plan.padded), dtype=xp.float32)
    shifts, cells = polynomials(field), choose_cells(field)
    table = like(frames.here, taps)
    for start, raw in frames.batches():
        stop = start + len(raw)
        part = like(frames.here, np.ascontiguousarray(weights[:, start:stop], dtype=np.float32))
        arguments = (raw, frames.factor, shifts[start:stop], part, table, totals)
        if on_host:
            add_moved(*arguments, cells, threads=threads, begin=start == 0)
        elif xp.__name__ == "cupy":
            add_moved_cuda(*arguments)
        else:
            add_moved_plain(*arguments)
    return totals


def _fill(total: Array, shape: tuple[int, int]) -> None:
    """Fill what lies beyond a frame with its mean."""
    ny, nx = shape
    # by rows: numpy adds along a contiguous axis in pairs and several at once
    mean = float(total[:ny, :nx].mean(axis=1).mean())
    total[ny:, :] = mean
    total[:ny, nx:] = mean


def _exact_spectra(frames: CorrectedFrames, field: MotionField, asked: _Asked) -> _Spectra:
    """Move and add one frame after the other."""
    xp, dose_filter, half_shape = array_namespace(frames.here), asked.dose_filter, asked.half_shape
    parts = range(2 if asked.even else 1)
    plain = [xp.zeros(half_shape, dtype=xp.complex64) for _ in parts]
    weighted = None if dose_filter is None else [xp.zeros(half_shape, dtype=xp.complex64) for _ in parts]
    table, room = None, None
    for t in range(len(frames)):
        spectrum, phases, room = moved_spectrum(frames, t, field, asked.plan, room)
        part = t % len(parts)
        if dose_filter is not None:
            table = like(frames.here, dose_filter.weights[t].astype(np.float32))
        add_shifted(spectrum, phases, plain[part], None if weighted is None else weighted[part], table, asked.squares)
    return _Spectra(
        total=sum(plain[1:], start=plain[0]),
        even=plain[0] if asked.even else None,
        weighted=None if weighted is None else sum(weighted[1:], start=weighted[0]),
        weighted_even=weighted[0] if weighted is not None and asked.halves else None,
    )


def _finish(spectra: _Spectra, asked: _Asked, pixel_size: float, count: int, resolution: float | None) -> Sums:
    """Normalise, and transform back."""
    plan, squares, dose_filter = asked.plan, asked.squares, asked.dose_filter
    evens, odds = (count + 1) // 2, max(count // 2, 1)

    def mean(spectrum: Array, number: int) -> Array:
        return inverse_to_plan(spectrum, plan, 1.0 / number)

    def weigh(weighted: Array, plain: Array, number: int, start: int, step: int) -> Array | None:
        if dose_filter is None or squares is None:
            return None
        table = like(weighted, dose_filter.normalisation(start, step).astype(np.float32))
        ny, nx = weighted.shape
        ones = like(weighted, np.ones(ny, np.float32)), like(weighted, np.ones(nx, np.float32))
        multiply(weighted, ones if spectra.lost is None else spectra.lost, table, squares)
        weighted[0, 0] = plain[0, 0] / float(number)
        return inverse_to_plan(weighted, plan)

    even = odd = even_weighted = odd_weighted = dose_weighted = None
    if asked.halves and count > 1 and spectra.even is not None:
        rest = spectra.total - spectra.even
        even, odd = mean(spectra.even, evens), mean(rest, odds)
        if spectra.weighted is not None and spectra.weighted_even is not None:
            odd_weighted = weigh(spectra.weighted - spectra.weighted_even, rest, odds, 1, 2)
            even_weighted = weigh(spectra.weighted_even, spectra.even, evens, 0, 2)
    if spectra.weighted is not None:
        dose_weighted = weigh(spectra.weighted, spectra.total, count, 0, 1)
    return Sums(
        unweighted=mean(spectra.total, count),
        dose_weighted=dose_weighted,
        even=even,
        odd=odd,
        even_weighted=even_weighted,
        odd_weighted=odd_weighted,
        pixel_size=pixel_size * plan.factor,
        frc_resolution=resolution,
    )
