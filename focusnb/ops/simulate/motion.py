"""How the specimen moves: whole-frame and local motion, and images moved by it.

Signs are those of the shift *to apply*: ``output(r) = frame_t(r - shift_t(r))`` with r in the frame of the specimen as
frame 0 shows it; the specimen itself moved by ``-shift``. All motion is zero in frame 0. Within a frame the specimen
stands still, so a frame has no motion blur.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]

TAPS = 12
PHASES = 512


@dataclass(frozen=True)
class MotionSettings:
    """How much the specimen moves; lengths in pixels, doses in e⁻/Å².

    burst : length of the early motion, approached as 1 - exp(-dose / burst_dose)
    drift : length of a steady drift from the first to the last frame
    walk : root mean square length of a random step between frames
    jump : length of one sudden step in the middle of the movie
    local : largest local motion in the field at infinite dose; quadratic in x and y, as 1 - exp(-dose / local_dose)
    """

    burst: float = 6.0
    burst_dose: float = 3.0
    drift: float = 8.0
    walk: float = 0.15
    jump: float = 0.0
    local: float = 4.0
    local_dose: float = 6.0


@dataclass(frozen=True)
class Motion:
    """The motion of one movie.

    shift : (t, 2) whole-frame shift (dy, dx) to apply, pixels
    local_time : (t,) factor of the local field, 0 in frame 0
    local_field : (2, 5) local shift in y and in x for X, Y, X², Y², XY with X = x / nx - 0.5, Y = y / ny - 0.5, pixels
    shape : (ny, nx) of the field
    """

    shift: FloatArray
    local_time: FloatArray
    local_field: FloatArray
    shape: tuple[int, int]

    def shift_at(self, t: Any, y: Any, x: Any) -> FloatArray:
        """Return the whole shift (..., 2) as (dy, dx) to apply in frame t at positions y, x (pixels); all broadcast."""
        X = np.asarray(x, float) / self.shape[1] - 0.5
        Y = np.asarray(y, float) / self.shape[0] - 0.5
        basis = np.stack(np.broadcast_arrays(X, Y, X * X, Y * Y, X * Y), axis=-1)
        local = self.local_time[t][..., None] * (basis @ self.local_field.T)
        result: FloatArray = self.shift[t] + local
        return result

    def reach(self) -> tuple[float, float]:
        """Return an upper bound in pixels of any shift, and one of its local part."""
        whole = np.abs(self.shift).max(axis=0)
        # half the field, and what moves in from beside it
        Y, X = 0.5 + whole / np.array(self.shape)
        local = float((np.abs(self.local_field) @ np.array([X, Y, X * X, Y * Y, X * Y])).max())
        local *= float(np.abs(self.local_time).max())
        return float(whole.max()) + local, local

    def field_mean(self) -> FloatArray:
        """Return the mean shift over the field, (t, 2)."""
        size = np.array(self.shape[::-1], float)
        offset = -0.5 / size  # pixels 0 ... n-1 lie a little left of the middle
        variance = (1.0 - 1.0 / size**2) / 12.0
        basis = np.array([*offset, *(variance + offset**2), offset[0] * offset[1]])
        mean: FloatArray = self.shift + self.local_time[:, None] * (self.local_field @ basis)
        return mean


def simulate_motion(
    settings: MotionSettings,
    shape: tuple[int, int],
    *,
    frames: int,
    dose_per_frame: float,
    rng: np.random.Generator,
) -> Motion:
    """Draw a motion: directions, random steps and the local field are random, the lengths are as set."""
    time = np.arange(frames)
    dose = time * dose_per_frame
    burst, drift, jump = (np.array([np.sin(angle), np.cos(angle)]) for angle in rng.uniform(0.0, 2.0 * np.pi, 3))
    position = settings.burst * np.outer(1.0 - np.exp(-dose / settings.burst_dose), burst)
    position += settings.drift * np.outer(time / max(frames - 1, 1), drift)
    position += settings.jump * np.outer(time >= frames // 2, jump)
    steps = rng.normal(0.0, settings.walk / np.sqrt(2.0), (frames, 2))
    steps[0] = 0.0
    position += np.cumsum(steps, axis=0)
    return Motion(
        shift=-position,
        local_time=1.0 - np.exp(-dose / settings.local_dose),
        local_field=-_local_field(settings.local, rng),
        shape=shape,
    )


def _local_field(largest: float, rng: np.random.Generator) -> FloatArray:
    """Draw quadratic coefficients whose longest vector in the field is ``largest``."""
    # terms alike at the edge of the field (X = 0.5): linear ones count half, quadratic ones a quarter
    field = rng.normal(size=(2, 5)) * np.array([2.0, 2.0, 4.0, 4.0, 4.0])
    edge = np.linspace(-0.5, 0.5, 41)
    X, Y = np.meshgrid(edge, edge)
    vectors = np.stack([X, Y, X * X, Y * Y, X * Y], axis=-1) @ field.T
    result: FloatArray = field * (largest / np.sqrt((vectors**2).sum(axis=-1)).max())
    return result


def shift_phases(shape: tuple[int, int], shift: FloatArray) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Return the factors (ny, 1) and (1, nx // 2 + 1) of a half spectrum that move an image by +shift = (dy, dx)."""
    row = np.exp(-2j * np.pi * np.fft.fftfreq(shape[0]) * shift[0]).astype(np.complex64)
    column = np.exp(-2j * np.pi * np.fft.rfftfreq(shape[1]) * shift[1]).astype(np.complex64)
    return row[:, None], column[None, :]


