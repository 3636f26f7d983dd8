"""Windows of a field, each with the spectra of all frames: what tells how places move differently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focusnb.compiled import compiled
from focusnb.ops.backend import Array, array_namespace, fft_namespace, like, to_numpy
from focusnb.ops.dose import Dose, dose_weights
from focusnb.ops.fourier import fast_size
from focusnb.ops.motion.band import Band, BinnedFrames, band_geometry

FloatArray = NDArray[np.floating[Any]]

FEWEST, MOST = 3, 8  # along a side of the field
SMALLEST = 180.0  # Å along a side; a particle still fits in
USUAL = 7  # along the shorter side
LEAST_PIXELS = 32  # binned pixels along a side


@dataclass(frozen=True)
class Patches:
    """Spectra of all frames in windows that follow the whole-frame motion by whole binned pixels.

    spectra : (p, t, rows, columns) complex64 of unit mean noise, times ``fading``
    y, x, use, ring, field : as in ``Band``, of one window
    centres : (p, 2) of the windows in the aligned image, pixels of the movie (y, x)
    taken : (t, 2) shift that the places of the windows apply already, pixels of the movie
    fading : (t, rings) amplitude of the signal left by damage in each frame, over that of the first
    own_power : (p, rings) summed over all frames and the ring
    size : (ny, nx) binned pixels of a window
    factor : pixels of the movie along a binned one
    """

    spectra: Array
    y: FloatArray
    x: FloatArray
    use: Array
    ring: NDArray[np.int64]
    field: tuple[int, int]
    centres: FloatArray
    taken: FloatArray
    fading: FloatArray
    own_power: FloatArray
    size: tuple[int, int]
    factor: int

    def __len__(self) -> int:
        return int(self.spectra.shape[0])

    def __getitem__(self, index: int) -> Band:
        """Return the spectra of one window."""
        return Band(self.spectra[index], self.y, self.x, self.use, self.ring, self.field)

    def ring_sum(self, values: Array) -> FloatArray:
        """Sum (rows, columns) over rings, on the host."""
        host = to_numpy(values).astype(float).ravel()
        return np.bincount(self.ring.ravel(), weights=host, minlength=self.fading.shape[1]).astype(float)

    def ring_squares(self) -> FloatArray:
        """Return (2, rings): the squares of y and of x of the frequencies that count, summed over rings, 1/px²."""
        use = to_numpy(self.use).astype(float)
        y, x = self.y[:, None] ** 2 * use, self.x[None, :] ** 2 * use
        length = self.fading.shape[1]
        return np.stack([np.bincount(self.ring.ravel(), weights=v.ravel(), minlength=length) for v in (y, x)])


def choose_patches(span: tuple[float, float]) -> tuple[int, int]:
    """Return how many patches fit along y and x of a field in Å: of 180 Å at least, about seven, 3 to 8."""
    side = max(SMALLEST, min(span) / USUAL)
    ny, nx = (int(np.clip(round(length / side), FEWEST, MOST)) for length in span)
    return ny, nx


def cut_patches(
    binned: BinnedFrames,
    shifts: FloatArray,
    *,
    pixel_size: float,
    resolution: float,
    count: tuple[int, int] | None = None,
    dose: Dose | None = None,
) -> Patches | None:
    """Cut a field into windows and transform them in all frames.

    shifts : (t, 2) to apply, pixels of the movie; windows stay that far from the edges, so that none is cut off
    pixel_size : Å/px of the movie
    resolution : Å, finest frequency kept
    count : windows along y and x; None chooses
    dose : per frame; makes frames count less where their signal has faded
    None where the field is too small for windows.
    """
    xp, fft = array_namespace(binned.images), fft_namespace(binned.images)
    moves = np.rint(shifts / binned.factor).astype(int)
    low = np.maximum(moves.max(axis=0), 0)
    high = np.array(binned.shape) + np.minimum(moves.min(axis=0), 0)
    span = high - low
    step = binned.factor * pixel_size
    along = choose_patches((float(span[0]) * step, float(span[1]) * step)) if count is None else count
    size = int(span[0]) // along[0], int(span[1]) // along[1]
    if min(size) < LEAST_PIXELS:
        return None
    size = _fast_below(size[0]), _fast_below(size[1])
    tops, lefts = (
        [round(low[i] + (j + 0.5) * span[i] / along[i] - size[i] / 2) for j in range(along[i])] for i in range(2)
    )
    side = min(size) * binned.factor
    y, x, rows, use, ring = band_geometry(size, binned.factor, pixel_size=pixel_size, resolution=resolution, side=side)
    fading = np.ones((len(binned), int(ring.max()) + 1))
    if dose is not None:
        # over the signal of the first frame: what was lost before is lost in all of them
        middle = Dose(dose.per_frame, -dose.per_frame, dose.voltage, dose.factor)
        fading = dose_weights(np.arange(fading.shape[1]) / (side * pixel_size), middle, len(binned))
    use_here, chosen = xp.asarray(use), xp.asarray(rows)
    factors = fading.astype(np.float32)
    patches = len(tops) * len(lefts)
    spectra = xp.empty((patches, len(binned), len(rows), len(x)), dtype=xp.complex64)
    power = xp.zeros((patches, len(rows), len(x)), dtype=xp.float32)
    windows = xp.empty((patches, *size), dtype=xp.float32)
    scale = np.float32(1.0 / float(size[0] * size[1]) ** 0.5)
    for t in range(len(binned)):
        image, (dy, dx) = binned.images[t], moves[t]
        for i, (top, left) in enumerate((top, left) for top in tops for left in lefts):
            windows[i] = image[top - dy : top - dy + size[0], left - dx : left - dx + size[1]]
        _keep(
            fft.rfft2(windows), chosen, like(binned.images, factors[t][ring] * scale) * use_here, spectra[:, t], power
        )
    corner = np.array([(top, left) for top in tops for left in lefts], float)
    # the middle of a block lies between its pixels
    centres = (corner + 0.5 * (np.array(size) - 1.0)) * binned.factor + 0.5 * (binned.factor - 1.0)
    host = to_numpy(power).reshape(patches, -1).astype(float)
    own = np.stack([np.bincount(ring.ravel(), weights=values, minlength=fading.shape[1]) for values in host])
    return Patches(
        spectra=spectra,
        y=y,
        x=x,
        use=use_here,
        ring=ring,
        field=(size[0] * binned.factor, size[1] * binned.factor),
        centres=centres,
        taken=moves * float(binned.factor),
        fading=fading,
        own_power=own.astype(float),
        size=size,
        factor=binned.factor,
    )


def _keep(transform: Array, rows: Array, factor: Array, kept: Array, power: Array) -> None:
    """Keep some rows and columns of transforms (p, ny, nx // 2 + 1), times a factor, and add their power."""
    if isinstance(transform, np.ndarray):
        _keep_compiled(transform, rows, factor, kept, power)
    else:
        keep_plain(transform, rows, factor, kept, power)


def keep_plain(transform: Array, rows: Array, factor: Array, kept: Array, power: Array) -> None:
    """Plain twin of the compiled kernel."""
    kept[...] = transform[:, rows, : factor.shape[1]] * factor
    power += kept.real**2 + kept.imag**2


@compiled
def _keep_row(row: Array, factor: Array, kept: Array, power: Array) -> None:
    for x in range(factor.shape[0]):
        value = row[x] * factor[x]
        kept[x] = value
        power[x] += value.real * value.real + value.imag * value.imag


@compiled
def _keep_compiled(transform: Array, rows: Array, factor: Array, kept: Array, power: Array) -> None:
    for p in range(transform.shape[0]):
        for i in range(rows.shape[0]):
            _keep_row(transform[p, rows[i]], factor[i], kept[p, i], power[p, i])


def _fast_below(size: int) -> int:
    """Return the largest even number, not above ``size``, that transforms quickly."""
    size -= size % 2
    while fast_size(size) != size:
        size -= 2
    return size
