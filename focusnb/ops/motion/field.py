"""The motion of a movie over its field: one shift for each frame, and what changes from place to place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.floating[Any]]

TERMS = 5
"""Functions of the place: X, Y, X² - 1/12, Y² - 1/12, XY, whose mean over the field is 0."""


@dataclass(frozen=True)
class MotionField:
    """Shifts to apply, in pixels of the movie: ``output(r) = frame_t(r - shift_t(r))``; zero everywhere in frame 0.

    shifts : (t, 2) mean over the field, (dy, dx)
    shape : (ny, nx) of a frame
    local : (t, 2, 5) coefficients of the functions of the place, X = x / nx - 1/2 and Y = y / ny - 1/2; None where
        all places move alike
    """

    shifts: FloatArray
    shape: tuple[int, int]
    local: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.shifts)

    def at(self, y: ArrayLike, x: ArrayLike) -> FloatArray:
        """Return the shift of every frame, (t, ..., 2), at places of the aligned image in pixels; y and x broadcast."""
        terms = place_terms(y, x, self.shape)
        whole = self.shifts.reshape(len(self), *(1,) * (terms.ndim - 1), 2)
        if self.local is None:
            return np.broadcast_to(whole, (len(self), *terms.shape[:-1], 2)).copy()
        result: FloatArray = whole + np.einsum("tak,...k->t...a", self.local, terms)
        return result

    def seen_from(self, frame: int) -> MotionField:
        """Return the same motion with the aligned image as this frame shows it: its shifts are zero."""
        local = None if self.local is None else self.local - self.local[frame]
        return MotionField(self.shifts - self.shifts[frame], self.shape, local)

    def local_rms(self) -> float:
        """Return the root mean square, over field and frames, of what is added to the whole-frame shift, pixels."""
        if self.local is None:
            return 0.0
        y, x = np.meshgrid(*(np.linspace(0, n - 1, 9) for n in self.shape), indexing="ij")
        local = np.einsum("tak,yxk->tyxa", self.local, place_terms(y, x, self.shape))
        return float(np.sqrt((local**2).sum(axis=-1).mean()))


def place_terms(y: ArrayLike, x: ArrayLike, shape: tuple[int, int]) -> FloatArray:
    """Return the functions of the place, (..., 5), at pixels y, x of a field (ny, nx)."""
    X = np.asarray(x, float) / shape[1] - 0.5
    Y = np.asarray(y, float) / shape[0] - 0.5
    return np.stack(np.broadcast_arrays(X, Y, X * X - 1.0 / 12.0, Y * Y - 1.0 / 12.0, X * Y), axis=-1)
