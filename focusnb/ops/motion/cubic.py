"""Local motion in RELION's words: a cubic in time, quadratic in place, which its polishing reads.

With z the number of the frame from 0, x = X / width - 0.5 and y = Y / height - 0.5, a shift along one axis is
(c0 z + c1 z² + c2 z³) + (c3..c5) x + (c6..c8) x² + (c9..c11) y + (c12..c14) y² + (c15..c17) x y, added to that of the
whole frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from focusnb.ops.motion.field import MotionField

FloatArray = NDArray[np.floating[Any]]

ORDER = (0, 2, 1, 3, 4)
"""Our functions of the place in the order x, x², y, y², xy."""


def project_on_cubic(field: MotionField) -> tuple[FloatArray, FloatArray, float]:
    """Return the whole-frame shifts and RELION's coefficients that come closest to a motion, and what is lost.

    Returns (t, 2) (dy, dx) in pixels; (36,) 18 coefficients for x and 18 for y; the root mean square over field and
    frames of what the cubic cannot describe, pixels. Raises ValueError where there is no local motion.
    """
    if field.local is None:
        raise ValueError("there is no local motion to describe")
    frames = len(field)
    time = np.arange(frames) / max(frames - 1, 1)
    powers = np.stack([time, time**2, time**3], axis=1)
    flat = field.local.reshape(frames, -1)
    order = min(3, max(frames - 1, 1))  # fewer frames tell fewer powers
    fitted = np.zeros((3, flat.shape[1]))
    fitted[:order] = np.linalg.lstsq(powers[:, :order], flat, rcond=None)[0]
    model = (powers @ fitted).reshape(field.local.shape)
    scale = float(max(frames - 1, 1)) ** -np.arange(1.0, 4.0)
    coefficients = np.zeros((2, 6, 3))
    coefficients[:, 1:] = np.moveaxis((fitted * scale[:, None]).reshape(3, 2, 5)[:, :, ORDER], 0, -1)
    # x² and y² have a mean over the field, which our functions have not
    shifts = field.shifts - (model[..., 2] + model[..., 3]) / 12.0
    lost = MotionField(np.zeros_like(field.shifts), field.shape, field.local - model).local_rms()
    return shifts, coefficients[::-1].reshape(-1), lost


def field_from_cubic(shifts: FloatArray, coefficients: FloatArray, shape: tuple[int, int]) -> MotionField:
    """Return the motion that RELION's numbers describe: the inverse of :func:`project_on_cubic`.

    shifts : (t, 2) whole-frame shifts (dy, dx) in pixels, from the frame that counts as 0
    coefficients : (36,) 18 for x and 18 for y
    shape : (ny, nx) of a frame
    """
    time = np.arange(len(shifts), dtype=float)
    powers = np.stack([time, time**2, time**3], axis=1)
    terms = np.einsum("ti,aki->tak", powers, np.asarray(coefficients, float).reshape(2, 6, 3)[::-1])
    local = np.empty((len(shifts), 2, 5))
    local[..., ORDER] = terms[..., 1:]
    # RELION's x² and y² have a mean over the field, which belongs to the whole frame here
    whole = np.asarray(shifts, float) + terms[..., 0] + (local[..., 2] + local[..., 3]) / 12.0
    return MotionField(whole, shape, local)
