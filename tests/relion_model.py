"""RELION's model of local motion, evaluated from its formula alone."""

from __future__ import annotations

import numpy as np


def relion_shift(coefficients: np.ndarray, z: float, y: float, x: float, shape: tuple[int, int]) -> np.ndarray:
    """Return the local shift (dy, dx) in pixels that RELION's coefficients give a place of frame z (from 0)."""
    X, Y = x / shape[1] - 0.5, y / shape[0] - 0.5
    places = np.array([1.0, X, X * X, Y, Y * Y, X * Y])
    along: np.ndarray = np.asarray(coefficients).reshape(2, 6, 3) @ np.array([z, z**2, z**3]) @ places
    return along[::-1]
