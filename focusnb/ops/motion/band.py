"""The spatial frequencies of a movie that tell how it moved: binned, transformed, masked and moved by phases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focusnb.ops.backend import Array, array_namespace, fft_namespace, like, to_numpy
from focusnb.compiled import compiled
from focusnb.ops.fourier import fast_shape, pad_mean
from focusnb.ops.frames import CorrectedFrames

FloatArray = NDArray[np.floating[Any]]

# Binned pixels between these sizes in Å: finer ones hold little signal, coarser ones lose it.
FINEST, COARSEST = 2.25, 4.5
BINNED_SIDE = 900  # a field of fewer binned pixels keeps finer ones


@dataclass(frozen=True)
class Band:
    """Spectra of all frames between two limits of frequency.

    spectra : (t, rows, columns) complex64 of unit mean noise per pixel; both halves of y, the positive half of x
    y, x : (rows,) and (columns,) frequency in cycles per pixel of the movie, on the host
    use : (rows, columns) float32, 1 where a frequency counts, 0 beyond the limits and on the cross of fixed patterns
    ring : (rows, columns) index of the ring of width 1 / (shorter side), on the host
    field : (ny, nx) pixels of the movie that the transform covers
    """

    spectra: Array
    y: FloatArray
    x: FloatArray
    use: Array
    ring: NDArray[np.int64]
    field: tuple[int, int]

    def __len__(self) -> int:
        return int(self.spectra.shape[0])

    def within(self, limit: float) -> Band:
        """Return the part below a frequency, in cycles per pixel of the movie."""
        xp = array_namespace(self.spectra)
        rows, columns = np.flatnonzero(np.abs(self.y) <= limit), int((self.x <= limit).sum())
        at = like(self.spectra, rows)
        spectra = xp.ascontiguousarray(self.spectra[:, at, :columns])
        inside = np.hypot(self.y[rows, None], self.x[None, :columns]) <= limit
        use = self.use[at, :columns] * like(self.spectra, inside.astype(np.float32))
        return Band(spectra * use, self.y[rows], self.x[:columns], use, self.ring[rows, :columns], self.field)


def choose_binning(shape: tuple[int, int], pixel_size: float) -> int:
    """Return the binning for alignment: pixels of 2.25 to 4.5 Å, the coarser the larger the field."""
    finest, coarsest = max(1, int(FINEST / pixel_size)), max(1, int(COARSEST / pixel_size))
    return int(np.clip(min(shape) // BINNED_SIDE, finest, coarsest))


def transform_frames(frames: CorrectedFrames, *, pixel_size: float, resolution: float) -> Band:
    """Bin and transform each frame and keep the frequencies up to a resolution.

    pixel_size : Å/px of the movie
    resolution : Å
    Raises ValueError when a frame is constant or holds values that are not finite.
    """
    xp, fft = array_namespace(frames.raw), fft_namespace(frames.raw)
    factor = choose_binning(frames.shape[1:], pixel_size)
    while factor > 1 and min(frames.shape[1:]) // factor < 32:
        factor -= 1
    binned_shape = (frames.shape[1] // factor, frames.shape[2] // factor)
    if min(binned_shape) < 16:
        raise ValueError(f"frames of {frames.shape[1]} x {frames.shape[2]} pixels are too small to be aligned")
    shape = fast_shape(binned_shape)
    y, x = np.fft.fftfreq(shape[0], factor), np.fft.rfftfreq(shape[1], factor)
    # blocks of pixels alias: leave out the corner of the spectrum where the aliases lie
    limit = min(0.47 / factor, pixel_size / resolution)
    rows, columns = np.flatnonzero(np.abs(y) <= limit), int((x <= limit).sum())
    y, x = y[rows], x[:columns]
    frequency = np.hypot(y[:, None], x[None, :])
    side = min(frames.shape[1:])
    # below three waves in the field there is the beam's profile, on the axes lines and columns of the camera
    use = (frequency <= limit) & (frequency * side > 3.0) & (np.abs(y[:, None]) > 0) & (x[None, :] > 0)
    use = use.astype(np.float32)
    use_here = xp.asarray(use)
    spectra = xp.empty((len(frames), len(rows), columns), dtype=xp.complex64)
    chosen = xp.asarray(rows)
    for t in range(len(frames)):
        image = frames.binned(t, factor)
        deviation = float(image.std())
        if not np.isfinite(deviation) or deviation == 0.0:
            what = "is constant" if deviation == 0.0 else "holds values that are not finite"
            raise ValueError(f"frame {t} of {len(frames)} {what} and cannot be aligned; leave it out")
        image = (image - float(image.mean())) * (1.0 / (deviation * (shape[0] * shape[1]) ** 0.5))
        spectra[t] = fft.rfft2(pad_mean(image, shape))[chosen, :columns] * use_here
    field = (shape[0] * factor, shape[1] * factor)
    return Band(spectra, y, x, use_here, np.rint(frequency * side).astype(np.int64), field)


def move_phases(band: Band, shifts: FloatArray) -> tuple[Array, Array]:
    """Return the factors (t, rows) and (t, columns), complex64, that apply shifts (t, 2) in pixels of the movie."""
    phase_y = np.exp(-2j * np.pi * shifts[:, :1] * band.y[None, :]).astype(np.complex64)
    phase_x = np.exp(-2j * np.pi * shifts[:, 1:] * band.x[None, :]).astype(np.complex64)
    return like(band.spectra, phase_y), like(band.spectra, phase_x)


def sum_moved(band: Band, phases: tuple[Array, Array]) -> Array:
    """Return the sum of the moved spectra, (rows, columns) complex64."""
    xp = array_namespace(band.spectra)
    if not isinstance(band.spectra, np.ndarray):
        return sum_moved_plain(band, phases)
    total = xp.zeros(band.spectra.shape[1:], dtype=xp.complex64)
    _sum_moved(band.spectra, phases[0], phases[1], total)
    return total


def sum_moved_plain(band: Band, phases: tuple[Array, Array]) -> Array:
    """Plain twin of ``sum_moved``."""
    return (band.spectra * phases[0][:, :, None] * phases[1][:, None, :]).sum(axis=0)


def compare_moved(band: Band, phases: tuple[Array, Array], total: Array, weights: Array) -> FloatArray:
    """Compare each moved frame with the sum of the others.

    total : (rows, columns) of ``sum_moved``
    weights : (rows, columns) float32
    Returns (t, 5) on the host: the weighted overlap with the others, its gradient in y and x per pixel of shift, the
    frame's own weighted power, and the others'.
    """
    if not isinstance(band.spectra, np.ndarray):
        return compare_moved_plain(band, phases, total, weights)
    result = np.empty((len(band), 5))
    y, x = (2.0 * np.pi * values.astype(np.float32) for values in (band.y, band.x))
    _compare_moved(
        band.spectra, phases[0], phases[1], total, weights, y.astype(np.float32), x.astype(np.float32), result
    )
    return result


def compare_moved_plain(band: Band, phases: tuple[Array, Array], total: Array, weights: Array) -> FloatArray:
    """Plain twin of ``compare_moved``."""
    xp = array_namespace(band.spectra)
    y = like(band.spectra, (2.0 * np.pi * band.y).astype(np.float32))
    x = like(band.spectra, (2.0 * np.pi * band.x).astype(np.float32))
    rows = []
    for t in range(len(band)):
        moved = band.spectra[t] * phases[0][t][:, None] * phases[1][t][None, :]
        others = total - moved
        product = moved * xp.conj(others)
        slope = product.imag * weights
        values = (
            (product.real * weights).sum(),
            (slope * y[:, None]).sum(),
            (slope * x[None, :]).sum(),
            (xp.abs(moved) ** 2 * weights).sum(),
            (xp.abs(others) ** 2 * weights).sum(),
        )
        rows.append([float(value) for value in values])
    return np.array(rows)


def ring_sum(band: Band, values: Array) -> FloatArray:
    """Sum (rows, columns) over rings, on the host."""
    return np.bincount(band.ring.ravel(), weights=to_numpy(values).astype(float).ravel()).astype(float)


@compiled
def _add_moved_row(row: Array, phase: complex, phases: Array, total: Array) -> None:
    for x in range(row.shape[0]):
        total[x] += row[x] * (phase * phases[x])


@compiled
def _sum_moved(spectra: Array, phase_y: Array, phase_x: Array, total: Array) -> None:
    for t in range(spectra.shape[0]):
        for y in range(spectra.shape[1]):
            _add_moved_row(spectra[t, y], phase_y[t, y], phase_x[t], total[y])


@compiled
def _compare_row(
    row: Array, phase: complex, phases: Array, total: Array, weights: Array, frequency: Array
) -> tuple[Any, Any, Any, Any, Any]:
    overlap = slope = slope_x = own = other = np.float32(0.0)
    for x in range(row.shape[0]):
        moved = row[x] * (phase * phases[x])
        rest = total[x] - moved
        weight = weights[x]
        imaginary = (moved.imag * rest.real - moved.real * rest.imag) * weight
        overlap += (moved.real * rest.real + moved.imag * rest.imag) * weight
        slope += imaginary
        slope_x += imaginary * frequency[x]
        own += (moved.real * moved.real + moved.imag * moved.imag) * weight
        other += (rest.real * rest.real + rest.imag * rest.imag) * weight
    return overlap, slope, slope_x, own, other


@compiled
def _compare_moved(
    spectra: Array,
    phase_y: Array,
    phase_x: Array,
    total: Array,
    weights: Array,
    y_frequency: Array,
    x_frequency: Array,
    result: Array,
) -> None:
    for t in range(spectra.shape[0]):
        result[t] = 0.0
        for y in range(spectra.shape[1]):
            overlap, slope, slope_x, own, other = _compare_row(
                spectra[t, y], phase_y[t, y], phase_x[t], total[y], weights[y], x_frequency
            )
            result[t, 0] += overlap
            result[t, 1] += slope * y_frequency[y]
            result[t, 2] += slope_x
            result[t, 3] += own
            result[t, 4] += other
