"""Where frames are read for the pixels of the aligned image: shifts as polynomials, and cells where they are alike."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from focusnb.ops.motion.field import MotionField

FloatArray = NDArray[np.floating[Any]]

ROWS, COLUMNS = 32, 256  # of a tile
NARROWEST = 16  # columns of a cell
ALONG = 0.4  # px a shift may change over a cell along x, where the taps follow
ACROSS = 0.1  # px it may change along y, where they do not


class Cells(NamedTuple):
    """Parts of a tile with one shift in whole pixels, whose taps follow its change along x.

    rows, columns : of a cell; they divide those of a tile
    spread : pixels by which shifts may differ within a tile
    """

    rows: int
    columns: int
    spread: int


def choose_cells(field: MotionField) -> Cells:
    """Choose the largest cells within which a shift changes by no more than the taps can follow."""
    along_y, along_x = steepest(field)
    rows, columns = ROWS, COLUMNS
    while rows > 1 and along_y * rows > ACROSS:
        rows //= 2
    while columns > NARROWEST and along_x * columns > ALONG:
        columns //= 2
    # the last tiles reach beyond the field
    beyond_y, beyond_x = steepest(field, ROWS / field.shape[0], COLUMNS / field.shape[1])
    return Cells(rows, columns, math.ceil(beyond_y * ROWS + beyond_x * COLUMNS) + 1)


def steepest(field: MotionField, beyond_y: float = 0.0, beyond_x: float = 0.0) -> tuple[float, float]:
    """Return the largest change of any shift from a pixel to the next, along y and along x.

    beyond_y, beyond_x : also so far beyond the far ends of the field, in units of its sides
    """
    if field.local is None:
        return 0.0, 0.0
    x, y, xx, yy, xy = np.moveaxis(field.local, -1, 0)
    # both are linear in the place, so they are largest at a corner
    corners = [(Y, X) for Y in (-0.5, 0.5 + beyond_y) for X in (-0.5, 0.5 + beyond_x)]
    along_y = max(float(np.abs(y + 2.0 * Y * yy + X * xy).max()) for Y, X in corners)
    along_x = max(float(np.abs(x + 2.0 * X * xx + Y * xy).max()) for Y, X in corners)
    return along_y / field.shape[0], along_x / field.shape[1]


def polynomials(field: MotionField) -> FloatArray:
    """Return the shifts as polynomials, (t, 2, 6) float64: the factors of 1, X, Y, X², Y², XY."""
    result = np.zeros((len(field), 2, 6))
    result[..., 0] = field.shifts
    if field.local is not None:
        result[..., 1:] = field.local
        result[..., 0] -= (field.local[..., 2] + field.local[..., 3]) / 12.0
    return result
