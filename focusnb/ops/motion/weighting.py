"""Weigh spectra by tables over the squared frequency."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from focusnb.compiled import compiled
from focusnb.ops.backend import Array, array_namespace
from focusnb.ops.fourier import Resize

FloatArray = NDArray[np.floating[Any]]

TABLE = 16384  # entries of a table


class SquaredFrequencies:
    """The squared frequencies of a resized half spectrum, in entries of a table.

    frequency : (16384,) 1/Å of the entries
    y, x : (ny,) and (nx // 2 + 1,) float32, whose sum, cut to an integer, is the entry of a frequency
    """

    def __init__(self, plan: Resize, pixel_size: float, xp: Any) -> None:
        size = [n * pixel_size for n in plan.padded]
        y = np.fft.fftfreq(plan.resized[0], 1.0 / plan.resized[0]) / size[0]
        x = np.arange(plan.resized[1] // 2 + 1) / size[1]
        step = ((y**2).max() + (x**2).max()) / (TABLE - 2)
        self.y = xp.asarray((y**2 / step).astype(np.float32))
        self.x = xp.asarray((x**2 / step).astype(np.float32))
        # entry i holds the middle of its interval
        self.frequency: FloatArray = np.sqrt((np.arange(TABLE) + 0.5) * step)


def add_weighted(spectrum: Array, table: Array, squares: SquaredFrequencies, total: Array) -> None:
    """Add a spectrum times a table over the squared frequency to a total, both (ny, nx // 2 + 1) complex64.

    table : (16384,) float32
    """
    if isinstance(spectrum, np.ndarray):
        _add_weighted(spectrum, table, squares.y, squares.x, total)
    else:
        add_weighted_plain(spectrum, table, squares, total)


def add_weighted_plain(spectrum: Array, table: Array, squares: SquaredFrequencies, total: Array) -> None:
    """Plain twin of ``add_weighted``."""
    total += spectrum * _look_up(table, squares)


def multiply(
    spectrum: Array, factors: tuple[Array, Array], table: Array | None, squares: SquaredFrequencies | None
) -> None:
    """Multiply a spectrum in place by factors of its rows and columns and by a table over the squared frequency.

    spectrum : (ny, nx // 2 + 1) complex64; factors : (ny,), (nx // 2 + 1,) float32; table : (16384,) float32 or None
    """
    if not isinstance(spectrum, np.ndarray):
        multiply_plain(spectrum, factors, table, squares)
    elif table is None or squares is None:
        _multiply(spectrum, factors[0], factors[1])
    else:
        _multiply_weighted(spectrum, factors[0], factors[1], table, squares.y, squares.x)


def multiply_plain(
    spectrum: Array, factors: tuple[Array, Array], table: Array | None, squares: SquaredFrequencies | None
) -> None:
    """Plain twin of ``multiply``."""
    spectrum *= factors[0][:, None] * factors[1][None, :]
    if table is not None and squares is not None:
        spectrum *= _look_up(table, squares)


def _look_up(table: Array, squares: SquaredFrequencies) -> Array:
    xp = array_namespace(table)
    return table[(squares.y[:, None] + squares.x[None, :]).astype(xp.int32)]


# Inner loops are functions of one-dimensional slices: two indices with their wrap-around keep numba from vectorising.
@compiled
def _add_weighted_row(row: Array, table: Array, y: float, squares: Array, total: Array) -> None:
    for x in range(row.shape[0]):
        total[x] += row[x] * table[int(y + squares[x])]


@compiled
def _add_weighted(spectrum: Array, table: Array, y_squared: Array, x_squared: Array, total: Array) -> None:
    for y in range(spectrum.shape[0]):
        _add_weighted_row(spectrum[y], table, y_squared[y], x_squared, total[y])


@compiled
def _multiply_row(row: Array, factor: float, factors: Array) -> None:
    for x in range(row.shape[0]):
        row[x] *= factor * factors[x]


@compiled
def _multiply(spectrum: Array, factor_y: Array, factor_x: Array) -> None:
    for y in range(spectrum.shape[0]):
        _multiply_row(spectrum[y], factor_y[y], factor_x)


@compiled
def _weigh_row(row: Array, table: Array, y: float, squares: Array) -> None:
    for x in range(row.shape[0]):
        row[x] *= table[int(y + squares[x])]


@compiled
def _multiply_weighted(
    spectrum: Array, factor_y: Array, factor_x: Array, table: Array, y_squared: Array, x_squared: Array
) -> None:
    for y in range(spectrum.shape[0]):
        _multiply_row(spectrum[y], factor_y[y], factor_x)
        _weigh_row(spectrum[y], table, y_squared[y], x_squared)