def move_locally(image: FloatArray, motion: Motion, t: int, *, origin: tuple[int, int]) -> FloatArray:
    """Cut the field out of a larger image and move it by the local motion of frame t.

    image : (y, x) float32, already moved by the whole-frame shift; its pixel ``origin`` is pixel (0, 0) of the field
    t : frame

    Interpolates with 12 x 12 taps of a Kaiser-windowed sinc, 512 sub-positions: a wave is right within 1 % of its
    amplitude up to 0.75 of Nyquist and within 5 % at 0.8; its position is right within 0.01 px.
    """
    reach = motion.reach()[1] + TAPS
    ny, nx = motion.shape
    room = (origin[0], origin[1], image.shape[0] - origin[0] - ny, image.shape[1] - origin[1] - nx)
    if reach > min(room):
        raise ValueError(f"local motion reaches {reach:.1f} px, the margin around the field is {min(room)} px")
    output = np.empty(motion.shape, np.float32)
    field = motion.local_time[t] * motion.local_field
    _warp(np.ascontiguousarray(image, np.float32), output, field, motion.shift[t], origin, interpolation_table())
    return output


def interpolation_table() -> NDArray[np.float32]:
    """Return (phases + 1, taps) weights of a Kaiser-windowed sinc, each row of sum 1."""
    fraction = np.arange(PHASES + 1)[:, None] / PHASES
    distance = np.arange(TAPS)[None, :] - (TAPS // 2 - 1) - fraction
    window = np.i0(4.5 * np.sqrt(np.maximum(0.0, 1.0 - (distance / (TAPS / 2)) ** 2))) / np.i0(4.5)
    weights = np.sinc(distance) * window
    weights /= weights.sum(axis=1, keepdims=True)
    table: NDArray[np.float32] = weights.astype(np.float32)
    return table


@numba.njit(nogil=True, cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def _weigh(row: FloatArray, weights: FloatArray) -> np.float32:
    total = np.float32(0.0)
    for i in range(TAPS):
        total = np.float32(total + row[i] * weights[i])
    return total


@numba.njit(nogil=True, cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def _warp(
    image: FloatArray,
    output: FloatArray,
    field: FloatArray,
    shift: FloatArray,
    origin: tuple[int, int],
    table: FloatArray,
) -> None:
    """Fill output(q) = image(origin + q + L(r)); r = q + shift + L(r) is the place of the specimen seen at pixel q."""
    ny, nx = output.shape
    oy, ox = origin
    before = TAPS // 2 - 1
    for qy in range(ny):
        for qx in range(nx):
            dy = 0.0
            dx = 0.0
            for _ in range(3):  # each time the error shrinks by the local strain, about 1 %
                X = (qx + shift[1] + dx) / nx - 0.5
                Y = (qy + shift[0] + dy) / ny - 0.5
                dy = X * (field[0, 0] + X * field[0, 2] + Y * field[0, 4]) + Y * (field[0, 1] + Y * field[0, 3])
                dx = X * (field[1, 0] + X * field[1, 2] + Y * field[1, 4]) + Y * (field[1, 1] + Y * field[1, 3])
            iy = int(np.floor(dy))
            ix = int(np.floor(dx))
            wy = table[int((dy - iy) * PHASES + 0.5)]
            wx = table[int((dx - ix) * PHASES + 0.5)]
            y0 = oy + qy + iy - before
            x0 = ox + qx + ix - before
            total = np.float32(0.0)
            for j in range(TAPS):
                total += wy[j] * _weigh(image[y0 + j, x0 : x0 + TAPS], wx)
            output[qy, qx] = total
